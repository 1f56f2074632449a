// Winograd's F(2 x 2, 3 x 3) in float32 (Lavin and Gray, 2016): Y = A' [(G g G') . (B' d B)] A. Written once over the
// vectors of the including file.
#include <cstring>

#include "common/matrix.h"
#include "winograd.h"

namespace pliant::sparse_conv2d {
namespace {

constexpr int64_t kWidth = lanes<float>, kStrip = strip<float>, kPlaces = 16;
constexpr int64_t kDepth = 128;  // channels a call: a strip of weights, 32 KB, stays in L1
using Floats = Vector<float>;

int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

int64_t strip_at(const Problem& p, int64_t o) {
  int64_t left = round_up(p.outputs, kWidth) - o;
  return left < kStrip ? left : kStrip;
}

int64_t packed_elements(const Problem& p) { return kPlaces * p.channels * round_up(p.outputs, kWidth); }

// [strip of outputs][place][channel][output of the strip], the strip that begins with output `begin`. Transformed in
// float64 and rounded once.
void pack(const float* weight, const Problem& p, int64_t begin, float* packed) {
  int64_t wide = strip_at(p, begin), there = p.outputs - begin < wide ? p.outputs - begin : wide;
  float* to = packed + begin * kPlaces * p.channels;
  constexpr int64_t kTogether = 8;  // channels: the filters of different outputs lie far apart
  float all[kTogether][9][kStrip] = {};
  for (int64_t c = 0; c < p.channels; ++c, to += wide) {
    for (int64_t o = 0; c % kTogether == 0 && o < there; ++o)
      for (int64_t next = 0; next < kTogether && c + next < p.channels; ++next)
        for (int64_t k = 0; k < 9; ++k) all[next][k][o] = weight[((begin + o) * p.channels + c + next) * 9 + k];
    const auto& g = all[c % kTogether];
    for (int64_t i = 0; i < 4; ++i) {
      double row[3][kStrip];  // of G g
      for (int64_t j = 0; j < 3; ++j)
        for (int64_t o = 0; o < wide; ++o) {
          double top = g[j][o], middle = g[3 + j][o], low = g[6 + j][o];
          row[j][o] = i == 0 ? top : i == 3 ? low : (top + (i == 1 ? middle : -middle) + low) / 2;
        }
      float* at = to + 4 * i * p.channels * wide;
      int64_t step = p.channels * wide;
      for (int64_t o = 0; o < wide; ++o) {
        double outer = row[0][o] + row[2][o];
        at[o] = (float)row[0][o], at[step + o] = (float)((outer + row[1][o]) / 2);
        at[2 * step + o] = (float)((outer - row[1][o]) / 2), at[3 * step + o] = (float)row[2][o];
      }
    }
  }
}

struct Scratch {
  float *pixels, *products, *zeros;  // [place][tile][channel], [place][tile][output of the strip], a pixel
  int64_t pixel_row, pixel_step, product_step;  // from tile to tile, from place to place: no multiples of 4 KB
};

Scratch divide(const Problem& p, void* memory) {
  Scratch s;
  s.pixel_row = p.channels + kWidth, s.pixel_step = kTileBlock * s.pixel_row + kWidth;
  s.product_step = kTileBlock * kStrip + kWidth;
  s.pixels = (float*)memory;
  s.products = s.pixels + kPlaces * s.pixel_step;
  s.zeros = s.products + kPlaces * s.product_step;
  return s;
}

int64_t scratch_bytes(const Problem& p) {
  return (kPlaces * (kTileBlock * (p.channels + kWidth + kStrip) + 2 * kWidth) + p.channels) * 4;
}

// B' d B of the 4 x 4 pixels of a tile, each place `step` elements after the one before.
void transform_pixels(const Problem& p, const Tile& tile, const float* zeros, float* to, int64_t step) {
  const float* from[4][4];
  for (int64_t i = 0; i < 4; ++i)
    for (int64_t j = 0; j < 4; ++j) {
      int64_t y = tile.y - p.padding_y + i, x = tile.x - p.padding_x + j;
      bool inside = y >= 0 && y < p.height && x >= 0 && x < p.width;
      from[i][j] = inside ? (const float*)p.input + ((tile.image * p.height + y) * p.width + x) * p.channels : zeros;
    }
  for (int64_t c = 0; c < p.channels; c += kWidth) {
    Floats d[4][4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      Floats top = load(from[0][j] + c), upper = load(from[1][j] + c), lower = load(from[2][j] + c);
      d[0][j] = top - lower, d[1][j] = upper + lower, d[2][j] = lower - upper, d[3][j] = upper - load(from[3][j] + c);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i, to += 4 * step) {
      store(to + c, d[i][0] - d[i][2]);
      store(to + step + c, d[i][1] + d[i][2]);
      store(to + 2 * step + c, d[i][2] - d[i][1]);
      store(to + 3 * step + c, d[i][1] - d[i][3]);
    }
    to -= 16 * step;
  }
}

// Bias, residual, ReLU; of the last outputs only those that exist are read and written.
void finish(const Problem& p, Floats value, int64_t pixel, int64_t o) {
  int64_t count = p.outputs - o < kWidth ? p.outputs - o : kWidth, at = pixel * p.outputs + o;
  const float* residual = (const float*)p.residual;
  float line[kWidth] = {};
  if (p.bias) {
    if (count == kWidth) value += load(p.bias + o);
    else memcpy(line, p.bias + o, count * 4), value += load(line);
  }
  if (residual) {
    if (count == kWidth) value += load(residual + at);
    else memcpy(line, residual + at, count * 4), value += load(line);
  }
  if (p.relu) value = value < Floats{} ? Floats{} : value;  // a NaN stays one
  if (count == kWidth) return store((float*)p.output + at, value);
  store(line, value);
  memcpy((float*)p.output + at, line, count * 4);
}

// A' m A of one tile, 16 outputs from `o` on. NaN in `sick` where a result is not finite.
void transform_products(const Problem& p, const Tile& tile, const float* m, int64_t step, int64_t o, Floats& sick) {
  Floats s[2][4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    Floats upper = load(m + (4 + j) * step), lower = load(m + (8 + j) * step);
    s[0][j] = load(m + j * step) + upper + lower, s[1][j] = upper - lower - load(m + (12 + j) * step);
  }
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    if (!(tile.wanted >> k & 1)) continue;
    const Floats* row = s[k / 2];
    Floats y = k % 2 ? row[1] - row[2] - row[3] : row[0] + row[1] + row[2];
    sick += y * 0;
    finish(p, y, (tile.image * p.out_height + tile.y + k / 2) * p.out_width + tile.x + k % 2, o);
  }
}

bool compute(const Problem& p, const Tile* tiles, int64_t count, int64_t begin, int64_t end, void* memory) {
  Scratch s = divide(p, memory);
  memset(s.zeros, 0, p.channels * 4);
  for (int64_t t = 0; t < count; ++t)
    transform_pixels(p, tiles[t], s.zeros, s.pixels + t * s.pixel_row, s.pixel_step);
  Floats sick{};
  for (int64_t o = begin; o < end; o += kStrip) {
    int64_t wide = strip_at(p, o);
    const float* weight = (const float*)p.weight + o * kPlaces * p.channels;
    for (int64_t place = 0; place < kPlaces; ++place)
      for (int64_t k = 0; k < p.channels; k += kDepth) {
        int64_t deep = p.channels - k < kDepth ? p.channels - k : kDepth;
        Product<float> product{s.pixels + place * s.pixel_step + k, s.pixel_row, 1, weight, wide, deep,
                               s.products + place * s.product_step, wide};
        if (k == 0) multiply_strip<float, true>(product, count, wide / kWidth);
        else multiply_strip<float, false>(product, count, wide / kWidth);
        weight += deep * wide;
      }
    for (int64_t t = 0; t < count; ++t)
      for (int64_t v = 0; v < wide; v += kWidth)
        transform_products(p, tiles[t], s.products + t * wide + v, s.product_step, o + v, sick);
  }
  float sum = horizontal_sum<float>(sick);
  return sum == sum;
}

}  // namespace

const TileKernels KERNELS = {kStrip, packed_elements, pack, scratch_bytes, compute};

}  // namespace pliant::sparse_conv2d
