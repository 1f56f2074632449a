// float32, written once over vectors of WIDTH floats (a macro of the including file) with the compiler's own vectors.
#include <cstring>

#include "candidates.h"
#include "memory_readout.h"

namespace pliant::memory_readout {
namespace {

constexpr int64_t kWidth = WIDTH, kRows = 6, kVectors = WIDTH == 16 ? 4 : 2, kStrip = kWidth * kVectors;
constexpr int64_t kRowBlock = 96, kMemoryBlock = 128;
constexpr float kFar = -1e30f;

typedef float vector __attribute__((vector_size(WIDTH * 4)));
typedef int32_t integers __attribute__((vector_size(WIDTH * 4)));

int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }
inline vector load(const float* from) {
  vector v;
  memcpy(&v, from, sizeof v);
  return v;
}
inline void save(float* to, vector v) { memcpy(to, &v, sizeof v); }
inline vector every(float x) { return x - vector{}; }

// c (6 x strip) = or += a (6 rows, depth) x b (depth x strip, packed).
void multiply(const float* a, int64_t a_row, const float* b, int64_t depth, float* c, int64_t c_row, bool add) {
  vector sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[r][v] = add ? load(c + r * c_row + v * kWidth) : vector{};
  for (int64_t k = 0; k < depth; ++k, b += kStrip) {
    vector right[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) right[v] = load(b + v * kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      vector left = every(a[r * a_row + k]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[r][v] += left * right[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) save(c + r * c_row + v * kWidth, sum[r][v]);
}

// Factor and summand that make a similarity of a dot product, for each place of a block; none beyond `count`.
void affine(const Problem& p, const float* key, int64_t at, int64_t count, float* scale, float* shift) {
  for (int64_t j = 0; j < kMemoryBlock; ++j) shift[j] = 0;
  if (p.norm_scale != 0)
    for (int64_t c = 0; c < p.channels; ++c)
      for (int64_t j = 0; j < count; ++j) {
        float x = key[c * p.key_channel + j * p.key_memory];
        shift[j] += x * x;
      }
  for (int64_t j = 0; j < kMemoryBlock; ++j) {
    float factor = j < count && p.shrinkage ? p.shrinkage[at + j] : 1;
    scale[j] = j < count ? factor * p.dot_scale : 0;
    shift[j] = j < count ? -factor * p.norm_scale * shift[j] : kFar;
  }
}

// Strips of columns: [strip][depth][columns of the strip], zero where there is nothing; depth up to `allotted`.
void pack_strips(const float* from, int64_t depth_stride, int64_t column_stride, int64_t depth, int64_t columns,
                 int64_t allotted, float* to) {
  for (int64_t s = 0; s < columns; s += kStrip, to += allotted * kStrip) {
    const float* strip = from + s * column_stride;
    int64_t there = columns - s < kStrip ? columns - s : kStrip;
    if (column_stride == 1) {
      for (int64_t d = 0; d < depth; ++d) {
        memcpy(to + d * kStrip, strip + d * depth_stride, there * 4);
        memset(to + d * kStrip + there, 0, (kStrip - there) * 4);
      }
    } else {
      for (int64_t d0 = 0; d0 < depth; d0 += 16)  // 16 at a time: a cache line of each column
        for (int64_t c = 0; c < kStrip; ++c)
          for (int64_t d = d0; d < d0 + 16 && d < depth; ++d)
            to[d * kStrip + c] = c < there ? strip[c * column_stride + d * depth_stride] : 0;
    }
  }
}

void pack(const Problem& p, const Slab& slab, int64_t begin_block, int64_t end_block) {
  int64_t values = round_up(p.values, kStrip);
  for (int64_t block = begin_block; block < end_block; ++block) {
    int64_t first = block * kMemoryBlock, count = slab.count - first;
    if (count > kMemoryBlock) count = kMemoryBlock;
    int64_t at = slab.begin + first;
    const float* key = (const float*)p.key + at * p.key_memory;
    affine(p, key, at, count, slab.scale + first, slab.shift + first);
    pack_strips(key, p.key_channel, p.key_memory, p.channels, count, p.channels,
                (float*)slab.key + first * p.channels);
    if (slab.value)
      pack_strips((const float*)p.value + at * p.value_memory, p.value_memory, p.value_channel, count, p.values,
                  kMemoryBlock, (float*)slab.value + first * values);
  }
}

struct Scratch {
  float *query, *scores, *candidates;
};

constexpr int64_t kScoreStride = kMemoryBlock + 16;
int64_t candidate_capacity(const Problem& p) { return 2 * p.top_k + kMemoryBlock; }

int64_t scratch_bytes(const Problem& p) {
  int64_t last = p.top_k ? kRowBlock * candidate_capacity(p) * 2 : 0;
  return (kRowBlock * p.channels + kRowBlock * kScoreStride + last) * 4;
}

Scratch divide(const Problem& p, void* memory) {
  float* at = (float*)memory;
  return {at, at + kRowBlock * p.channels, at + kRowBlock * (p.channels + kScoreStride)};
}

void pack_queries(const Problem& p, int64_t row, int64_t rows, float* to) {
  const float* from = (const float*)p.query;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < p.channels; ++c) {
      int64_t i = row + r;
      to[r * p.channels + c] = i < p.queries ? from[i * p.query_position + c * p.query_channel] : 0;
    }
}

void score(const Problem& p, const Slab& slab, const Scratch& s, int64_t first, int64_t count, int64_t rows) {
  const float* key = (const float*)slab.key + first * p.channels;
  for (int64_t j = 0; j < count; j += kStrip)
    for (int64_t r = 0; r < rows; r += kRows)
      multiply(s.query + r * p.channels, p.channels, key + j * p.channels, p.channels, s.scores + r * kScoreStride + j,
               kScoreStride, false);
}

// 2^x for x <= 0, to 2e-7: x = n + f, a polynomial of degree 6 in f, n added to the exponent.
inline vector exp2_below(vector x) {
  vector floor = every(-126.f);
  integers low = x < floor;
  x = (vector)(((integers)floor & low) | ((integers)x & ~low));  // a NaN stays one
  const vector magic = every(12582912.f);  // 1.5 * 2^23: adding it rounds to a whole number
  vector shifted = x + magic, f = x - (shifted - magic);
  integers n = (integers)shifted << 23;
  vector y = every(1.54035304e-4f);
  y = y * f + 1.33335581e-3f;
  y = y * f + 9.61812911e-3f;
  y = y * f + 5.55041087e-2f;
  y = y * f + 2.40226507e-1f;
  y = y * f + 6.93147181e-1f;
  y = y * f + 1.f;
  return (vector)((integers)y + n);
}

// Weights of one query over a block, in place; returns the factor for what was summed before.
float soften(float* score, const float* scale, const float* shift, int64_t count, float& maximum, float& total) {
  vector high = every(maximum);
  for (int64_t j = 0; j < count; j += kWidth) {
    vector t = load(score + j) * load(scale + j) + load(shift + j);
    save(score + j, t);
    integers above = t > high;
    high = (vector)(((integers)t & above) | ((integers)high & ~above));
  }
  float top = maximum, factor = 1, sum = 0;
  for (int64_t v = 0; v < kWidth; ++v) top = high[v] > top ? high[v] : top;
  if (top > maximum) {
    factor = exp2_below(every(maximum - top))[0];
    maximum = top;
  }
  vector sums{};
  for (int64_t j = 0; j < count; j += kWidth) {
    vector w = exp2_below(load(score + j) - maximum);
    sums += w;
    save(score + j, w);
  }
  for (int64_t v = 0; v < kWidth; ++v) sum += sums[v];
  total = total * factor + sum;
  return factor;
}

// Sums lie as rows of `values` rounded up to strips.
void attend(const Problem& p, const Slab& slab, const Running& run, int64_t row, int64_t rows, void* scratch) {
  Scratch s = divide(p, scratch);
  int64_t values = round_up(p.values, kStrip);
  pack_queries(p, row, rows, s.query);
  for (int64_t first = 0; first < slab.count; first += kMemoryBlock) {
    int64_t count = slab.count - first < kMemoryBlock ? slab.count - first : kMemoryBlock;
    score(p, slab, s, first, count, rows);
    for (int64_t r = 0; r < rows; ++r) {
      float factor = soften(s.scores + r * kScoreStride, slab.scale + first, slab.shift + first,
                            round_up(count, kWidth), run.maximum[row + r], run.total[row + r]);
      float* sum = run.sum + (row + r) * values;
      if (factor != 1)
        for (int64_t c = 0; c < values; c += kWidth) save(sum + c, load(sum + c) * factor);
    }
    const float* value = (const float*)slab.value + first * values;
    for (int64_t c = 0; c < values; c += kStrip, value += kMemoryBlock * kStrip)
      for (int64_t r = 0; r < rows; r += kRows)
        multiply(s.scores + r * kScoreStride, kScoreStride, value, count, run.sum + (row + r) * values + c, values,
                 true);
  }
}

void finish(const Problem& p, const Running& run, int64_t row, int64_t rows) {
  int64_t values = round_up(p.values, kStrip), end = row + rows < p.queries ? row + rows : p.queries;
  float* out = (float*)p.out;
  if (p.out_channel == 1) {
    for (int64_t i = row; i < end; ++i)
      for (int64_t c = 0; c < p.values; ++c) out[i * p.out_position + c] = run.sum[i * values + c] / run.total[i];
    return;
  }
  for (int64_t c = 0; c < p.values; ++c)
    for (int64_t i = row; i < end; ++i)
      out[c * p.out_channel + i * p.out_position] = run.sum[i * values + c] / run.total[i];
}

// Adds what may be among the k largest of a query.
void collect(float* score, const float* scale, const float* shift, int64_t count, int64_t position, int64_t k,
             Candidates& c) {
  constexpr int64_t together = 4 * kWidth;  // looked at at once: few hold anything
  for (int64_t j = 0; j < count; j += together) {
    integers better[4], any{};
    for (int64_t v = 0; v < 4; ++v) {
      vector t = load(score + j + v * kWidth) * load(scale + j + v * kWidth) + load(shift + j + v * kWidth);
      save(score + j + v * kWidth, t);
      better[v] = ~(t <= every(c.threshold));  // not a number counts as better
      any |= better[v];
    }
    int32_t found = 0;
    for (int64_t v = 0; v < kWidth; ++v) found |= any[v];
    if (!found) continue;
    for (int64_t i = 0; i < together && j + i < count; ++i)
      if (better[i / kWidth][i % kWidth]) c.value[c.count] = score[j + i], c.position[c.count++] = position + j + i;
  }
  if (c.count >= 2 * k || (c.threshold < kFar && c.count >= k)) keep_largest(c, k);
}

void select(const Problem& p, const Slab& slab, const Running& run, int64_t row, int64_t rows, void* scratch) {
  Scratch s = divide(p, scratch);
  int64_t capacity = candidate_capacity(p);
  Candidates found[kRowBlock];
  for (int64_t r = 0; r < rows; ++r)
    found[r] = {s.candidates + r * capacity, (int32_t*)s.candidates + (kRowBlock + r) * capacity, 0,
                -__builtin_inff()};
  pack_queries(p, row, rows, s.query);
  for (int64_t first = 0; first < slab.count; first += kMemoryBlock) {
    int64_t count = slab.count - first < kMemoryBlock ? slab.count - first : kMemoryBlock;
    score(p, slab, s, first, count, rows);
    for (int64_t r = 0; r < rows; ++r)
      collect(s.scores + r * kScoreStride, slab.scale + first, slab.shift + first, count, first, p.top_k, found[r]);
  }
  for (int64_t r = 0; r < rows; ++r) {
    keep_largest(found[r], p.top_k);
    weigh(found[r], p.top_k);
    for (int64_t i = 0; i < p.top_k; ++i) {
      run.position[i * run.padded_queries + row + r] = found[r].position[i];
      run.weight[i * run.padded_queries + row + r] = found[r].value[i];
    }
  }
}

void gather(const Problem& p, const Running& run, int64_t begin, int64_t end) {
  const float* value = (const float*)p.value;
  float* out = (float*)p.out;
  if (p.by_query()) {  // begin, end: queries
    for (int64_t i = begin; i < end; ++i) {
      float* to = out + i * p.out_position;
      memset(to, 0, p.values * 4);
      for (int64_t k = 0; k < p.top_k; ++k) {
        const float* at = value + run.position[k * run.padded_queries + i] * p.value_memory;
        float weight = run.weight[k * run.padded_queries + i];
        for (int64_t c = 0; c < p.values; ++c) to[c] += weight * at[c];
      }
    }
    return;
  }
  for (int64_t c = begin; c < end; ++c)  // begin, end: channels
    for (int64_t i = 0; i < p.queries; ++i) {
      const float* at = value + c * p.value_channel;
      float sum = 0;
      for (int64_t k = 0; k < p.top_k; ++k)
        sum += run.weight[k * run.padded_queries + i] * at[run.position[k * run.padded_queries + i] * p.value_memory];
      out[c * p.out_channel + i * p.out_position] = sum;
    }
}
}  // namespace

const Kernels KERNELS = {kRows, kRowBlock, kMemoryBlock, 1, kStrip, 4, scratch_bytes, pack, attend, finish, select, gather};

}  // namespace pliant::memory_readout
