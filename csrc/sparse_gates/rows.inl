// Included by one source file an instruction set, which defines PLIANT_KERNELS.
#include "sparse_gates/rows.h"

namespace {

void add_relu_bfloat16(const void* a, const void* b, void* out, int64_t count) {
  const auto* left = static_cast<const uint16_t*>(a);
  const auto* right = static_cast<const uint16_t*>(b);
  auto* to = static_cast<uint16_t*>(out);
  for (int64_t i = 0; i < count; ++i) {
    const float sum = to_float(BFloat16{left[i]}) + to_float(BFloat16{right[i]});
    to[i] = sum < 0 ? 0 : to_bfloat16(sum).bits;
  }
}

void add_relu_float32(const void* a, const void* b, void* out, int64_t count) {
  const auto* left = static_cast<const float*>(a);
  const auto* right = static_cast<const float*>(b);
  auto* to = static_cast<float*>(out);
  for (int64_t i = 0; i < count; ++i) {
    const float sum = left[i] + right[i];
    to[i] = sum < 0 ? 0 : sum;
  }
}

}  // namespace

namespace pliant::sparse_gates {

const Kernels PLIANT_KERNELS{add_relu_bfloat16, add_relu_float32};

}  // namespace pliant::sparse_gates
