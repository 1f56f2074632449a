// The k largest of a stream of numbers, with a bounded buffer. Internal linkage: each instruction set has its own copy.
#pragma once
#include <cstdint>

namespace {

struct Candidates {
  float* value;
  int32_t* position;
  int64_t count;
  float threshold;  // what is not above this cannot be among the k largest
};

inline void swap_candidates(Candidates& c, int64_t i, int64_t j) {
  float v = c.value[i];
  int32_t p = c.position[i];
  c.value[i] = c.value[j], c.position[i] = c.position[j];
  c.value[j] = v, c.position[j] = p;
}

// Moves the k largest to the front (quickselect) and raises the threshold to the smallest of them.
inline void keep_largest(Candidates& c, int64_t k) {
  if (c.count < k) return;
  int64_t low = 0, high = c.count - 1;
  while (low < high) {
    float pivot = c.value[(low + high) / 2];
    int64_t i = low, j = high;
    while (i <= j) {
      while (c.value[i] > pivot) ++i;
      while (c.value[j] < pivot) --j;
      if (i <= j) swap_candidates(c, i++, j--);
    }
    if (k - 1 <= j) high = j;
    else if (k - 1 >= i) low = i;
    else break;
  }
  c.count = k;
  float least = c.value[0];
  for (int64_t i = 1; i < k; ++i) least = c.value[i] < least ? c.value[i] : least;
  c.threshold = least;
}

// Similarities in units of log2 become weights that sum to 1; fewer than k are filled up with weights of 0.
inline void weigh(Candidates& c, int64_t k) {
  float high = c.count ? c.value[0] : 0, total = 0;
  for (int64_t i = 1; i < c.count; ++i) high = c.value[i] > high ? c.value[i] : high;
  for (int64_t i = 0; i < c.count; ++i) total += c.value[i] = __builtin_exp2f(c.value[i] - high);
  for (int64_t i = 0; i < c.count; ++i) c.value[i] /= total;
  for (int64_t i = c.count; i < k; ++i) c.value[i] = 0, c.position[i] = 0;
}

}  // namespace
