// Entry from Python: decisions of triple gates, what skipped positions hold, the end of a residual block.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstring>
#include <optional>

#include "common/bfloat16.h"
#include "common/buffer.h"
#include "common/instruction_set.h"
#include "common/parallel.h"
#include "sparse_gates/rows.h"
#include "sparse_gates/triple_gate.h"

namespace pliant::sparse_gates {
namespace {

using torch::stable::Tensor;

constexpr int64_t kBlock = 4096;         // positions a task
constexpr int64_t kElements = 1 << 16;  // elements a task of adding
constexpr int64_t kGateRows = 4;         // rows of the output a task of a gate

template <class Body>
void by_blocks(int64_t count, int64_t block, const Body& body) {
  parallel_tasks((count + block - 1) / block, [&](int64_t, const auto& next) {
    for (int64_t task; (task = next()) >= 0;)
      body(task * block, (task + 1) * block < count ? (task + 1) * block : count);
  });
}

bool is_half(const Tensor& tensor) { return tensor.scalar_type() == torch::headeronly::ScalarType::BFloat16; }

// Where the largest of three scores is, the first of equals. scores: six a position, three of the current input and
// three that the next frame will add; carried: three a position, of the previous input.
template <class T>
void decide(const T* scores, const float* carried, const float* bias, int64_t begin, int64_t end, uint8_t* policy,
            float* following) {
  for (int64_t i = begin; i < end; ++i) {
    const float skip = to_float(scores[6 * i]) + carried[3 * i] + bias[0];
    const float reuse = to_float(scores[6 * i + 1]) + carried[3 * i + 1] + bias[1];
    const float compute = to_float(scores[6 * i + 2]) + carried[3 * i + 2] + bias[2];
    policy[i] = compute > skip && compute > reuse ? 2 : reuse > skip;
    for (int64_t k = 0; k < 3; ++k) following[3 * i + k] = to_float(scores[6 * i + 3 + k]);
  }
}

// scores [N, 6, H, W] channels-last, float32 or bfloat16; carried, following [N, 3, H, W] channels-last, float32.
void triple_policy(Tensor scores, Tensor carried, Tensor bias, Tensor policy, Tensor following) {
  const auto* before = static_cast<const float*>(carried.data_ptr());
  const auto* offset = static_cast<const float*>(bias.data_ptr());
  auto* choices = static_cast<uint8_t*>(policy.data_ptr());
  auto* after = static_cast<float*>(following.data_ptr());
  by_blocks(policy.numel(), kBlock, [&](int64_t begin, int64_t end) {
    if (is_half(scores)) decide(static_cast<const BFloat16*>(scores.data_ptr()), before, offset, begin, end, choices, after);
    else decide(static_cast<const float*>(scores.data_ptr()), before, offset, begin, end, choices, after);
  });
}

// input [N, C, H, W] channels-last; weight [6, C, kh, kw] channels-last, of input's type: three scores of the current
// input, three that the next frame will add. policy null: only the latter, into `following`; else as triple_policy.
void triple_gate(Tensor input, Tensor weight, Tensor bias, std::optional<Tensor> carried, int64_t stride_y,
                 int64_t stride_x, int64_t padding_y, int64_t padding_x, std::optional<Tensor> policy,
                 Tensor following) {
  STD_TORCH_CHECK(input.size(1) % kGateChannels == 0, "triple_gate: channels must be a multiple of ", kGateChannels);
  STD_TORCH_CHECK(!is_half(input) || bfloat16_products(), "triple_gate: bfloat16 needs AVX512_BF16");
#if defined(__x86_64__)
  const GateKernels& kernels = is_half(input) ? gate_bfloat16 : best(gate_plain, gate_avx2, gate_avx512);
#else
  const GateKernels& kernels = gate_plain;
#endif
  Gate g{};
  g.input = input.data_ptr(), g.weight = weight.data_ptr();
  g.bias = static_cast<const float*>(bias.data_ptr());
  g.carried = carried ? static_cast<const float*>(carried->data_ptr()) : nullptr;
  g.policy = policy ? static_cast<uint8_t*>(policy->data_ptr()) : nullptr;
  g.following = static_cast<float*>(following.data_ptr());
  g.channels = input.size(1), g.height = input.size(2), g.width = input.size(3);
  g.out_height = following.size(2), g.out_width = following.size(3);
  g.kernel_height = weight.size(2), g.kernel_width = weight.size(3);
  g.stride_y = stride_y, g.stride_x = stride_x, g.padding_y = padding_y, g.padding_x = padding_x;
  by_blocks(input.size(0) * g.out_height, kGateRows, [&](int64_t begin, int64_t end) {
    Buffer<char> scratch(kernels.scratch_bytes(g));
    kernels.run(g, begin, end, scratch.get());
  });
}

// Rows of `out` (channels-last) whose policy is 0 and was not before; `value` null: zeros.
void fill_skipped(Tensor policy, std::optional<Tensor> before, std::optional<Tensor> value, Tensor out) {
  const auto* now = static_cast<const uint8_t*>(policy.data_ptr());
  const auto* then = before ? static_cast<const uint8_t*>(before->data_ptr()) : nullptr;
  const auto* row = value ? static_cast<const char*>(value->data_ptr()) : nullptr;
  const int64_t bytes = out.size(1) * (is_half(out) ? 2 : 4);
  auto* to = static_cast<char*>(out.data_ptr());
  by_blocks(policy.numel(), kBlock / 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (now[i] != 0 || (then && then[i] == 0)) continue;
      if (row) memcpy(to + i * bytes, row, bytes);
      else memset(to + i * bytes, 0, bytes);
    }
  });
}

// out = max(a + b, 0); all dense and of one layout.
void add_relu(Tensor a, Tensor b, Tensor out) {
  const Kernels& kernels = best(plain, avx2, avx512);
  const auto run = is_half(out) ? kernels.add_relu_bfloat16 : kernels.add_relu_float32;
  const int64_t bytes = is_half(out) ? 2 : 4;
  by_blocks(out.numel(), kElements, [&](int64_t begin, int64_t end) {
    run(static_cast<const char*>(a.data_ptr()) + begin * bytes, static_cast<const char*>(b.data_ptr()) + begin * bytes,
        static_cast<char*>(out.data_ptr()) + begin * bytes, end - begin);
  });
}

}  // namespace
}  // namespace pliant::sparse_gates

STABLE_TORCH_LIBRARY_FRAGMENT(pliant_native, m) {
  m.def("triple_policy(Tensor scores, Tensor carried, Tensor bias, Tensor(a!) policy, Tensor(b!) following) -> ()");
  m.def(
      "triple_gate(Tensor input, Tensor weight, Tensor bias, Tensor? carried, int stride_y, int stride_x, "
      "int padding_y, int padding_x, Tensor(a!)? policy, Tensor(b!) following) -> ()");
  m.def("fill_skipped(Tensor policy, Tensor? before, Tensor? value, Tensor(a!) out) -> ()");
  m.def("add_relu(Tensor a, Tensor b, Tensor(a!) out) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(pliant_native, CompositeExplicitAutograd, m) {
  m.impl("triple_policy", TORCH_BOX(&pliant::sparse_gates::triple_policy));
  m.impl("triple_gate", TORCH_BOX(&pliant::sparse_gates::triple_gate));
  m.impl("fill_skipped", TORCH_BOX(&pliant::sparse_gates::fill_skipped));
  m.impl("add_relu", TORCH_BOX(&pliant::sparse_gates::add_relu));
}
