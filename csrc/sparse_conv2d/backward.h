// Gradients of the sparse convolution: only computed positions are visited, and no two tasks add to one number.
#pragma once

#include <cstdint>

namespace pliant::sparse_conv2d_backward {

// All float32 and dense, channels last; channels a multiple of 16.
struct Problem {
  const float* gradient;  // [computed positions, outputs]
  const int32_t* place;   // [N, out_height, out_width]: the row of gradient, -1 where nothing was computed
  const float* input;     // [N, height, width, channels]
  const float* weight;    // [taps, outputs, channels]
  float* d_input;         // as input
  float* d_weight;        // as weight, zeros
  float* d_bias;          // [outputs], zeros
  int64_t samples, height, width, channels, outputs, out_height, out_width;
  int64_t kernel_height, kernel_width, stride_y, stride_x, padding_y, padding_x;
};

constexpr int64_t kOutputs = 96;  // of d_weight a task

struct Kernels {
  void (*input_row)(const Problem&, int64_t sample, int64_t row);  // one row of d_input, written whole
  int64_t (*weight_scratch)(const Problem&);                                       // bytes
  void (*weight_block)(const Problem&, int64_t tap, int64_t first, int64_t last, void* scratch);  // outputs of a tap
};

extern const Kernels plain, avx2, avx512;

}  // namespace pliant::sparse_conv2d_backward
