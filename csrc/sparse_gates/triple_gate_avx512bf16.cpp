// Products of pairs of channels in bfloat16, summed in float32.
#include <immintrin.h>

#include "common/vector.h"

namespace {

using Element = uint16_t;
constexpr int64_t kStep = 32;  // channels a vector

inline __m512bh values(const uint16_t* from) { return (__m512bh)_mm512_loadu_si512(from); }
inline Vector<float> accumulate(Vector<float> sum, __m512bh left, __m512bh right) {
  return (Vector<float>)_mm512_dpbf16_ps((__m512)sum, left, right);
}

}  // namespace

#define GATE_KERNELS gate_bfloat16
#include "sparse_gates/triple_gate.inl"
