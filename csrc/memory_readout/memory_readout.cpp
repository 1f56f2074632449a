// Entry from Python: which kernels, how the work is cut, what memory it takes.
#include "memory_readout.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cmath>
#include <cstring>
#include <optional>

#include "common/buffer.h"
#include "common/instruction_set.h"
#include "common/parallel.h"

namespace pliant::memory_readout {
namespace {

using torch::stable::Tensor;

constexpr int64_t kSlabBytes = 8 << 20;  // of packed memory at a time: bounds what is held beside the operands

int64_t divide_up(int64_t n, int64_t step) { return (n + step - 1) / step; }
int64_t round_up(int64_t n, int64_t step) { return divide_up(n, step) * step; }

// Rows of queries a task: equal shares, so that the last round of tasks leaves no thread idle.
int64_t rows_a_task(const Kernels& kernels, int64_t queries) {
  int64_t steps = divide_up(queries, kernels.row_step), most = kernels.row_block / kernels.row_step;
  int64_t tasks = round_up(divide_up(steps, most), torch::stable::get_num_threads());
  return divide_up(steps, tasks) * kernels.row_step;
}

// The memory goes by in slabs; sums of all queries are carried from one to the next.
void read(const Kernels& kernels, const Problem& p) {
  const int64_t key_bytes = round_up(p.channels, kernels.channel_step) * kernels.element;
  const int64_t value_channels = round_up(p.values, kernels.value_step);
  const int64_t value_bytes = p.top_k ? 0 : value_channels * kernels.element;
  const int64_t fitting = kSlabBytes / (key_bytes + value_bytes) / kernels.memory_block * kernels.memory_block;
  const int64_t whole = round_up(p.memory, kernels.memory_block);
  int64_t slab_size = fitting < kernels.memory_block ? kernels.memory_block : fitting;
  if (p.top_k || slab_size > whole) slab_size = whole;

  const int64_t rows = rows_a_task(kernels, p.queries), tasks = divide_up(p.queries, rows);
  const int64_t padded = round_up(tasks * rows, 16);
  Buffer<char> keys(slab_size * key_bytes), values(slab_size * value_bytes);
  Buffer<float> scale(slab_size), shift(slab_size), sums(p.top_k ? 0 : padded * value_channels);
  Buffer<float> maximum(padded), total(padded), weight(p.top_k * padded);
  Buffer<int32_t> position(p.top_k * padded);
  memset(position.get(), 0, p.top_k * padded * 4);
  memset(weight.get(), 0, p.top_k * padded * 4);
  for (int64_t i = 0; i < padded; ++i) maximum.get()[i] = -3e38f, total.get()[i] = 0;
  const Running run{sums.get(), maximum.get(), total.get(), position.get(), weight.get(), padded};

  for (int64_t begin = 0; begin < p.memory; begin += slab_size) {
    const int64_t count = p.memory - begin < slab_size ? p.memory - begin : slab_size;
    const Slab slab{begin, count, keys.get(), p.top_k ? nullptr : values.get(), scale.get(), shift.get()};
    parallel_tasks(divide_up(count, kernels.memory_block), [&](int64_t, const auto& next) {
      for (int64_t block; (block = next()) >= 0;) kernels.pack(p, slab, block, block + 1);
    });
    parallel_tasks(tasks, [&](int64_t, const auto& next) {
      Buffer<char> scratch(kernels.scratch_bytes(p));
      for (int64_t task; (task = next()) >= 0;) {
        if (p.top_k) {
          kernels.select(p, slab, run, task * rows, rows, scratch.get());
          continue;
        }
        if (begin == 0) memset(run.sum + task * rows * value_channels, 0, rows * value_channels * 4);
        kernels.attend(p, slab, run, task * rows, rows, scratch.get());
        if (begin + count == p.memory) kernels.finish(p, run, task * rows, rows);
      }
    });
  }
  if (!p.top_k) return;
  const int64_t lines = p.by_query() ? p.queries : p.values;
  parallel_tasks(divide_up(lines, 16), [&](int64_t, const auto& next) {
    for (int64_t task; (task = next()) >= 0;)
      kernels.gather(p, run, task * 16, task * 16 + 16 < lines ? task * 16 + 16 : lines);
  });
}

// key [N, D, J], query [N, D, I], value [N, V, J], shrinkage [N, J] float32, out [N, V, I]; any strides, but with top_k
// either the places or the channels of the values side by side, those of out with them.
void memory_readout(Tensor key, Tensor query, Tensor value, std::optional<Tensor> shrinkage, double dot_scale,
                    double norm_scale, int64_t top_k, Tensor out) {
  const bool low = key.scalar_type() == torch::headeronly::ScalarType::BFloat16;
  STD_TORCH_CHECK(!low || bfloat16_products(), "memory_readout: bfloat16 needs AVX512_BF16 or AMX");
#if defined(__x86_64__)
  const Kernels& tiles = instruction_set() == InstructionSet::amx ? bfloat16_amx : bfloat16_avx512;
#else
  const Kernels& tiles = float32_plain;  // not asked for
#endif
  const Kernels& kernels = low ? tiles : best(float32_plain, float32_avx2, float32_avx512);
  const int64_t size = low ? 2 : 4;
  const double log2_e = 1.4426950408889634;
  for (int64_t n = 0; n < key.size(0); ++n) {
    const auto at = [&](const Tensor& t) { return static_cast<char*>(t.data_ptr()) + n * t.stride(0) * size; };
    Problem p;
    p.key = at(key), p.query = at(query), p.value = at(value), p.out = at(out);
    p.shrinkage = shrinkage ? static_cast<const float*>(shrinkage->data_ptr()) + n * shrinkage->stride(0) : nullptr;
    p.channels = key.size(1), p.memory = key.size(2), p.queries = query.size(2), p.values = value.size(1);
    p.key_channel = key.stride(1), p.key_memory = key.stride(2);
    p.query_channel = query.stride(1), p.query_position = query.stride(2);
    p.value_channel = value.stride(1), p.value_memory = value.stride(2);
    p.out_channel = out.stride(1), p.out_position = out.stride(2);
    p.dot_scale = static_cast<float>(dot_scale * log2_e), p.norm_scale = static_cast<float>(norm_scale * log2_e);
    p.top_k = top_k < p.memory ? top_k : 0;
    read(kernels, p);
  }
}

}  // namespace
}  // namespace pliant::memory_readout

STABLE_TORCH_LIBRARY_FRAGMENT(pliant_native, m) {
  m.def(
      "memory_readout(Tensor key, Tensor query, Tensor value, Tensor? shrinkage, float dot_scale, float norm_scale, "
      "int top_k, Tensor(a!) out) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(pliant_native, CompositeExplicitAutograd, m) {
  m.impl("memory_readout", TORCH_BOX(&pliant::memory_readout::memory_readout));
}
