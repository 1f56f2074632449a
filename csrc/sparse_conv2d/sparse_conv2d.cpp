// Entry from Python: lists the computed positions, cuts the work, copies or clears the others.
#include "sparse_conv2d.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <atomic>
#include <cstring>
#include <optional>
#include <vector>

#include "common/buffer.h"
#include "common/instruction_set.h"
#include "common/parallel.h"
#include "winograd.h"

namespace pliant::sparse_conv2d {
namespace {

using torch::stable::Tensor;

constexpr uint8_t kReuse = 1, kCompute = 2;
constexpr int64_t kCopyBlock = 2048;  // positions a task of copying
constexpr int64_t kTileCost = 19, kPositionCost = 9;  // multiplications a channel, the transforms counted in

const Kernels& kernels_for(const Tensor& tensor) {
  const bool half = tensor.scalar_type() == torch::headeronly::ScalarType::BFloat16;
  STD_TORCH_CHECK(!half || bfloat16_products(), "sparse_conv2d: bfloat16 needs AVX512_BF16 or AMX");
#if defined(__x86_64__)
  if (half) return instruction_set() == InstructionSet::amx ? bfloat16_amx : bfloat16_avx512;
#endif
  return best(float32_plain, float32_avx2, float32_avx512);
}

const TileKernels& tile_kernels() { return best(winograd_plain, winograd_avx2, winograd_avx512); }

Problem shape_of(const Tensor& weight) {
  Problem p{};
  p.outputs = weight.size(0), p.channels = weight.size(1);
  p.kernel_height = weight.size(2), p.kernel_width = weight.size(3);
  return p;
}

// How many elements pack() needs.
int64_t packed_elements(Tensor weight, bool tiled) {
  const Problem p = shape_of(weight);
  return tiled ? tile_kernels().packed_elements(p) : kernels_for(weight).packed_elements(p);
}

// weight [O, C, kh, kw], contiguous, into `packed`, in the order of the kernels in use now.
void pack(Tensor weight, bool tiled, Tensor packed) {
  const Problem p = shape_of(weight);
  if (!tiled) return kernels_for(weight).pack(weight.data_ptr(), p, packed.data_ptr());
  const TileKernels& kernels = tile_kernels();
  parallel_tasks((p.outputs + kernels.column_step - 1) / kernels.column_step, [&](int64_t, const auto& next) {
    for (int64_t task; (task = next()) >= 0;)
      kernels.pack(static_cast<const float*>(weight.data_ptr()), p, task * kernels.column_step,
                   static_cast<float*>(packed.data_ptr()));
  });
}

// Tiles of 2 x 2 positions with a computed one among them, of a policy [N, 1, height, width]; null: all are computed.
std::vector<Tile> list_tiles(const uint8_t* policy, int64_t batch, int64_t height, int64_t width) {
  std::vector<Tile> found(batch * ((height + 1) / 2) * ((width + 1) / 2) + 1);
  int64_t n = 0;
  for (int64_t image = 0; image < batch; ++image)
    for (int64_t y = 0; y < height; y += 2) {
      const uint8_t* upper = policy ? policy + (image * height + y) * width : nullptr;
      const bool low = y + 1 < height;
      for (int64_t x = 0; x < width; x += 2) {  // no branch on what is computed, as below
        const bool right = x + 1 < width;
        const int there = (low ? 0xf : 0x3) & (right ? 0xf : 0x5);
        const int computed = policy ? (upper[x] == kCompute) | (upper[x + right] == kCompute) << 1 |
                                          (upper[x + low * width] == kCompute) << 2 |
                                          (upper[x + low * width + right] == kCompute) << 3
                                    : 0xf;
        found[n] = {static_cast<int32_t>(image), static_cast<int32_t>(y), static_cast<int32_t>(x),
                    static_cast<uint8_t>(computed & there)};
        n += (computed & there) != 0;
      }
    }
  found.resize(n);
  return found;
}

// Whether tiles of 2 x 2 are less work than the positions one by one: 16 products against 9, and the transforms.
bool tiles_pay(Tensor policy) {
  const auto* choices = static_cast<const uint8_t*>(policy.data_ptr());
  const auto tiles = list_tiles(choices, policy.size(0), policy.size(2), policy.size(3));
  int64_t positions = 0;
  for (const Tile& tile : tiles) positions += __builtin_popcount(tile.wanted);
  return kTileCost * static_cast<int64_t>(tiles.size()) < kPositionCost * positions;
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

// How the work is cut: `blocks` of at most `rows` positions or tiles, each in `splits` parts of `columns` outputs.
struct Cut {
  int64_t rows, blocks, splits, columns;
};

// First a share of the outputs each, since then the weights are read once, then smaller blocks, until there is work
// for all threads; blocks of equal size, in whole register tiles of `row_step`.
Cut cut(int64_t count, int64_t row_step, int64_t row_block, int64_t outputs, int64_t column_step) {
  const int64_t threads = torch::stable::get_num_threads(), wanted = threads > 1 ? 2 * threads : 1;
  const int64_t strips = (outputs + column_step - 1) / column_step, steps = (count + row_step - 1) / row_step;
  Cut c{};
  c.blocks = (count + row_block - 1) / row_block;
  if (c.blocks * strips < wanted) c.blocks = (wanted + strips - 1) / strips;
  if (c.blocks > steps) c.blocks = steps;
  if (c.blocks == 0) return c;
  c.rows = (steps + c.blocks - 1) / c.blocks * row_step;
  c.blocks = (count + c.rows - 1) / c.rows;
  c.splits = (wanted + c.blocks - 1) / c.blocks;
  if (c.splits > strips) c.splits = strips;
  c.columns = (strips + c.splits - 1) / c.splits * column_step;
  c.splits = (strips * column_step + c.columns - 1) / c.columns;
  return c;
}

// Channels-last dense tensors; policy contiguous, or, tiled, null: compute everywhere; `packed` by pack() with the same
// `tiled`; bias float32. In place: `previous` is null and `out` holds it. False: tiled, and a result is not finite (see
// TileKernels).
bool sparse_conv2d(Tensor input, Tensor packed, bool tiled, int64_t kernel_height, int64_t kernel_width,
                   std::optional<Tensor> bias, std::optional<Tensor> policy, std::optional<Tensor> previous,
                   int64_t stride_y, int64_t stride_x, int64_t padding_y, int64_t padding_x,
                   std::optional<Tensor> residual, bool relu, bool in_place, Tensor out) {
  Problem p{};
  p.input = input.data_ptr(), p.weight = packed.data_ptr(), p.output = out.data_ptr();
  p.residual = residual ? residual->data_ptr() : nullptr;
  p.bias = bias ? static_cast<const float*>(bias->data_ptr()) : nullptr;
  p.channels = input.size(1), p.height = input.size(2), p.width = input.size(3);
  p.outputs = out.size(1), p.out_height = out.size(2), p.out_width = out.size(3);
  p.kernel_height = kernel_height, p.kernel_width = kernel_width;
  p.stride_y = stride_y, p.stride_x = stride_x, p.padding_y = padding_y, p.padding_x = padding_x;
  p.relu = relu;

  const auto* choices = policy ? static_cast<const uint8_t*>(policy->data_ptr()) : nullptr;
  const auto* before = previous ? static_cast<const char*>(previous->data_ptr()) : nullptr;
  const int64_t places = policy ? policy->numel() : 0, copying = (places + kCopyBlock - 1) / kCopyBlock;
  const auto copy = [&](int64_t task) {
    const int64_t begin = task * kCopyBlock, end = begin + kCopyBlock < places ? begin + kCopyBlock : places;
    fill_others(choices, begin, end, p.outputs * out.element_size(), before, in_place, static_cast<char*>(out.data_ptr()));
  };
  // compute(first, count, begin, end, scratch): positions or tiles from `first` on, outputs from `begin` to `end`.
  const auto run = [&](const Cut& c, int64_t count, int64_t scratch_bytes, const auto& compute) {
    const int64_t computing = c.blocks * c.splits;
    parallel_tasks(computing + copying, [&](int64_t, const auto& next) {
      Buffer<char> scratch(scratch_bytes);
      for (int64_t task; (task = next()) >= 0;) {
        if (task >= computing) {
          copy(task - computing);
          continue;
        }
        const int64_t first = task / c.splits * c.rows, begin = task % c.splits * c.columns;
        compute(first, count - first < c.rows ? count - first : c.rows, begin, begin + c.columns, scratch.get());
      }
    });
  };

  if (tiled) {
    const TileKernels& kernels = tile_kernels();
    const std::vector<Tile> tiles = list_tiles(choices, out.size(0), p.out_height, p.out_width);
    const int64_t count = static_cast<int64_t>(tiles.size());
    std::atomic<bool> finite{true};
    run(cut(count, kTileRows, kTileBlock, p.outputs, kernels.column_step), count, kernels.scratch_bytes(p),
        [&](int64_t first, int64_t number, int64_t begin, int64_t end, void* scratch) {
          end = end < p.outputs ? end : p.outputs;
          if (!kernels.compute(p, tiles.data() + first, number, begin, end, scratch)) finite = false;
        });
    return finite;
  }
  const Kernels& kernels = kernels_for(input);
  const std::vector<int32_t> positions = list_computed(choices, places);
  const int64_t count = static_cast<int64_t>(positions.size());
  const int64_t padded = (p.outputs + kernels.column_step - 1) / kernels.column_step * kernels.column_step;
  run(cut(count, kernels.row_step, kernels.row_block, p.outputs, kernels.column_step), count, kernels.scratch_bytes(p),
      [&](int64_t first, int64_t number, int64_t begin, int64_t end, void* scratch) {
        kernels.compute(p, positions.data() + first, number, begin, end < padded ? end : padded, scratch);
      });
  return true;
}

}  // namespace
}  // namespace pliant::sparse_conv2d

STABLE_TORCH_LIBRARY_FRAGMENT(pliant_native, m) {
  m.def("sparse_conv2d_tiles_pay(Tensor policy) -> bool");
  m.def("sparse_conv2d_packed_elements(Tensor weight, bool tiled) -> int");
  m.def("sparse_conv2d_pack(Tensor weight, bool tiled, Tensor(a!) packed) -> ()");
  m.def(
      "sparse_conv2d(Tensor input, Tensor packed, bool tiled, int kernel_height, int kernel_width, Tensor? bias, Tensor? policy, "
      "Tensor? previous, int stride_y, int stride_x, int padding_y, int padding_x, Tensor? residual, bool relu, "
      "bool in_place, Tensor(a!) out) -> bool");
}

STABLE_TORCH_LIBRARY_IMPL(pliant_native, CompositeExplicitAutograd, m) {
  m.impl("sparse_conv2d_tiles_pay", TORCH_BOX(&pliant::sparse_conv2d::tiles_pay));
  m.impl("sparse_conv2d_packed_elements", TORCH_BOX(&pliant::sparse_conv2d::packed_elements));
  m.impl("sparse_conv2d_pack", TORCH_BOX(&pliant::sparse_conv2d::pack));
  m.impl("sparse_conv2d", TORCH_BOX(&pliant::sparse_conv2d::sparse_conv2d));
}
