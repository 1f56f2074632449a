// Weighted sums of values at fractional points of a volume, and their gradients.
#pragma once
#include <cstdint>

namespace pliant::deform_attention3d {

// One batch entry; all tensors dense, float32. `width` is a multiple of 16.
struct Problem {
  const float *value;      // [heads, cells, width]
  const float *locations;  // [queries, heads, points, 3], (t, y, x) in units of the extent
  const float *weights;    // [queries, heads, points]
  float *out;              // [queries, heads, width]
  int64_t extent[3];       // (t, y, x)
  int64_t heads, cells, width, queries, points;

  const float *gradient;  // [queries, heads, width]
  float *d_value;         // [heads, cells, width], zeros at the start
  float *d_locations, *d_weights;
};

struct Kernels {
  int64_t (*scratch_bytes)(const Problem&);
  void (*forward)(const Problem&, int64_t head, int64_t begin, int64_t end, void* scratch);  // queries begin ... end
  void (*backward)(const Problem&, int64_t head, void* scratch);
};

extern const Kernels avx512, avx2, plain;

}  // namespace pliant::deform_attention3d
