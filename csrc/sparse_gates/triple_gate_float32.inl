// Products in float32, on the vectors of the including file.
#include "common/vector.h"

namespace {

using Element = float;
constexpr int64_t kStep = lanes<float>;  // channels a vector

inline Vector<float> values(const float* from) { return load(from); }
inline Vector<float> accumulate(Vector<float> sum, Vector<float> left, Vector<float> right) {
  return sum + left * right;
}

}  // namespace

#include "sparse_gates/triple_gate.inl"
