// Vectors of the widest kind that this translation unit is compiled for, by the compiler's own vector types: arithmetic
// is written with operators, and one source serves every instruction set. Internal linkage throughout.
#pragma once

#include <cstdint>

namespace {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif

template <class T>
struct VectorType {
  typedef T type __attribute__((vector_size(vector_bytes)));
};
template <class T>
using Vector = typename VectorType<T>::type;

template <class T>
constexpr int lanes = vector_bytes / static_cast<int>(sizeof(T));

template <class T>
inline Vector<T> load(const T* from) {
  Vector<T> value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}

template <class T>
inline void store(T* to, Vector<T> value) {
  __builtin_memcpy(to, &value, sizeof value);
}

template <class T>
inline Vector<T> splat(T value) {
  return value - Vector<T>{};
}

// The sum of all lanes, always in the same order.
template <class T>
inline T horizontal_sum(Vector<T> value) {
  T all[lanes<T>];
  __builtin_memcpy(all, &value, sizeof value);
#pragma GCC unroll 8
  for (int half = lanes<T> / 2; half > 0; half /= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < half; ++i) all[i] += all[i + half];
  }
  return all[0];
}

}  // namespace
