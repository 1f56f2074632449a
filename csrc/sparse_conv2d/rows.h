// Where the taps of a block of output positions read. Internal linkage: each instruction set has its own copy.
#pragma once
#include <cstdint>

#include "sparse_conv2d.h"

namespace {

struct Origin {
  int64_t pixel;  // of the first tap, counted from the first image's first; may lie outside of its image
  int32_t y, x;   // its place there
};

inline void find_origins(const pliant::sparse_conv2d::Problem& p, const int32_t* positions, int64_t count, Origin* to) {
  for (int64_t i = 0; i < count; ++i) {
    int64_t x = positions[i] % p.out_width, rest = positions[i] / p.out_width;
    int64_t y = rest % p.out_height, n = rest / p.out_height;
    y = y * p.stride_y - p.padding_y, x = x * p.stride_x - p.padding_x;
    to[i] = {(n * p.height + y) * p.width + x, (int32_t)y, (int32_t)x};
  }
}

// The pixels one tap reads, a pixel of zeros where it is outside; false if all are outside.
template <class Element>
inline bool find_rows(const pliant::sparse_conv2d::Problem& p, const Origin* origins, int64_t count, int64_t tap_y,
                      int64_t tap_x, const Element* zeros, const Element** rows) {
  bool any = false;
  const uint64_t height = p.height, width = p.width;
  const int64_t shift = (tap_y * p.width + tap_x) * p.channels;
  for (int64_t i = 0; i < count; ++i) {
    const bool inside = (uint64_t(origins[i].y + tap_y) < height) & (uint64_t(origins[i].x + tap_x) < width);
    rows[i] = inside ? (const Element*)p.input + (origins[i].pixel * p.channels + shift) : zeros;
    any |= inside;
  }
  return any;
}

}  // namespace
