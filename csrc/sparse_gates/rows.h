// What surrounds gated convolutions, compiled once an instruction set: out = max(a + b, 0), element by element.
#pragma once
#include <cstdint>

#include "common/bfloat16.h"

namespace pliant::sparse_gates {

struct Kernels {
  void (*add_relu_bfloat16)(const void* a, const void* b, void* out, int64_t count);
  void (*add_relu_float32)(const void* a, const void* b, void* out, int64_t count);
};

extern const Kernels plain, avx2, avx512;

}  // namespace pliant::sparse_gates
