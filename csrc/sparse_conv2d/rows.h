// Where the taps of a block of output positions read. Internal linkage: each instruction set has its own copy.
#pragma once
#include <cstdint>

#include "sparse_conv2d.h"

namespace {

struct Origin {
  int64_t image;  // first pixel of the image
  int64_t y, x;   // pixel of the first tap, may lie outside
};

inline void find_origins(const pliant::sparse_conv2d::Problem& p, const int32_t* positions, int64_t count, Origin* to) {
  for (int64_t i = 0; i < count; ++i) {
    int64_t x = positions[i] % p.out_width, rest = positions[i] / p.out_width;
    int64_t y = rest % p.out_height, n = rest / p.out_height;
    to[i] = {n * p.height * p.width, y * p.stride_y - p.padding_y, x * p.stride_x - p.padding_x};
  }
}

// The pixels one tap reads, a pixel of zeros where it is outside; false if all are outside.
template <class Element>
inline bool find_rows(const pliant::sparse_conv2d::Problem& p, const Origin* origins, int64_t count, int64_t tap_y,
                      int64_t tap_x, const Element* zeros, const Element** rows) {
  bool any = false;
  for (int64_t i = 0; i < count; ++i) {
    int64_t y = origins[i].y + tap_y, x = origins[i].x + tap_x;
    bool inside = y >= 0 && y < p.height && x >= 0 && x < p.width;
    rows[i] = inside ? (const Element*)p.input + (origins[i].image + y * p.width + x) * p.channels : zeros;
    any |= inside;
  }
  return any;
}

}  // namespace
