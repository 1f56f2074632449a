// Entry from Python. Forward: a task is a head and some queries; backward: a head, so that no two tasks share a sum.
#include "deform_attention3d.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include "common/buffer.h"
#include "common/instruction_set.h"
#include "common/parallel.h"

namespace pliant::deform_attention3d {
namespace {

using torch::stable::Tensor;

constexpr int64_t kQueries = 64;  // a task

float* entry(const Tensor& tensor, int64_t n) {
  return static_cast<float*>(tensor.data_ptr()) + n * tensor.stride(0);
}

Problem problem(const Tensor& value, int64_t t, int64_t y, int64_t x, const Tensor& locations, const Tensor& weights,
                int64_t n) {
  Problem p{};
  p.value = entry(value, n), p.locations = entry(locations, n), p.weights = entry(weights, n);
  p.extent[0] = t, p.extent[1] = y, p.extent[2] = x;
  p.heads = value.size(1), p.cells = value.size(2), p.width = value.size(3);
  p.queries = locations.size(1), p.points = locations.size(3);
  return p;
}

// All dense float32; value [N, M, T H W, D], D a multiple of 16; out [N, Q, M, D].
void forward(Tensor value, int64_t t, int64_t y, int64_t x, Tensor locations, Tensor weights, Tensor out) {
  const Kernels& kernels = best(plain, avx2, avx512);
  for (int64_t n = 0; n < value.size(0); ++n) {
    Problem p = problem(value, t, y, x, locations, weights, n);
    p.out = entry(out, n);
    const int64_t blocks = (p.queries + kQueries - 1) / kQueries;
    parallel_tasks(blocks * p.heads, [&](int64_t, const auto& next) {
      Buffer<char> scratch(kernels.scratch_bytes(p));
      for (int64_t task; (task = next()) >= 0;) {
        const int64_t begin = task % blocks * kQueries, end = begin + kQueries;
        kernels.forward(p, task / blocks, begin, end < p.queries ? end : p.queries, scratch.get());
      }
    });
  }
}

// gradient as out; d_value as value, zeros.
void backward(Tensor gradient, Tensor value, int64_t t, int64_t y, int64_t x, Tensor locations, Tensor weights,
              Tensor d_value, Tensor d_locations, Tensor d_weights) {
  const Kernels& kernels = best(plain, avx2, avx512);
  const int64_t heads = value.size(1);
  parallel_tasks(value.size(0) * heads, [&](int64_t, const auto& next) {
    for (int64_t task; (task = next()) >= 0;) {
      const int64_t n = task / heads;
      Problem p = problem(value, t, y, x, locations, weights, n);
      p.gradient = entry(gradient, n), p.d_value = entry(d_value, n);
      p.d_locations = entry(d_locations, n), p.d_weights = entry(d_weights, n);
      Buffer<char> scratch(kernels.scratch_bytes(p));
      kernels.backward(p, task % heads, scratch.get());
    }
  });
}

}  // namespace
}  // namespace pliant::deform_attention3d

STABLE_TORCH_LIBRARY_FRAGMENT(pliant_native, m) {
  m.def(
      "deform_attention3d(Tensor value, int t, int y, int x, Tensor locations, Tensor weights, Tensor(a!) out) -> ()");
  m.def(
      "deform_attention3d_backward(Tensor gradient, Tensor value, int t, int y, int x, Tensor locations, "
      "Tensor weights, Tensor(a!) d_value, Tensor(b!) d_locations, Tensor(c!) d_weights) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(pliant_native, CompositeExplicitAutograd, m) {
  m.impl("deform_attention3d", TORCH_BOX(&pliant::deform_attention3d::forward));
  m.impl("deform_attention3d_backward", TORCH_BOX(&pliant::deform_attention3d::backward));
}
