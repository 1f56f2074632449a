// bfloat16, by tiles of 16 x 16 sums, 32 products deep (common/bf16_tiles.h).
#include "candidates.h"
#include "common/bf16_tiles.h"
#include "memory_readout.h"

namespace pliant::memory_readout {
namespace {

constexpr int64_t kRowBlock = 128, kMemoryBlock = 512, kScoreStride = kMemoryBlock + 16;  // + 16: no aliasing at 2 KB
constexpr float kFar = -1e30f;

int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Factor and summand that make a similarity of a dot product, for each place of a block; none beyond `count`.
void affine(const Problem& p, const bf16* key, int64_t at, int64_t count, float* scale, float* shift) {
  for (int64_t j = 0; j < kMemoryBlock; ++j) shift[j] = 0;
  if (p.norm_scale != 0)
    for (int64_t c = 0; c < p.channels; ++c)
      for (int64_t j = 0; j < count; ++j) {
        float x = to_float(key[c * p.key_channel + j * p.key_memory]);
        shift[j] += x * x;
      }
  for (int64_t j = 0; j < kMemoryBlock; ++j) {
    float factor = j < count && p.shrinkage ? p.shrinkage[at + j] : 1;
    scale[j] = j < count ? factor * p.dot_scale : 0;
    shift[j] = j < count ? -factor * p.norm_scale * shift[j] : kFar;
  }
}

// Keys of a block: [column tile][depth tile]; values of a block: [value tile][depth tile].
void pack(const Problem& p, const Slab& slab, int64_t begin_block, int64_t end_block) {
  int64_t key_depth = round_up(p.channels, kDepth) / kDepth, value_tiles = round_up(p.values, kDepth) / kTile;
  for (int64_t block = begin_block; block < end_block; ++block) {
    int64_t first = block * kMemoryBlock, count = slab.count - first;
    if (count > kMemoryBlock) count = kMemoryBlock;
    int64_t at = slab.begin + first;
    const bf16* key = (const bf16*)p.key + at * p.key_memory;
    bf16* to = (bf16*)slab.key + first * key_depth * kDepth;
    for (int64_t j = 0; j < round_up(count, kDepth); j += kTile)
      for (int64_t d = 0; d < key_depth; ++d, to += kTileElements)
        pack_tile(key + d * kDepth * p.key_channel + j * p.key_memory, p.key_channel, p.key_memory,
                  p.channels - d * kDepth, count - j, to);
    affine(p, key, at, count, slab.scale + first, slab.shift + first);
    if (!slab.value) continue;
    const bf16* value = (const bf16*)p.value + at * p.value_memory;
    to = (bf16*)slab.value + first * value_tiles * kTile;
    int64_t depth = kMemoryBlock / kDepth;
    for (int64_t v = 0; v < value_tiles; ++v)
      for (int64_t d = 0; d * kDepth < count; ++d)
        pack_tile(value + v * kTile * p.value_channel + d * kDepth * p.value_memory, p.value_memory, p.value_channel,
                  count - d * kDepth, p.values - v * kTile, to + (v * depth + d) * kTileElements);
  }
}

struct Scratch {
  bf16 *query, *weights;
  float* scores;
};

int64_t query_elements(const Problem& p) { return kRowBlock * round_up(p.channels, kDepth); }
int64_t candidate_capacity(const Problem& p) { return 2 * p.top_k + kMemoryBlock; }

int64_t scratch_bytes(const Problem& p) {
  int64_t last = p.top_k ? kRowBlock * candidate_capacity(p) * 8 : kRowBlock * kMemoryBlock * 2;
  return query_elements(p) * 2 + kRowBlock * kScoreStride * 4 + last;
}

Scratch divide(const Problem& p, void* memory) {
  Scratch s;
  s.query = (bf16*)memory;
  s.scores = (float*)(s.query + query_elements(p));
  s.weights = (bf16*)(s.scores + kRowBlock * kScoreStride);
  return s;
}

// Queries as left operand: [row tile][depth tile][16 rows][32 channels].
void pack_queries(const Problem& p, int64_t row, int64_t rows, bf16* to) {
  int64_t depth = round_up(p.channels, kDepth) / kDepth;
  const bf16* from = (const bf16*)p.query;
  for (int64_t t = 0; t < rows; t += kTile)
    for (int64_t d = 0; d < depth; ++d)
      for (int64_t r = 0; r < kTile; ++r)
        for (int64_t c = 0; c < kDepth; ++c) {
          int64_t i = row + t + r, channel = d * kDepth + c;
          *to++ = i < p.queries && channel < p.channels ? from[i * p.query_position + channel * p.query_channel] : 0;
        }
}

void score(const Problem& p, const Slab& slab, const Scratch& s, int64_t first, int64_t count, int64_t rows) {
  int64_t depth = round_up(p.channels, kDepth) / kDepth;
  const bf16* key = (const bf16*)slab.key + first * depth * kDepth;
  for (int64_t j = 0; j < count; j += kDepth)
    for (int64_t t = 0; t < rows; t += 2 * kTile) {
      auto kernel = rows - t >= 2 * kTile ? multiply<2> : multiply<1>;
      kernel(s.query + t * depth * kDepth, depth * kTileElements, key + j * depth * kDepth, depth * kTileElements, depth,
             s.scores + t * kScoreStride + j, kTile * kScoreStride, kTile, kScoreStride, false);
    }
}

// 2^x for x <= 0, relative error 4e-6: x = n + f, a polynomial of degree 4 in f, exponent n.
inline __m512 exp2_below(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-127.f), x);  // in this order a NaN stays one
  __m512 n = _mm512_roundscale_ps(x, 8), f = _mm512_sub_ps(x, n);
  __m512 y = _mm512_set1_ps(9.570033e-3f);
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(5.5889e-2f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(2.402264e-1f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(6.931409e-1f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(y, n);
}

// Weights of one query over a block, as row of the left operand; returns the factor for what was summed before.
float soften(float* score, const float* scale, const float* shift, int64_t count, float& maximum, float& total,
             bf16* weights) {
  __m512 high0 = _mm512_set1_ps(maximum), high1 = high0;
  for (int64_t j = 0; j < count; j += 32) {
    __m512 t0 = _mm512_fmadd_ps(_mm512_load_ps(score + j), _mm512_loadu_ps(scale + j), _mm512_loadu_ps(shift + j));
    __m512 t1 = _mm512_fmadd_ps(_mm512_load_ps(score + j + 16), _mm512_loadu_ps(scale + j + 16),
                                _mm512_loadu_ps(shift + j + 16));
    _mm512_store_ps(score + j, t0);
    _mm512_store_ps(score + j + 16, t1);
    high0 = _mm512_max_ps(t0, high0);
    high1 = _mm512_max_ps(t1, high1);
  }
  float high = _mm512_reduce_max_ps(_mm512_max_ps(high0, high1));
  float factor = 1;
  if (high > maximum) {
    factor = _mm512_cvtss_f32(exp2_below(_mm512_set1_ps(maximum - high)));
    maximum = high;
  }
  __m512 base = _mm512_set1_ps(maximum), sum0 = _mm512_setzero_ps(), sum1 = sum0;
  for (int64_t j = 0; j < count; j += 32, weights += kTileElements) {
    __m512 w0 = exp2_below(_mm512_sub_ps(_mm512_load_ps(score + j), base));
    __m512 w1 = exp2_below(_mm512_sub_ps(_mm512_load_ps(score + j + 16), base));
    sum0 = _mm512_add_ps(sum0, w0);
    sum1 = _mm512_add_ps(sum1, w1);
    _mm512_store_si512(weights, (__m512i)_mm512_cvtne2ps_pbh(w1, w0));
  }
  total = total * factor + _mm512_reduce_add_ps(_mm512_add_ps(sum0, sum1));
  return factor;
}

// Sums lie as tiles [row tile][value tile][16][16].
void rescale(float* sum, int64_t tiles, float factor) {
  __m512 f = _mm512_set1_ps(factor);
  for (int64_t v = 0; v < tiles; ++v)
    _mm512_store_ps(sum + v * 256, _mm512_mul_ps(_mm512_load_ps(sum + v * 256), f));
}

void attend(const Problem& p, const Slab& slab, const Running& run, int64_t row, int64_t rows, void* scratch) {
  Scratch s = divide(p, scratch);
  int64_t value_tiles = round_up(p.values, kDepth) / kTile, depth = kMemoryBlock / kDepth;
  float* sum = run.sum + row * value_tiles * kTile;
  start_tiles();
  pack_queries(p, row, rows, s.query);
  for (int64_t first = 0; first < slab.count; first += kMemoryBlock) {
    int64_t count = round_up(slab.count - first < kMemoryBlock ? slab.count - first : kMemoryBlock, kDepth);
    score(p, slab, s, first, count, rows);
    for (int64_t r = 0; r < rows; ++r) {
      float factor = soften(s.scores + r * kScoreStride, slab.scale + first, slab.shift + first, count,
                            run.maximum[row + r], run.total[row + r],
                            s.weights + (r / kTile * depth * kTile + r % kTile) * kDepth);
      if (factor != 1) rescale(sum + (r / kTile * value_tiles * kTile + r % kTile) * kTile, value_tiles, factor);
    }
    const bf16* value = (const bf16*)slab.value + first * value_tiles * kTile;
    for (int64_t v = 0; v < value_tiles; v += 2)
      for (int64_t t = 0; t < rows / kTile; t += 2) {
        auto kernel = rows / kTile - t >= 2 ? multiply<2> : multiply<1>;
        kernel(s.weights + t * depth * kTileElements, depth * kTileElements, value + v * depth * kTileElements,
               depth * kTileElements, count / kDepth, sum + (t * value_tiles + v) * 256, value_tiles * 256, 256, kTile,
               true);
      }
  }
  stop_tiles();
}

void finish(const Problem& p, const Running& run, int64_t row, int64_t rows) {
  int64_t value_tiles = round_up(p.values, kDepth) / kTile;
  for (int64_t t = 0; t < rows && row + t < p.queries; t += kTile)
    for (int64_t v = 0; v * kTile < p.values; ++v) {
      const float* sum = run.sum + ((row + t) * value_tiles + v * kTile) * kTile;
      bf16* out = (bf16*)p.out + (row + t) * p.out_position + v * kTile * p.out_channel;
      int64_t positions = p.queries - row - t, channels = p.values - v * kTile;
      __m512i r[16];
      for (int64_t i = 0; i < kTile; ++i)
        r[i] = (__m512i)_mm512_mul_ps(_mm512_load_ps(sum + i * kTile), _mm512_set1_ps(1 / run.total[row + t + i]));
      if (p.out_channel == 1) {
        for (int64_t i = 0; i < kTile && i < positions; ++i) store(out + i * p.out_position, (__m512)r[i], channels);
      } else {
        transpose(r);
        for (int64_t c = 0; c < kTile && c < channels; ++c) store(out + c * p.out_channel, (__m512)r[c], positions);
      }
    }
}

// A lower bound of the k-th largest of a block: the k-th largest of the maxima of 64 groups.
float first_threshold(const float* score, int64_t count, int64_t k) {
  if (k > 40 || count < kMemoryBlock) return -__builtin_inff();
  alignas(64) float maxima[64];
  int32_t unused[64];
  for (int64_t g = 0; g < 64; g += 16) {
    __m512 high = _mm512_load_ps(score + g);
    for (int64_t j = g + 64; j < count; j += 64) high = _mm512_max_ps(_mm512_load_ps(score + j), high);
    _mm512_store_ps(maxima + g, high);
  }
  Candidates c{maxima, unused, 64, 0};
  keep_largest(c, k);
  return c.threshold;
}

// Adds what may be among the k largest of a query. `count` without padding.
void collect(float* score, const float* scale, const float* shift, int64_t count, int64_t position, int64_t k,
             Candidates& c) {
  auto similarity = [&](int64_t j) {
    return _mm512_fmadd_ps(_mm512_load_ps(score + j), _mm512_loadu_ps(scale + j), _mm512_loadu_ps(shift + j));
  };
  if (position == 0) {
    for (int64_t j = 0; j < count; j += 16) _mm512_store_ps(score + j, similarity(j));
    c.threshold = first_threshold(score, count, k);
  }
  __m512i places = _mm512_add_epi32(_mm512_set1_epi32(position),
                                    _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  __m512 bound = _mm512_set1_ps(c.threshold);
  for (int64_t j = 0; j < count; j += 16) {
    __m512 x = position == 0 ? _mm512_load_ps(score + j) : similarity(j);
    __mmask16 there = count - j >= 16 ? 0xffff : (1u << (count - j)) - 1;
    // the bound of the first block is only a bound: what equals it may be needed
    __mmask16 better = position == 0 ? _mm512_mask_cmp_ps_mask(there, x, bound, _CMP_NLT_UQ)
                                     : _mm512_mask_cmp_ps_mask(there, x, bound, _CMP_NLE_UQ);
    if (!better) continue;
    _mm512_mask_compressstoreu_ps(c.value + c.count, better, x);
    _mm512_mask_compressstoreu_epi32(c.position + c.count, better, _mm512_add_epi32(places, _mm512_set1_epi32(j)));
    c.count += __builtin_popcount(better);
  }
  if (c.count >= 2 * k || position == 0) keep_largest(c, k);
}

void select(const Problem& p, const Slab& slab, const Running& run, int64_t row, int64_t rows, void* scratch) {
  Scratch s = divide(p, scratch);
  int64_t capacity = candidate_capacity(p);
  Candidates found[kRowBlock];
  for (int64_t r = 0; r < rows; ++r) {
    float* value = (float*)s.weights + r * capacity;
    int32_t* position = (int32_t*)((float*)s.weights + kRowBlock * capacity) + r * capacity;
    found[r] = {value, position, 0, -__builtin_inff()};
  }
  start_tiles();
  pack_queries(p, row, rows, s.query);
  for (int64_t first = 0; first < slab.count; first += kMemoryBlock) {
    int64_t count = slab.count - first < kMemoryBlock ? slab.count - first : kMemoryBlock;
    score(p, slab, s, first, round_up(count, kDepth), rows);
    for (int64_t r = 0; r < rows; ++r)
      collect(s.scores + r * kScoreStride, slab.scale + first, slab.shift + first, count, first, p.top_k, found[r]);
  }
  stop_tiles();
  for (int64_t r = 0; r < rows; ++r) {
    keep_largest(found[r], p.top_k);
    weigh(found[r], p.top_k);
    for (int64_t i = 0; i < p.top_k; ++i) {
      run.position[i * run.padded_queries + row + r] = found[r].position[i];
      run.weight[i * run.padded_queries + row + r] = found[r].value[i];
    }
  }
}

// Values as float from bits of bfloat16 at places of one channel; reads two bytes beyond each place.
__m512 gather16(const bf16* from, __m512i place) {
  return (__m512)_mm512_slli_epi32(_mm512_i32gather_epi32(place, from, 2), 16);
}

void gather(const Problem& p, const Running& run, int64_t begin, int64_t end) {
  const bf16* value = (const bf16*)p.value;
  bf16* out = (bf16*)p.out;
  if (p.by_query()) {  // begin, end: queries
    for (int64_t i = begin; i < end; ++i)
      for (int64_t c = 0; c < p.values; c += 16) {
        __mmask16 there = p.values - c >= 16 ? 0xffff : (1u << (p.values - c)) - 1;
        __m512 sum = _mm512_setzero_ps();
        for (int64_t k = 0; k < p.top_k; ++k) {
          const bf16* at = value + run.position[k * run.padded_queries + i] * p.value_memory + c;
          __m512i x = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, at)), 16);
          sum = _mm512_fmadd_ps((__m512)x, _mm512_set1_ps(run.weight[k * run.padded_queries + i]), sum);
        }
        store(out + i * p.out_position + c, sum, p.values - c);
      }
    return;
  }
  for (int64_t c = begin; c < end; ++c)
    for (int64_t i = 0; i < p.queries; i += 16) {
      const bf16* at = value + c * p.value_channel;
      __m512 sum = _mm512_setzero_ps();
      for (int64_t k = 0; k < p.top_k; ++k) {
        __m512i place = _mm512_loadu_si512(run.position + k * run.padded_queries + i);
        __m512 x;
        if (c + 1 < p.values) {
          x = gather16(at, place);
        } else {  // the two bytes beyond may not be ours
          alignas(64) float each[16];
          for (int64_t r = 0; r < 16; ++r) each[r] = to_float(at[run.position[k * run.padded_queries + i + r]]);
          x = _mm512_load_ps(each);
        }
        sum = _mm512_fmadd_ps(x, _mm512_loadu_ps(run.weight + k * run.padded_queries + i), sum);
      }
      store(out + c * p.out_channel + i, sum, p.queries - i);
    }
}
}  // namespace

const Kernels KERNELS = {kTile, kRowBlock, kMemoryBlock, kDepth, kDepth, 2, scratch_bytes,
                         pack,  attend,    finish,       select, gather};

}  // namespace pliant::memory_readout
