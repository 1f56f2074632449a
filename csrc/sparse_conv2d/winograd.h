// A 3 x 3 convolution of stride 1 by Winograd's F(2 x 2, 3 x 3): tiles of 2 x 2 outputs, 16 products instead of 36.
#pragma once
#include <cstdint>

#include "sparse_conv2d.h"

namespace pliant::sparse_conv2d {

constexpr int64_t kTileRows = 6, kTileBlock = 48;  // tiles of a register tile and at most a block

struct Tile {
  int32_t image, y, x;  // of its first output
  uint8_t wanted;       // bit 2 i + j: output (y + i, x + j) is computed
};

struct TileKernels {
  int64_t column_step;  // outputs of a packed strip
  int64_t (*packed_elements)(const Problem&);
  // weight [O, C, 3, 3], contiguous: one strip, which begins with output `begin`.
  void (*pack)(const float* weight, const Problem&, int64_t begin, float* packed);
  int64_t (*scratch_bytes)(const Problem&);
  // Outputs from `begin` to `end` of `count` tiles. False: a result is not finite. Tiles mix pixels that a convolution
  // would not, so what inf and NaN make of their neighbours must then be computed anew, tap by tap.
  bool (*compute)(const Problem&, const Tile*, int64_t count, int64_t begin, int64_t end, void* scratch);
};

extern const TileKernels winograd_avx512, winograd_avx2, winograd_plain;

}  // namespace pliant::sparse_conv2d
