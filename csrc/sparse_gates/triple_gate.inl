// Included by one source file an instruction set, which defines GATE_KERNELS, Element, kStep and accumulate(). Lanes lie
// along the channels, as an output has too few to fill a vector: each position keeps a vector of sums an output.
#include <cstring>

#include "common/vector.h"
#include "sparse_gates/triple_gate.h"

namespace pliant::sparse_gates {
namespace {

constexpr int64_t kLanes = lanes<float>;
constexpr int64_t kSums = vector_bytes == 64 ? 24 : 12;  // vectors of sums in registers

// What the next output row reads below: `columns` pixels from `x`, which are on the way while this row is computed.
void prefetch(const Gate& g, const Element* image, int64_t y, int64_t x, int64_t columns) {
  const int64_t end = (y + 1) * g.stride_y - g.padding_y + g.kernel_height;
  for (int64_t row = end < g.stride_y ? 0 : end - g.stride_y; row < end && row < g.height; ++row)
    for (int64_t i = x; i < x + columns && i < g.width; ++i)
      for (int64_t c = 0; c < g.channels; c += 64 / sizeof(Element))
        __builtin_prefetch(image + (row * g.width + i) * g.channels + c, 0, 2);
}

// The sums of `Rows` neighbouring positions of one output row, a vector a position and output.
template <int Rows, int Outputs>
void convolve(const Gate& g, const Element* weight, const Element* image, const Element* zeros, int64_t y, int64_t x,
              float* vectors) {
  Vector<float> sums[Rows][Outputs] = {};
  const int64_t taps = g.kernel_height * g.kernel_width, left = x * g.stride_x - g.padding_x;
  prefetch(g, image, y, x * g.stride_x, Rows * g.stride_x);
  for (int64_t ty = 0; ty < g.kernel_height; ++ty) {
    const int64_t row = y * g.stride_y - g.padding_y + ty;
    if (row < 0 || row >= g.height) continue;
    const Element* pixels = image + row * g.width * g.channels;
    for (int64_t tx = 0; tx < g.kernel_width; ++tx) {
      const Element *from[Rows], *to = weight + (ty * g.kernel_width + tx) * g.channels;
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
        const int64_t column = left + r * g.stride_x + tx;
        from[r] = column >= 0 && column < g.width ? pixels + column * g.channels : zeros;
      }
      for (int64_t c = 0; c < g.channels; c += kStep) {
#pragma GCC unroll 8
        for (int o = 0; o < Outputs; ++o) {
          const auto right = values(to + o * taps * g.channels + c);
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r) sums[r][o] = accumulate(sums[r][o], values(from[r] + c), right);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int o = 0; o < Outputs; ++o) store(vectors + (r * Outputs + o) * kLanes, sums[r][o]);
}

using Four = float __attribute__((vector_size(16)));

#if defined(__clang__)
#define PLIANT_SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
using FourIndices = int32_t __attribute__((vector_size(16)));
#define PLIANT_SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, FourIndices{i, j, k, l})
#endif

Four fold(const float* vector) {
  Four sum{};
  for (int64_t i = 0; i < kLanes; i += 4) {
    Four part;
    memcpy(&part, vector + i, sizeof part);
    sum += part;
  }
  return sum;
}

// The sums over the lanes of `count` vectors, into their own memory from its beginning on, four at a time.
void sum_lanes(float* vectors, int64_t count) {
  for (int64_t i = 0; i < count; i += 4) {
    const float* v = vectors + i * kLanes;
    const Four a = fold(v), b = fold(v + kLanes), c = fold(v + 2 * kLanes), d = fold(v + 3 * kLanes);
    const Four left = PLIANT_SHUFFLE(a, b, 0, 4, 1, 5) + PLIANT_SHUFFLE(a, b, 2, 6, 3, 7);
    const Four right = PLIANT_SHUFFLE(c, d, 0, 4, 1, 5) + PLIANT_SHUFFLE(c, d, 2, 6, 3, 7);
    const Four all = PLIANT_SHUFFLE(left, right, 0, 1, 4, 5) + PLIANT_SHUFFLE(left, right, 2, 3, 6, 7);
    memcpy(vectors + i, &all, sizeof all);
  }
}

// The largest of the three scores decides, the first of equals.
template <int Outputs>
void decide(const Gate& g, const float* scores, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i, scores += Outputs) {
    for (int64_t k = 0; k < 3; ++k) g.following[3 * i + k] = scores[Outputs - 3 + k];
    if (Outputs == 3) continue;
    const float skip = scores[0] + g.carried[3 * i] + g.bias[0];
    const float reuse = scores[1] + g.carried[3 * i + 1] + g.bias[1];
    const float compute = scores[2] + g.carried[3 * i + 2] + g.bias[2];
    g.policy[i] = (compute > skip) & (compute > reuse) ? 2 : reuse > skip;
  }
}

template <int Outputs>
void run_rows(const Gate& g, int64_t first, int64_t last, float* vectors, const Element* zeros) {
  constexpr int rows = kSums / Outputs;
  const int64_t taps = g.kernel_height * g.kernel_width;
  const auto* weight = static_cast<const Element*>(g.weight) + (6 - Outputs) * taps * g.channels;
  for (int64_t row = first; row < last; ++row) {
    const int64_t y = row % g.out_height;
    const auto* image =
        static_cast<const Element*>(g.input) + row / g.out_height * g.height * g.width * g.channels;
    int64_t x = 0;
    for (; x + rows <= g.out_width; x += rows)
      convolve<rows, Outputs>(g, weight, image, zeros, y, x, vectors + x * Outputs * kLanes);
    for (; x < g.out_width; ++x) convolve<1, Outputs>(g, weight, image, zeros, y, x, vectors + x * Outputs * kLanes);
    sum_lanes(vectors, g.out_width * Outputs);
    decide<Outputs>(g, vectors, row * g.out_width, (row + 1) * g.out_width);
  }
}

// Three vectors more than the sums, as these are added up in fours.
int64_t scratch_bytes(const Gate& g) { return (g.out_width * 6 + 3) * vector_bytes + g.channels * sizeof(Element); }

void run(const Gate& g, int64_t first, int64_t last, void* scratch) {
  auto* vectors = static_cast<float*>(scratch);
  auto* zeros = reinterpret_cast<Element*>(vectors + (g.out_width * 6 + 3) * kLanes);
  memset(zeros, 0, g.channels * sizeof(Element));
  if (g.policy) run_rows<6>(g, first, last, vectors, zeros);
  else run_rows<3>(g, first, last, vectors, zeros);
}

}  // namespace

const GateKernels GATE_KERNELS{scratch_bytes, run};

}  // namespace pliant::sparse_gates
