// Triple gates: a convolution of few outputs, and what its scores decide; compiled once an instruction set.
#pragma once
#include <cstdint>

namespace pliant::sparse_gates {

constexpr int64_t kGateChannels = 32;  // channels must be a multiple: no kernel reads beyond a pixel's last one

// Channels-last tensors. Outputs of the gate: skip, reuse, compute of the current input, then the same of the previous.
struct Gate {
  const void *input, *weight;  // weight [6][tap][channels], of input's type
  const float *carried, *bias;  // [position][3]: what the previous input said; [3]
  uint8_t* policy;              // [position], or null: only what the input will say as previous one is wanted
  float* following;             // [position][3]
  int64_t height, width, channels, out_height, out_width;
  int64_t kernel_height, kernel_width, stride_y, stride_x, padding_y, padding_x;
};

struct GateKernels {
  int64_t (*scratch_bytes)(const Gate&);
  void (*run)(const Gate&, int64_t first, int64_t last, void* scratch);  // rows of the output, of all images
};

extern const GateKernels gate_plain, gate_avx2, gate_avx512, gate_bfloat16;

}  // namespace pliant::sparse_gates
