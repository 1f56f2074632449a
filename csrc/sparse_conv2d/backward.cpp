// Entry from Python: gradients of the sparse convolution by input, weight and bias.
#include "sparse_conv2d/backward.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include "common/buffer.h"
#include "common/instruction_set.h"
#include "common/parallel.h"

namespace pliant::sparse_conv2d_backward {
namespace {

using torch::stable::Tensor;

float* floats(const Tensor& tensor) { return static_cast<float*>(tensor.data_ptr()); }

// input, d_input [N, H, W, C], weight, d_weight [kh kw, O, C], gradient [P, O], place [N, Ho, Wo] int32, d_bias [O];
// dense, C a multiple of 16, d_weight and d_bias zeros. by_input, by_weight: what is wanted.
void backward(Tensor gradient, Tensor place, Tensor input, Tensor weight, int64_t kernel_height, int64_t kernel_width,
              int64_t stride_y, int64_t stride_x, int64_t padding_y, int64_t padding_x, bool by_input, bool by_weight,
              Tensor d_input, Tensor d_weight, Tensor d_bias) {
  const Kernels& kernels = best(plain, avx2, avx512);
  const Problem p{floats(gradient), static_cast<const int32_t*>(place.data_ptr()), floats(input), floats(weight),
                  floats(d_input), floats(d_weight), floats(d_bias),
                  input.size(0), input.size(1), input.size(2), input.size(3), weight.size(1),
                  place.size(1), place.size(2),
                  kernel_height, kernel_width, stride_y, stride_x, padding_y, padding_x};
  if (by_input)
    parallel_tasks(p.samples * p.height, [&](int64_t, const auto& next) {
      for (int64_t task; (task = next()) >= 0;) kernels.input_row(p, task / p.height, task % p.height);
    });
  if (by_weight) {
    const int64_t blocks = (p.outputs + kOutputs - 1) / kOutputs;
    parallel_tasks(blocks * kernel_height * kernel_width, [&](int64_t, const auto& next) {
      Buffer<char> scratch(kernels.weight_scratch(p));
      for (int64_t task; (task = next()) >= 0;) {
        const int64_t first = task % blocks * kOutputs, last = first + kOutputs;
        kernels.weight_block(p, task / blocks, first, last < p.outputs ? last : p.outputs, scratch.get());
      }
    });
  }
}

}  // namespace
}  // namespace pliant::sparse_conv2d_backward

STABLE_TORCH_LIBRARY_FRAGMENT(pliant_native, m) {
  m.def(
      "sparse_conv2d_backward(Tensor gradient, Tensor place, Tensor input, Tensor weight, int kernel_height, "
      "int kernel_width, int stride_y, int stride_x, int padding_y, int padding_x, bool by_input, bool by_weight, "
      "Tensor(a!) d_input, Tensor(b!) d_weight, Tensor(c!) d_bias) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(pliant_native, CompositeExplicitAutograd, m) {
  m.impl("sparse_conv2d_backward", TORCH_BOX(&pliant::sparse_conv2d_backward::backward));
}
