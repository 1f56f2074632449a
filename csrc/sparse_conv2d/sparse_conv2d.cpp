// Entry from Python: lists the computed positions, cuts the work, copies or clears the others.
#include "sparse_conv2d.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstring>
#include <optional>
#include <vector>

#include "common/buffer.h"
#include "common/instruction_set.h"
#include "common/parallel.h"

namespace pliant::sparse_conv2d {
namespace {

using torch::stable::Tensor;

constexpr uint8_t kReuse = 1, kCompute = 2;
constexpr int64_t kCopyBlock = 2048;  // positions a task of copying

const Kernels& kernels_for(const Tensor& tensor) {
  if (tensor.scalar_type() != torch::headeronly::ScalarType::BFloat16)
    return best(float32_plain, float32_avx2, float32_avx512);
  STD_TORCH_CHECK(bfloat16_products(), "sparse_conv2d: bfloat16 needs AVX512_BF16 or AMX");
  return instruction_set() == InstructionSet::amx ? bfloat16_amx : bfloat16_avx512;
}

Problem shape_of(const Tensor& weight) {
  Problem p{};
  p.outputs = weight.size(0), p.channels = weight.size(1);
  p.kernel_height = weight.size(2), p.kernel_width = weight.size(3);
  return p;
}

// How many elements pack() needs.
int64_t packed_elements(Tensor weight) { return kernels_for(weight).packed_elements(shape_of(weight)); }

// weight [O, C, kh, kw], contiguous, into `packed`, in the order of the kernels in use now.
void pack(Tensor weight, Tensor packed) {
  kernels_for(weight).pack(weight.data_ptr(), shape_of(weight), packed.data_ptr());
}

std::vector<int32_t> list_computed(const uint8_t* policy, int64_t count) {
  std::vector<int32_t> found(count + 1);
  int64_t n = 0;
  for (int64_t i = 0; i < count; ++i) {  // no branch: the next write takes the place of a position not wanted
    found[n] = static_cast<int32_t>(i);
    n += policy[i] == kCompute;
  }
  found.resize(n);
  return found;
}

// Positions from begin to end that are not computed, run by run; `previous` null: reuse is cleared as well, or, in
// place, left as it is.
void fill_others(const uint8_t* policy, int64_t begin, int64_t end, int64_t bytes, const char* previous, bool in_place,
                 char* out) {
  while (begin < end) {
    int64_t stop = begin + 1;
    while (stop < end && policy[stop] == policy[begin]) ++stop;
    char* to = out + begin * bytes;
    if (policy[begin] == kReuse && previous) memcpy(to, previous + begin * bytes, (stop - begin) * bytes);
    else if (policy[begin] != kCompute && !(policy[begin] == kReuse && in_place)) memset(to, 0, (stop - begin) * bytes);
    begin = stop;
  }
}

// Channels-last dense tensors; policy contiguous; `packed` by pack(); bias float32. In place: `previous` is null and
// `out` holds it.
void sparse_conv2d(Tensor input, Tensor packed, int64_t kernel_height, int64_t kernel_width, std::optional<Tensor> bias,
                   Tensor policy, std::optional<Tensor> previous, int64_t stride_y, int64_t stride_x, int64_t padding_y,
                   int64_t padding_x, std::optional<Tensor> residual, bool relu, bool in_place, Tensor out) {
  const Kernels& kernels = kernels_for(input);
  Problem p{};
  p.input = input.data_ptr(), p.weight = packed.data_ptr(), p.output = out.data_ptr();
  p.residual = residual ? residual->data_ptr() : nullptr;
  p.bias = bias ? static_cast<const float*>(bias->data_ptr()) : nullptr;
  p.channels = input.size(1), p.height = input.size(2), p.width = input.size(3);
  p.outputs = out.size(1), p.out_height = out.size(2), p.out_width = out.size(3);
  p.kernel_height = kernel_height, p.kernel_width = kernel_width;
  p.stride_y = stride_y, p.stride_x = stride_x, p.padding_y = padding_y, p.padding_x = padding_x;
  p.relu = relu;

  const auto* choices = static_cast<const uint8_t*>(policy.data_ptr());
  const auto* before = previous ? static_cast<const char*>(previous->data_ptr()) : nullptr;
  const int64_t places = policy.numel();
  const std::vector<int32_t> positions = list_computed(choices, places);
  const int64_t count = static_cast<int64_t>(positions.size());

  // Smaller blocks, then a share of the outputs each, until there is work for all threads.
  const int64_t wanted = 2 * torch::stable::get_num_threads();
  const int64_t strips = (p.outputs + kernels.column_step - 1) / kernels.column_step;
  int64_t rows = kernels.row_block, splits = 1;
  while (rows > 64 && count < rows * (wanted - 1)) rows = rows / 2 / kernels.row_step * kernels.row_step;
  const int64_t blocks = (count + rows - 1) / rows;
  while (blocks * splits < wanted && splits * 2 <= strips) splits *= 2;
  const int64_t columns = (strips + splits - 1) / splits * kernels.column_step;
  const int64_t computing = blocks * splits, copying = (places + kCopyBlock - 1) / kCopyBlock;

  parallel_tasks(computing + copying, [&](int64_t, const auto& next) {
    Buffer<char> scratch(kernels.scratch_bytes(p));
    for (int64_t task; (task = next()) >= 0;) {
      if (task >= computing) {
        const int64_t begin = (task - computing) * kCopyBlock;
        fill_others(choices, begin, begin + kCopyBlock < places ? begin + kCopyBlock : places,
                    p.outputs * kernels.element, before, in_place, static_cast<char*>(out.data_ptr()));
        continue;
      }
      const int64_t first = task / splits * rows, begin = task % splits * columns;
      const int64_t end = begin + columns < strips * kernels.column_step ? begin + columns : strips * kernels.column_step;
      if (begin < end)
        kernels.compute(p, positions.data() + first, count - first < rows ? count - first : rows, begin, end,
                        scratch.get());
    }
  });
}

}  // namespace
}  // namespace pliant::sparse_conv2d

STABLE_TORCH_LIBRARY_FRAGMENT(pliant_native, m) {
  m.def("sparse_conv2d_packed_elements(Tensor weight) -> int");
  m.def("sparse_conv2d_pack(Tensor weight, Tensor(a!) packed) -> ()");
  m.def(
      "sparse_conv2d(Tensor input, Tensor packed, int kernel_height, int kernel_width, Tensor? bias, Tensor policy, "
      "Tensor? previous, int stride_y, int stride_x, int padding_y, int padding_x, Tensor? residual, bool relu, "
      "bool in_place, Tensor(a!) out) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(pliant_native, CompositeExplicitAutograd, m) {
  m.impl("sparse_conv2d_packed_elements", TORCH_BOX(&pliant::sparse_conv2d::packed_elements));
  m.impl("sparse_conv2d_pack", TORCH_BOX(&pliant::sparse_conv2d::pack));
  m.impl("sparse_conv2d", TORCH_BOX(&pliant::sparse_conv2d::sparse_conv2d));
}
