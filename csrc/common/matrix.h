// Products of small matrices that lie in the caches: C += A B, in tiles that fit the registers.
#pragma once

#include <cstdint>

#include "vector.h"

namespace {

// Rows of a register tile, and its columns in vectors: 24 sums on AVX-512, 12 on smaller register files.
constexpr int tile_rows = 6;
constexpr int tile_vectors = vector_bytes == 64 ? 4 : 2;

template <class T>
constexpr int strip = tile_vectors * lanes<T>;

// A: element (row, k) at a[row * row_step + k * k_step]. B: row k at b + k * b_step. C: row at c + row * c_step.
template <class T>
struct Product {
  const T* a;
  int64_t row_step, k_step;
  const T* b;
  int64_t b_step;
  int64_t depth;
  T* c;
  int64_t c_step;
};

template <class T, int Rows, int Vectors, bool Fresh>
inline void tile(const Product<T>& p, int64_t row) {
  constexpr int L = lanes<T>;
  Vector<T> sum[Rows][Vectors];
  T* c = p.c + row * p.c_step;
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) sum[r][v] = Fresh ? Vector<T>{} : load(c + r * p.c_step + v * L);
  }
  const T* a = p.a + row * p.row_step;
  const T* b = p.b;
  for (int64_t k = 0; k < p.depth; ++k) {
    Vector<T> right[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) right[v] = load(b + v * L);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const Vector<T> left = splat(a[r * p.row_step]);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[r][v] += left * right[v];
    }
    a += p.k_step;
    b += p.b_step;
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) store(c + r * p.c_step + v * L, sum[r][v]);
  }
}

template <class T, int Vectors, bool Fresh>
void strip_product(const Product<T>& p, int64_t rows) {
  int64_t row = 0;
  for (; row + tile_rows <= rows; row += tile_rows) tile<T, tile_rows, Vectors, Fresh>(p, row);
  switch (rows - row) {
    case 5: return tile<T, 5, Vectors, Fresh>(p, row);
    case 4: return tile<T, 4, Vectors, Fresh>(p, row);
    case 3: return tile<T, 3, Vectors, Fresh>(p, row);
    case 2: return tile<T, 2, Vectors, Fresh>(p, row);
    case 1: return tile<T, 1, Vectors, Fresh>(p, row);
    default: return;
  }
}

// One strip of columns, `vectors` wide (at most tile_vectors); Fresh: C = A B, else C += A B.
template <class T, bool Fresh>
void multiply_strip(const Product<T>& p, int64_t rows, int64_t vectors) {
  switch (vectors) {
    case 1: return strip_product<T, 1, Fresh>(p, rows);
    case 2: return strip_product<T, 2, Fresh>(p, rows);
#if defined(__AVX512F__)
    case 3: return strip_product<T, 3, Fresh>(p, rows);
    case 4: return strip_product<T, 4, Fresh>(p, rows);
#endif
    default: __builtin_unreachable();
  }
}

}  // namespace
