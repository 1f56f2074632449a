// A convolution at listed output positions alone: rows of input pixels times packed weights, tap by tap.
#pragma once
#include <cstdint>

namespace pliant::sparse_conv2d {

// Tensors are channels-last and dense: pixel after pixel, channels fastest.
struct Problem {
  const void *input, *weight, *residual;  // weight packed by the same kernels; residual or null
  const float* bias;                      // or null
  void* output;
  int64_t height, width, channels, out_height, out_width, outputs;
  int64_t kernel_height, kernel_width, stride_y, stride_x, padding_y, padding_x;
  bool relu;
};

struct Kernels {
  int64_t row_step, row_block, column_step;  // positions of a register tile and a block, columns (outputs) of a packed strip
  int64_t (*packed_elements)(const Problem&);
  void (*pack)(const void* weight, const Problem&, void* packed);  // weight [O, C, kh, kw], contiguous
  int64_t (*scratch_bytes)(const Problem&);
  // positions: places in [N, Ho, Wo], `count` at most row_block; outputs from `begin` to `end`, in columns.
  void (*compute)(const Problem&, const int32_t* positions, int64_t count, int64_t begin, int64_t end, void* scratch);
};

extern const Kernels bfloat16_amx, bfloat16_avx512, float32_avx512, float32_avx2, float32_plain;

}  // namespace pliant::sparse_conv2d
