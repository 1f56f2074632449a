// bfloat16 on AMX: pixels are copied into a panel of tiles, tap by tap.
#include "common/bf16_tiles.h"
#include "rows.h"
#include "sparse_conv2d.h"

namespace pliant::sparse_conv2d {
namespace {

constexpr int64_t kRowBlock = 256, kPart = 256;  // channels a call: two columns of weight tiles, 16 KB, stay in L1
constexpr int64_t kColumns = 2 * kTile;

int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

int64_t packed_elements(const Problem& p) {
  return p.kernel_height * p.kernel_width * round_up(p.channels, kDepth) * round_up(p.outputs, kColumns);
}

// [tap][part of the channels][tile of outputs][depth tile]
void pack(const void* weight, const Problem& p, void* packed) {
  const bf16* from = (const bf16*)weight;
  bf16* to = (bf16*)packed;
  int64_t taps = p.kernel_height * p.kernel_width;
  for (int64_t tap = 0; tap < taps; ++tap)
    for (int64_t c = 0; c < p.channels; c += kPart)
      for (int64_t o = 0; o < round_up(p.outputs, kColumns); o += kTile)
        for (int64_t d = c; d < c + kPart && d < p.channels; d += kDepth, to += kTileElements)
          pack_tile(from + (o * p.channels + d) * taps + tap, taps, p.channels * taps, p.channels - d, p.outputs - o, to);
}

struct Scratch {
  float* sums;   // [row tile][output tile][16][16]
  bf16* panel;   // [row tile][depth tile][16][32]
  bf16* zeros;
  const bf16** rows;
  Origin* origins;
};

int64_t scratch_bytes(const Problem& p) {
  int64_t panel = kRowBlock * (p.channels < kPart ? round_up(p.channels, kDepth) : kPart);
  return kRowBlock * round_up(p.outputs, kColumns) * 4 + panel * 2 + round_up(p.channels, 32) * 2 +
         kRowBlock * (8 + sizeof(Origin));
}

Scratch divide(const Problem& p, void* memory) {
  Scratch s;
  s.sums = (float*)memory;
  s.panel = (bf16*)(s.sums + kRowBlock * round_up(p.outputs, kColumns));
  s.zeros = s.panel + kRowBlock * (p.channels < kPart ? round_up(p.channels, kDepth) : kPart);
  s.rows = (const bf16**)(s.zeros + round_up(p.channels, 32));
  s.origins = (Origin*)(s.rows + kRowBlock);
  return s;
}

// Channels c ... c + depth of the pixels, as tiles.
void fill_panel(const bf16* const* rows, int64_t padded, int64_t c, int64_t depth, bf16* panel) {
  int64_t tiles = (depth + kDepth - 1) / kDepth;
  for (int64_t i = 0; i < padded; ++i) {
    const bf16 *from = rows[i] + c, *ahead = rows[i + 8 < padded ? i + 8 : i] + c;  // scattered: no pattern to guess
    for (int64_t d = 0; d < depth; d += kDepth) _mm_prefetch((const char*)(ahead + d), _MM_HINT_T0);
    bf16* to = panel + (i / kTile * tiles * kTile + i % kTile) * kDepth;
    int64_t d = 0;
    for (; d + kDepth <= depth; d += kDepth, to += kTileElements) _mm512_store_si512(to, _mm512_loadu_si512(from + d));
    if (d < depth) _mm512_store_si512(to, _mm512_maskz_loadu_epi16((1u << (depth - d)) - 1, from + d));
  }
}

// One row of 16 outputs: bias, residual, activation, rounding.
void write(const Problem& p, __m512 sum, int64_t position, int64_t output) {
  int64_t count = p.outputs - output;
  __mmask16 there = count >= 16 ? 0xffff : (1u << count) - 1;
  if (p.bias) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(there, p.bias + output));
  int64_t at = position * p.outputs + output;
  if (p.residual) {
    __m256i low = _mm256_maskz_loadu_epi16(there, (const bf16*)p.residual + at);
    sum = _mm512_add_ps(sum, (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(low), 16));
  }
  if (p.relu) sum = _mm512_max_ps(_mm512_setzero_ps(), sum);  // in this order a NaN stays one
  store((bf16*)p.output + at, sum, count);
}

void compute(const Problem& p, const int32_t* positions, int64_t count, int64_t begin, int64_t end, void* scratch) {
  Scratch s = divide(p, scratch);
  int64_t columns = (end - begin) / kTile, padded = round_up(count, kTile);
  memset(s.zeros, 0, round_up(p.channels, 32) * 2);
  find_origins(p, positions, count, s.origins);
  for (int64_t i = count; i < padded; ++i) s.rows[i] = s.zeros;
  memset(s.sums, 0, padded * columns * kTile * 4);
  start_tiles();
  const bf16* weight = (const bf16*)p.weight;
  int64_t output_tiles = round_up(p.outputs, kColumns) / kTile;
  for (int64_t ty = 0; ty < p.kernel_height; ++ty)
    for (int64_t tx = 0; tx < p.kernel_width; ++tx) {
      bool any = find_rows(p, s.origins, count, ty, tx, (const bf16*)s.zeros, s.rows);
      for (int64_t c = 0; c < p.channels; c += kPart) {
        int64_t depth = p.channels - c < kPart ? p.channels - c : kPart, tiles = (depth + kDepth - 1) / kDepth;
        if (any) fill_panel(s.rows, padded, c, depth, s.panel);
        for (int64_t o = 0; any && o < columns; o += 2)
          for (int64_t t = 0; t < padded / kTile; t += 2) {
            auto kernel = padded / kTile - t >= 2 ? multiply<2> : multiply<1>;
            kernel(s.panel + t * tiles * kTileElements, tiles * kTileElements,
                   weight + (begin / kTile + o) * tiles * kTileElements, tiles * kTileElements, tiles,
                   s.sums + (t * columns + o) * 256, columns * 256, 256, kTile, true);
          }
        weight += output_tiles * tiles * kTileElements;
      }
    }
  stop_tiles();
  for (int64_t i = 0; i < count; ++i)
    for (int64_t o = 0; o < columns && begin + o * kTile < p.outputs; ++o)
      write(p, _mm512_load_ps(s.sums + ((i / kTile * columns + o) * kTile + i % kTile) * kTile), positions[i],
            begin + o * kTile);
}

}  // namespace

const Kernels bfloat16_amx = {kTile, kRowBlock, kColumns, packed_elements, pack, scratch_bytes, compute};

}  // namespace pliant::sparse_conv2d
