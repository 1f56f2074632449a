// Products of tiles: 16 x 16 sums of float32, 32 products of bfloat16 deep. By AMX in files named *_amx.cpp, by vectors in
// files named *_avx512bf16.cpp, from the same operands. Internal linkage.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace {

using bf16 = uint16_t;

constexpr int64_t kTile = 16, kDepth = 32, kTileElements = kTile * kDepth;

inline float to_float(bf16 x) {
  uint32_t bits = uint32_t(x) << 16;
  float y;
  memcpy(&y, &bits, 4);
  return y;
}

// multiply: c (16 * rows x 32) = or += a x b over `depth` tiles. Tiles along the depth lie one after the other; a_row,
// b_column, c_row, c_column are the steps from one tile to the next, c_stride that of a row within a tile of c, in
// elements.
#if defined(__AMX_BF16__)
alignas(64) constexpr struct {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t columns[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
} kTiles;

// A thread asks for the tiles at the start of a task, and gives them back at its end.
inline void start_tiles() { _tile_loadconfig(&kTiles); }
inline void stop_tiles() { _tile_release(); }

// Not inlined, with barriers: the compiler does not know that tile loads read memory, and would sink stores below them.
template <int rows>
__attribute__((noinline)) void multiply(const bf16* a, int64_t a_row, const bf16* b, int64_t b_column, int64_t depth,
                                        float* c, int64_t c_row, int64_t c_column, int64_t c_stride, bool add) {
  asm volatile("" ::: "memory");
  float *c10 = c + c_row, *c01 = c + c_column, *c11 = c10 + c_column;
  int64_t bytes = c_stride * 4;
  if (add) {
    _tile_loadd(0, c, bytes);
    _tile_loadd(1, c01, bytes);
    if (rows == 2) {
      _tile_loadd(2, c10, bytes);
      _tile_loadd(3, c11, bytes);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t k = 0; k < depth; ++k, a += kTileElements, b += kTileElements) {
    _tile_loadd(4, a, 64);
    _tile_loadd(6, b, 64);
    _tile_loadd(7, b + b_column, 64);
    if (rows == 2) _tile_loadd(5, a + a_row, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if (rows == 2) {
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, c, bytes);
  _tile_stored(1, c01, bytes);
  if (rows == 2) {
    _tile_stored(2, c10, bytes);
    _tile_stored(3, c11, bytes);
  }
  asm volatile("" ::: "memory");
}
#else
inline void start_tiles() {}
inline void stop_tiles() {}

// Eight rows of a tile of a, two tiles of b: 16 sums in registers.
inline void multiply_eight(const bf16* a, const bf16* b, int64_t b_column, int64_t depth, float* c, int64_t c_column,
                           int64_t c_stride, bool add) {
  __m512 sum[8][2];
#pragma GCC unroll 8
  for (int r = 0; r < 8; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) sum[r][v] = add ? _mm512_loadu_ps(c + r * c_stride + v * c_column) : _mm512_setzero_ps();
  for (int64_t k = 0; k < depth; ++k, a += kTileElements)
    for (int64_t pair = 0; pair < kTile; ++pair, b += kDepth) {
      __m512bh right0 = (__m512bh)_mm512_loadu_si512(b), right1 = (__m512bh)_mm512_loadu_si512(b + b_column);
#pragma GCC unroll 8
      for (int r = 0; r < 8; ++r) {
        int32_t both;
        memcpy(&both, a + r * kDepth + 2 * pair, 4);
        __m512bh left = (__m512bh)_mm512_set1_epi32(both);
        sum[r][0] = _mm512_dpbf16_ps(sum[r][0], left, right0);
        sum[r][1] = _mm512_dpbf16_ps(sum[r][1], left, right1);
      }
    }
#pragma GCC unroll 8
  for (int r = 0; r < 8; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) _mm512_storeu_ps(c + r * c_stride + v * c_column, sum[r][v]);
}

template <int rows>
void multiply(const bf16* a, int64_t a_row, const bf16* b, int64_t b_column, int64_t depth, float* c, int64_t c_row,
              int64_t c_column, int64_t c_stride, bool add) {
  for (int64_t r = 0; r < rows * kTile; r += 8) {
    int64_t tile = r / kTile, inner = r % kTile;
    multiply_eight(a + tile * a_row + inner * kDepth, b, b_column, depth, c + tile * c_row + inner * c_stride, c_column,
                   c_stride, add);
  }
}
#endif

// A 16 x 16 matrix of 32-bit numbers.
inline void transpose(__m512i r[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

// One tile of the right operand: 16 pairs along the depth x 16 columns, zero where there is nothing.
inline void pack_tile(const bf16* from, int64_t depth_stride, int64_t column_stride, int64_t depth, int64_t columns,
               bf16* to) {
  if (depth_stride == 1 && depth >= kDepth) {
    __m512i r[16];
    for (int64_t i = 0; i < kTile; ++i)
      r[i] = i < columns ? _mm512_loadu_si512(from + i * column_stride) : _mm512_setzero_si512();
    transpose(r);
    for (int64_t i = 0; i < kTile; ++i) _mm512_storeu_si512(to + i * kDepth, r[i]);
  } else if (column_stride == 1 && columns >= kTile) {
    for (int64_t i = 0; i < kTile; ++i) {
      __m256i zero = _mm256_setzero_si256();
      const bf16* at = from + 2 * i * depth_stride;
      __m256i even = 2 * i < depth ? _mm256_loadu_si256((const __m256i*)at) : zero;
      __m256i odd = 2 * i + 1 < depth ? _mm256_loadu_si256((const __m256i*)(at + depth_stride)) : zero;
      __m512i both = _mm512_or_si512(_mm512_cvtepu16_epi32(even), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
      _mm512_storeu_si512(to + i * kDepth, both);
    }
  } else {
    for (int64_t i = 0; i < kTile; ++i)
      for (int64_t j = 0; j < kTile; ++j)
        for (int64_t h = 0; h < 2; ++h) {
          int64_t d = 2 * i + h;
          to[i * kDepth + 2 * j + h] = d < depth && j < columns ? from[d * depth_stride + j * column_stride] : 0;
        }
  }
}

// At most 16 numbers, rounded.
inline void store(bf16* to, __m512 x, int64_t count) {
  __mmask16 mask = count >= 16 ? 0xffff : (1u << count) - 1;
  _mm256_mask_storeu_epi16(to, mask, (__m256i)_mm512_cvtneps_pbh(x));
}

}  // namespace
