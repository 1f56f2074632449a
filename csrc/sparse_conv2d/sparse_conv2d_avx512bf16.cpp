// bfloat16 on AVX512_BF16 (products of pairs of channels): as in float32, a register tile reads six pixels at a time.
#include <immintrin.h>

#include <cstring>

#include "rows.h"
#include "sparse_conv2d.h"

namespace pliant::sparse_conv2d {
namespace {

using bf16 = uint16_t;

constexpr int64_t kRows = 6, kWidth = 16, kStrip = 4 * kWidth;
constexpr int64_t kRowBlock = 192, kPart = 128;  // channels a call: a strip of weights, 16 KB, stays in L1

int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// c (6 x Vectors) = start or c, + rows (6 pixels, `depth` channels from `channel`) x b (pairs of channels, packed).
template <int Vectors>
void multiply(const bf16* const* rows, int64_t channel, const bf16* b, int64_t depth, const float* start, float* c,
              int64_t c_row) {
  const bf16* from[kRows];
  __m512 sum[kRows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) from[r] = rows[r] + channel;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) sum[r][v] = _mm512_loadu_ps((start ? start : c + r * c_row) + v * kWidth);
  auto add = [&](const int32_t (&left)[kRows]) __attribute__((always_inline)) {
    __m512bh right[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) right[v] = (__m512bh)_mm512_loadu_si512(b + 2 * v * kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      __m512bh pair = (__m512bh)_mm512_set1_epi32(left[r]);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], pair, right[v]);
    }
    b += 2 * Vectors * kWidth;
  };
  int32_t left[kRows];
  for (int64_t k = 0; k + 2 <= depth; k += 2) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) memcpy(&left[r], from[r] + k, 4);
    add(left);
  }
  if (depth % 2) {  // what lies behind the last channel is another pixel's, or nobody's
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) left[r] = from[r][depth - 1];
    add(left);
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) _mm512_storeu_ps(c + r * c_row + v * kWidth, sum[r][v]);
}

void multiply_strip(int64_t wide, const bf16* const* rows, int64_t channel, const bf16* b, int64_t depth,
                    const float* start, float* c, int64_t c_row) {
  switch (wide / kWidth) {
    case 1: return multiply<1>(rows, channel, b, depth, start, c, c_row);
    case 2: return multiply<2>(rows, channel, b, depth, start, c, c_row);
    case 3: return multiply<3>(rows, channel, b, depth, start, c, c_row);
    default: return multiply<4>(rows, channel, b, depth, start, c, c_row);
  }
}

// Six pixels that the next call reads: they are scattered, so that the processor finds no pattern.
void prefetch(const bf16* const* rows, int64_t channel, int64_t depth) {
  for (int64_t r = 0; r < kRows; ++r)
    for (int64_t k = 0; k < depth; k += 32) __builtin_prefetch(rows[r] + channel + k);
}

int64_t packed_elements(const Problem& p) {
  int64_t full = p.channels / kPart * kPart;
  return p.kernel_height * p.kernel_width * (full + round_up(p.channels - full, 2)) * round_up(p.outputs, kWidth);
}

int64_t strip_at(int64_t o, int64_t end) { return end - o < kStrip ? end - o : kStrip; }

// [tap][part of the channels][strip of outputs][pair of channels][output of the strip][channel of the pair]
void pack(const void* weight, const Problem& p, void* packed) {
  const bf16* from = (const bf16*)weight;
  bf16* to = (bf16*)packed;
  int64_t taps = p.kernel_height * p.kernel_width, padded = round_up(p.outputs, kWidth);
  for (int64_t tap = 0; tap < taps; ++tap)
    for (int64_t c0 = 0; c0 < p.channels; c0 += kPart)
      for (int64_t s = 0; s < padded; s += kStrip)
        for (int64_t c = c0; c < c0 + kPart && c < p.channels; c += 2)
          for (int64_t o = s; o < s + strip_at(s, padded); ++o)
            for (int64_t h = c; h < c + 2; ++h)
              *to++ = o < p.outputs && h < p.channels ? from[(o * p.channels + h) * taps + tap] : 0;
}

