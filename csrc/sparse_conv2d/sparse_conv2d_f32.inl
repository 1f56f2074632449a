// float32, written once over the vectors of the including file: no panel, a register tile reads six pixels at a time.
#include <cstring>

#include "common/vector.h"
#include "rows.h"
#include "sparse_conv2d.h"

namespace pliant::sparse_conv2d {
namespace {

constexpr int64_t kWidth = lanes<float>, kRows = 6, kVectors = kWidth == 16 ? 4 : 2, kStrip = kWidth * kVectors;
constexpr int64_t kRowBlock = 192, kDepth = 128;  // channels a call: a strip of weights, 32 KB, stays in L1

int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// c (6 x Vectors) = start or c, + rows (6 pixels, depth channels from `channel`) x b (depth x Vectors, packed).
template <int Vectors>
void multiply(const float* const* rows, int64_t channel, const float* b, int64_t depth, const float* start, float* c,
              int64_t c_row) {
  const float* from[kRows];
  Vector<float> sum[kRows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) from[r] = rows[r] + channel;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) sum[r][v] = load((start ? start : c + r * c_row) + v * kWidth);
  for (int64_t k = 0; k < depth; ++k, b += Vectors * kWidth) {
    Vector<float> right[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) right[v] = load(b + v * kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      Vector<float> left = splat(from[r][k]);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[r][v] += left * right[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) store(c + r * c_row + v * kWidth, sum[r][v]);
}

void multiply_strip(int64_t wide, const float* const* rows, int64_t channel, const float* b, int64_t depth,
                    const float* start, float* c, int64_t c_row) {
  switch (wide / kWidth) {
    case 1: return multiply<1>(rows, channel, b, depth, start, c, c_row);
    case 2: return multiply<2>(rows, channel, b, depth, start, c, c_row);
#if defined(__AVX512F__)
    case 3: return multiply<3>(rows, channel, b, depth, start, c, c_row);
    case 4: return multiply<4>(rows, channel, b, depth, start, c, c_row);
#endif
    default: __builtin_unreachable();
  }
}

// Six pixels that the next call reads: they are scattered, so that the processor finds no pattern.
void prefetch(const float* const* rows, int64_t channel, int64_t depth) {
  for (int64_t r = 0; r < kRows; ++r)
    for (int64_t k = 0; k < depth; k += 16) __builtin_prefetch(rows[r] + channel + k);
}

int64_t packed_elements(const Problem& p) {
  return p.kernel_height * p.kernel_width * p.channels * round_up(p.outputs, kWidth);
}

int64_t strip_at(int64_t o, int64_t end) { return end - o < kStrip ? end - o : kStrip; }

// [tap][part of the channels][strip of outputs][channels of the part][outputs of the strip]
void pack(const void* weight, const Problem& p, void* packed) {
  const float* from = (const float*)weight;
  float* to = (float*)packed;
  int64_t taps = p.kernel_height * p.kernel_width, padded = round_up(p.outputs, kWidth);
  for (int64_t tap = 0; tap < taps; ++tap)
    for (int64_t c0 = 0; c0 < p.channels; c0 += kDepth)
      for (int64_t s = 0; s < padded; s += kStrip)
        for (int64_t c = c0; c < c0 + kDepth && c < p.channels; ++c)
          for (int64_t o = s; o < s + strip_at(s, padded); ++o)
            *to++ = o < p.outputs ? from[(o * p.channels + c) * taps + tap] : 0;
}

struct Scratch {
  float *sums, *start, *zeros;
  const float** rows;
  Origin* origins;
};

int64_t scratch_bytes(const Problem& p) {
  return ((kRowBlock + 1) * round_up(p.outputs, kStrip) + round_up(p.channels, 2)) * 4 +
         kRowBlock * (8 + sizeof(Origin));
}

Scratch divide(const Problem& p, void* memory) {
  Scratch s;
  s.sums = (float*)memory;
  s.start = s.sums + kRowBlock * round_up(p.outputs, kStrip);
  s.zeros = s.start + round_up(p.outputs, kStrip);
  s.rows = (const float**)(s.zeros + round_up(p.channels, 2));
  s.origins = (Origin*)(s.rows + kRowBlock);
  return s;
}

void write(const Problem& p, const float* sums, int64_t begin, int64_t end, int64_t position) {
  float* out = (float*)p.output + position * p.outputs;
  const float* residual = p.residual ? (const float*)p.residual + position * p.outputs : nullptr;
  if (end > p.outputs) end = p.outputs;
  if (residual)
    for (int64_t o = begin; o < end; ++o) out[o] = sums[o - begin] + residual[o];
  else
    memcpy(out + begin, sums, (end - begin) * 4);
  if (p.relu)
    for (int64_t o = begin; o < end; ++o) out[o] = out[o] < 0 ? 0 : out[o];  // a NaN stays one
}

void compute(const Problem& p, const int32_t* positions, int64_t count, int64_t begin, int64_t end, void* scratch) {
  Scratch s = divide(p, scratch);
  int64_t all = round_up(p.outputs, kWidth);
  if (end > all) end = all;
  int64_t columns = end - begin, padded = round_up(count, kRows);
  memset(s.zeros, 0, p.channels * 4);
  for (int64_t o = 0; o < columns; ++o) s.start[o] = p.bias && begin + o < p.outputs ? p.bias[begin + o] : 0;
  find_origins(p, positions, count, s.origins);
  for (int64_t i = count; i < padded; ++i) s.rows[i] = s.zeros;
  const float* weight = (const float*)p.weight;
  bool fresh = true;
  for (int64_t ty = 0; ty < p.kernel_height; ++ty)
    for (int64_t tx = 0; tx < p.kernel_width; ++tx) {
      bool any = find_rows(p, s.origins, count, ty, tx, (const float*)s.zeros, s.rows);
      for (int64_t c = 0; c < p.channels; c += kDepth) {
        int64_t depth = p.channels - c < kDepth ? p.channels - c : kDepth;
        if (any || fresh)
          for (int64_t o = begin; o < end; o += kStrip)
            for (int64_t i = 0; i < padded; i += kRows) {
              if (o == begin && i + kRows < padded) prefetch(s.rows + i + kRows, c, depth);
              multiply_strip(strip_at(o, all), s.rows + i, c, weight + o * depth, depth,
                             fresh ? s.start + o - begin : nullptr, s.sums + i * columns + o - begin, columns);
            }
        fresh = false;
        weight += depth * all;
      }
    }
  for (int64_t i = 0; i < count; ++i) write(p, s.sums + i * columns, begin, end, positions[i]);
}

}  // namespace

const Kernels KERNELS = {kRows, kRowBlock, kStrip, packed_elements, pack, scratch_bytes, compute};

}  // namespace pliant::sparse_conv2d
