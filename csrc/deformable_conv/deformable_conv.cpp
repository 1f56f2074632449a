// deform_conv2d, deform_conv3d and dynamic_dilated_conv3d: one kernel, two sources of coordinates.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <vector>

#include "../common/buffer.h"
#include "../common/instruction_set.h"
#include "../common/parallel.h"
#include "problem.h"

namespace pliant::deformable_conv {
namespace {

using torch::stable::Tensor;

const void* pointer(const std::optional<Tensor>& tensor) { return tensor ? tensor->const_data_ptr() : nullptr; }

// The numbers of a call, in the order that deformable_native.py writes them.
Problem read(const std::vector<int64_t>& numbers) {
  Problem p{};
  const int64_t* next = numbers.data();
  p.batch = *next++;
  for (int64_t* triple : {p.extent, p.out, p.kernel, p.stride, p.padding, p.dilation})
    for (int a = 0; a < 3; ++a) triple[a] = *next++;
  p.groups = *next++;
  p.offset_groups = *next++;
  p.segments = *next++;
  p.segment = *next++;
  p.outputs = *next++;
  p.outputs_padded = *next++;
  p.axes = *next++;
  p.dynamic = *next++ != 0;
  p.block = *next++;
  p.chunk = *next++;
  p.positions_padded = *next++;
  p.cells = p.extent[0] * p.extent[1] * p.extent[2];
  p.positions = p.out[0] * p.out[1] * p.out[2];
  p.taps = p.kernel[0] * p.kernel[1] * p.kernel[2];
  p.row = p.segments * p.segment;
  return p;
}

const Kernels& kernels_for(const Tensor& input) {
  using torch::headeronly::ScalarType;
#if defined(__x86_64__)
  if (input.scalar_type() == ScalarType::BFloat16) return amx_bfloat16;
  const Table& table = best(plain, avx2, avx512);
#else
  const Table& table = plain;
#endif
  return input.scalar_type() == ScalarType::Double ? table.float64 : table.float32;
}

void forward(const Tensor& input, const Tensor& coordinates, const Tensor& weight, const std::optional<Tensor>& bias,
             const std::optional<Tensor>& mask, Tensor output, const std::vector<int64_t>& numbers) {
  Problem p = read(numbers);
  p.input = input.const_data_ptr();
  p.coordinates = coordinates.const_data_ptr();
  p.weight = weight.const_data_ptr();
  p.bias = pointer(bias);
  p.mask = pointer(mask);
  p.output = output.mutable_data_ptr();
  const Kernels& kernels = kernels_for(input);
  const int64_t blocks = (p.positions + p.block - 1) / p.block;
  parallel_tasks(p.batch * blocks, [&](int64_t, const auto& next) {
    Buffer<char> scratch(kernels.forward_scratch(p));
    for (int64_t task = next(); task >= 0; task = next())
      kernels.forward(p, task / blocks, task % blocks, scratch.get());
  });
}

void backward(const Tensor& gradient, const std::optional<Tensor>& gradient_t, const Tensor& input,
              const Tensor& coordinates, const Tensor& weight, const std::optional<Tensor>& mask, Tensor d_input,
              Tensor d_coordinates, Tensor d_weight, const std::optional<Tensor>& d_mask,
              const std::vector<int64_t>& numbers) {
  Problem p = read(numbers);
  p.gradient = gradient.const_data_ptr();
  p.gradient_t = pointer(gradient_t);
  p.input = input.const_data_ptr();
  p.coordinates = coordinates.const_data_ptr();
  p.weight = weight.const_data_ptr();
  p.mask = pointer(mask);
  p.d_input = d_input.mutable_data_ptr();
  p.d_coordinates = d_coordinates.mutable_data_ptr();
  p.d_weight = d_weight.mutable_data_ptr();
  p.d_mask = d_mask ? d_mask->mutable_data_ptr() : nullptr;
  const Kernels& kernels = kernels_for(input);
  parallel_tasks(p.row / p.chunk, [&](int64_t, const auto& next) {
    Buffer<char> scratch(kernels.backward_scratch(p));
    for (int64_t task = next(); task >= 0; task = next()) kernels.backward(p, task, scratch.get());
  });
}

}  // namespace
}  // namespace pliant::deformable_conv

STABLE_TORCH_LIBRARY_FRAGMENT(pliant_native, m) {
  m.def(
      "deformable_conv(Tensor input, Tensor coordinates, Tensor weight, Tensor? bias, Tensor? mask, "
      "Tensor(a!) output, int[] numbers) -> ()");
  m.def(
      "deformable_conv_backward(Tensor gradient, Tensor? gradient_t, Tensor input, Tensor coordinates, "
      "Tensor weight, Tensor? mask, Tensor(a!) d_input, Tensor(b!) d_coordinates, Tensor(c!) d_weight, "
      "Tensor(d!)? d_mask, int[] numbers) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(pliant_native, CPU, m) {
  m.impl("deformable_conv", TORCH_BOX(&pliant::deformable_conv::forward));
  m.impl("deformable_conv_backward", TORCH_BOX(&pliant::deformable_conv::backward));
}
