// Reading a memory by blocks: similarities of a block of queries and a block of memory, a running softmax (or the
// k largest), a product with the values. The whole affinity never exists.
#pragma once
#include <cstdint>

namespace pliant::memory_readout {

// One sample. Strides are in elements. Similarity of memory j and query i, in units of log2:
// shrinkage_j * (dot_scale * k_j.q_i - norm_scale * |k_j|^2).
struct Problem {
  const void *key, *query, *value;
  void* out;
  const float* shrinkage;  // [memory] or null
  int64_t channels, memory, queries, values;
  int64_t key_channel, key_memory, query_channel, query_position;
  int64_t value_channel, value_memory, out_channel, out_position;
  float dot_scale, norm_scale;
  int64_t top_k;  // 0: all

  // Whether the channels of a value, and those of a result, lie side by side: then gather() goes query by query.
  bool by_query() const { return value_channel == 1 && out_channel == 1 && values > 1; }
};

// A stretch of the memory, packed for the products.
struct Slab {
  int64_t begin, count;
  void *key, *value;
  float *scale, *shift;  // similarity = scale_j * dot + shift_j
};

// Sums of all queries over the slabs seen so far.
struct Running {
  float *sum, *maximum, *total;  // weighted values, largest similarity, sum of weights
  int32_t* position;             // [top_k, padded queries]: the places of the k largest
  float* weight;                 // [top_k, padded queries]: their similarities, then their weights
  int64_t padded_queries;
};

// What an instruction set offers. Blocks of queries are multiples of `row_step`, at most `row_block`.
struct Kernels {
  int64_t row_step, row_block, memory_block, channel_step, value_step;
  int64_t element;  // bytes of a packed key or value
  int64_t (*scratch_bytes)(const Problem&);
  void (*pack)(const Problem&, const Slab&, int64_t begin_block, int64_t end_block);
  void (*attend)(const Problem&, const Slab&, const Running&, int64_t row, int64_t rows, void* scratch);
  void (*finish)(const Problem&, const Running&, int64_t row, int64_t rows);
  void (*select)(const Problem&, const Slab&, const Running&, int64_t row, int64_t rows, void* scratch);
  void (*gather)(const Problem&, const Running&, int64_t begin, int64_t end);  // queries if by_query(), else channels
};

extern const Kernels bfloat16_amx, bfloat16_avx512, float32_avx512, float32_avx2, float32_plain;

}  // namespace pliant::memory_readout