struct Scratch {
  float *sums, *start;
  bf16* zeros;
  const bf16** rows;
  Origin* origins;
};

int64_t scratch_bytes(const Problem& p) {
  return (kRowBlock + 1) * round_up(p.outputs, kStrip) * 4 + round_up(p.channels, 4) * 2 +
         kRowBlock * (8 + sizeof(Origin));
}

Scratch divide(const Problem& p, void* memory) {
  Scratch s;
  s.sums = (float*)memory;
  s.start = s.sums + kRowBlock * round_up(p.outputs, kStrip);
  s.zeros = (bf16*)(s.start + round_up(p.outputs, kStrip));
  s.rows = (const bf16**)(s.zeros + round_up(p.channels, 4));
  s.origins = (Origin*)(s.rows + kRowBlock);
  return s;
}

// 16 outputs of a position: residual, activation, rounding.
void write(const Problem& p, __m512 sum, int64_t position, int64_t output) {
  int64_t count = p.outputs - output, at = position * p.outputs + output;
  __mmask16 there = count >= kWidth ? 0xffff : (1u << count) - 1;
  if (p.residual) {
    __m256i low = _mm256_maskz_loadu_epi16(there, (const bf16*)p.residual + at);
    sum = _mm512_add_ps(sum, (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(low), 16));
  }
  if (p.relu) sum = _mm512_max_ps(_mm512_setzero_ps(), sum);  // in this order a NaN stays one
  _mm256_mask_storeu_epi16((bf16*)p.output + at, there, (__m256i)_mm512_cvtneps_pbh(sum));
}

void compute(const Problem& p, const int32_t* positions, int64_t count, int64_t begin, int64_t end, void* scratch) {
  Scratch s = divide(p, scratch);
  int64_t all = round_up(p.outputs, kWidth);
  if (end > all) end = all;
  int64_t columns = end - begin, padded = round_up(count, kRows);
  memset(s.zeros, 0, p.channels * 2);
  for (int64_t o = 0; o < columns; ++o) s.start[o] = p.bias && begin + o < p.outputs ? p.bias[begin + o] : 0;
  find_origins(p, positions, count, s.origins);
  for (int64_t i = count; i < padded; ++i) s.rows[i] = s.zeros;
  const bf16* weight = (const bf16*)p.weight;
  bool fresh = true;
  for (int64_t ty = 0; ty < p.kernel_height; ++ty)
    for (int64_t tx = 0; tx < p.kernel_width; ++tx) {
      bool any = find_rows(p, s.origins, count, ty, tx, (const bf16*)s.zeros, s.rows);
      for (int64_t c = 0; c < p.channels; c += kPart) {
        int64_t depth = p.channels - c < kPart ? p.channels - c : kPart, even = round_up(depth, 2);
        if (any || fresh)
          for (int64_t o = begin; o < end; o += kStrip)
            for (int64_t i = 0; i < padded; i += kRows) {
              if (o == begin && i + kRows < padded) prefetch(s.rows + i + kRows, c, depth);
              multiply_strip(strip_at(o, all), s.rows + i, c, weight + o * even, depth,
                             fresh ? s.start + o - begin : nullptr, s.sums + i * columns + o - begin, columns);
            }
        fresh = false;
        weight += even * all;
      }
    }
  for (int64_t i = 0; i < count; ++i)
    for (int64_t o = 0; o < columns && begin + o < p.outputs; o += kWidth)
      write(p, _mm512_loadu_ps(s.sums + i * columns + o), positions[i], begin + o);
}

}  // namespace

const Kernels bfloat16_avx512 = {kRows, kRowBlock, kStrip, packed_elements, pack, scratch_bytes, compute};

}  // namespace pliant::sparse_conv2d
