// The k largest of a stream of numbers, with a bounded buffer. Internal linkage: each instruction set has its own copy.
#pragma once
#include <cstdint>
#include <cstring>

namespace {

struct Candidates {
  float* value;
  int32_t* position;
  int64_t count;
  float threshold;  // what is not above this cannot be among the k largest
};

// Whole numbers in the order of the floats; not a number, of either sign, lies beyond infinity.
inline int32_t ordered(float x) {
  int32_t bits;
  memcpy(&bits, &x, 4);
  bits ^= (bits >> 31) & 0x7fffffff;
  return x != x ? INT32_MAX : bits;
}

// Moves the k largest to the front and raises the threshold to the smallest of them. The bound between them and the
// others is found by halving: counting what lies above it has no branch to guess, as a sort has at each comparison.
inline void keep_largest(Candidates& c, int64_t k) {
  if (c.count < k) return;
  int32_t smallest = INT32_MAX, largest = INT32_MIN;
  for (int64_t i = 0; i < c.count; ++i) {
    int32_t x = ordered(c.value[i]);
    smallest = x < smallest ? x : smallest, largest = x > largest ? x : largest;
  }
  // At least k lie above `low`; `above`, fewer than k, above `high`.
  int64_t low = int64_t(smallest) - 1, high = largest, above = 0;
  while (high - low > 1) {
    int32_t middle = int32_t(low + (high - low) / 2), count = 0;
    for (int64_t i = 0; i < c.count; ++i) count += ordered(c.value[i]) > middle;
    if (count == k) {
      high = middle, above = k;
      break;
    }
    if (count > k) low = middle;
    else high = middle, above = count;
  }
  int64_t kept = 0, equal = k - above;  // of what equals `high` as many as are missing
  for (int64_t i = 0; i < c.count; ++i) {
    int32_t x = ordered(c.value[i]);
    bool take = x > high || (x == high && equal > 0);
    equal -= take && x == high;
    c.value[kept] = c.value[i], c.position[kept] = c.position[i];
    kept += take;
  }
  c.count = k;
  c.threshold = __builtin_inff();
  for (int64_t i = 0; i < k; ++i) c.threshold = c.value[i] < c.threshold ? c.value[i] : c.threshold;
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
