// Backward bilinear warp of planes by a field of displacements, and its gradients.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cmath>
#include <vector>

#include "common/bfloat16.h"
#include "common/parallel.h"

namespace pliant::warp {
namespace {

using torch::stable::Tensor;

// The four corners of every position of a row: where they lie in a plane (-1 where outside), by how much they count, and
// how that changes with y and x.
struct Row {
  explicit Row(int64_t width) : index(4 * width), weight(4 * width), by_y(4 * width), by_x(4 * width) {}
  std::vector<int64_t> index;
  std::vector<float> weight, by_y, by_x;
};

// dy, dx: the row's displacements. Positions that are outside, infinite or not a number have no corner.
void find_corners(Row& row, const float* dy, const float* dx, int64_t y, int64_t height, int64_t width) {
  for (int64_t x = 0; x < width; ++x) {
    const float at_y = static_cast<float>(y) + dy[x], at_x = static_cast<float>(x) + dx[x];
    const bool near = at_y > -1 && at_y < static_cast<float>(height) && at_x > -1 && at_x < static_cast<float>(width);
    const float floor_y = near ? std::floor(at_y) : 0, floor_x = near ? std::floor(at_x) : 0;
    const float part_y = at_y - floor_y, part_x = at_x - floor_x;
    for (int64_t corner = 0; corner < 4; ++corner) {
      const int64_t down = corner / 2, right = corner % 2;
      const int64_t at_row = static_cast<int64_t>(floor_y) + down, at_column = static_cast<int64_t>(floor_x) + right;
      const bool inside = near && at_row >= 0 && at_row < height && at_column >= 0 && at_column < width;
      const float weight_y = down ? part_y : 1 - part_y, weight_x = right ? part_x : 1 - part_x;
      const int64_t place = corner * width + x;
      row.index[place] = inside ? at_row * width + at_column : -1;
      row.weight[place] = weight_y * weight_x;
      row.by_y[place] = down ? weight_x : -weight_x;
      row.by_x[place] = right ? weight_y : -weight_y;
    }
  }
}

inline void store(float* to, float value) { *to = value; }
inline void store(BFloat16* to, float value) { *to = to_bfloat16(value); }

template <class T>
const T* read(const Tensor& tensor) { return static_cast<const T*>(tensor.data_ptr()); }

template <class T>
T* write(const Tensor& tensor) { return static_cast<T*>(tensor.data_ptr()); }

bool is_half(const Tensor& tensor) { return tensor.scalar_type() == torch::headeronly::ScalarType::BFloat16; }

// A task is a row of a sample, all its channels.
template <class T>
void forward_of(const Tensor& input, const Tensor& offset, const Tensor& out) {
  const int64_t channels = input.size(1), height = input.size(2), width = input.size(3), plane = height * width;
  parallel_tasks(input.size(0) * height, [&](int64_t, const auto& next) {
    Row row(width);
    for (int64_t task; (task = next()) >= 0;) {
      const int64_t n = task / height, y = task % height;
      const float* dy = read<float>(offset) + 2 * n * plane + y * width;
      find_corners(row, dy, dy + plane, y, height, width);
      for (int64_t c = 0; c < channels; ++c) {
        const T* from = read<T>(input) + (n * channels + c) * plane;
        T* to = write<T>(out) + (n * channels + c) * plane + y * width;
        for (int64_t x = 0; x < width; ++x) {
          float sum = 0;
          for (int64_t corner = 0; corner < 4; ++corner) {
            const int64_t place = corner * width + x;
            if (row.index[place] >= 0) sum += row.weight[place] * to_float(from[row.index[place]]);
          }
          store(to + x, sum);
        }
      }
    }
  });
}

// A task is a plane, so that no two add to one place; d_input is float32 and zero.
template <class T>
void spread_of(const Tensor& gradient, const Tensor& offset, const Tensor& d_input) {
  const int64_t channels = gradient.size(1), height = gradient.size(2), width = gradient.size(3);
  const int64_t plane = height * width;
  parallel_tasks(gradient.size(0) * channels, [&](int64_t, const auto& next) {
    Row row(width);
    for (int64_t task; (task = next()) >= 0;) {
      const float* dy = read<float>(offset) + 2 * (task / channels) * plane;
      const T* from = read<T>(gradient) + task * plane;
      float* to = write<float>(d_input) + task * plane;
      for (int64_t y = 0; y < height; ++y) {
        find_corners(row, dy + y * width, dy + plane + y * width, y, height, width);
        for (int64_t corner = 0; corner < 4; ++corner)
          for (int64_t x = 0; x < width; ++x) {
            const int64_t place = corner * width + x;
            if (row.index[place] >= 0) to[row.index[place]] += row.weight[place] * to_float(from[y * width + x]);
          }
      }
    }
  });
}

// A task is a row of a sample; d_offset is float32.
template <class T>
void steer_of(const Tensor& gradient, const Tensor& input, const Tensor& offset, const Tensor& d_offset) {
  const int64_t channels = input.size(1), height = input.size(2), width = input.size(3), plane = height * width;
  parallel_tasks(input.size(0) * height, [&](int64_t, const auto& next) {
    Row row(width);
    for (int64_t task; (task = next()) >= 0;) {
      const int64_t n = task / height, y = task % height, start = 2 * n * plane + y * width;
      const float* dy = read<float>(offset) + start;
      find_corners(row, dy, dy + plane, y, height, width);
      float* by_y = write<float>(d_offset) + start;
      float* by_x = by_y + plane;
      for (int64_t x = 0; x < width; ++x) by_y[x] = by_x[x] = 0;
      for (int64_t c = 0; c < channels; ++c) {
        const T* values = read<T>(input) + (n * channels + c) * plane;
        const T* slope = read<T>(gradient) + (n * channels + c) * plane + y * width;
        for (int64_t corner = 0; corner < 4; ++corner)
          for (int64_t x = 0; x < width; ++x) {
            const int64_t place = corner * width + x;
            if (row.index[place] < 0) continue;
            const float product = to_float(slope[x]) * to_float(values[row.index[place]]);
            by_y[x] += row.by_y[place] * product;
            by_x[x] += row.by_x[place] * product;
          }
      }
    }
  });
}

// All dense: input, out [N, C, H, W] float32 or bfloat16; offset [N, 2, H, W] float32.
void forward(Tensor input, Tensor offset, Tensor out) {
  if (is_half(input)) forward_of<BFloat16>(input, offset, out);
  else forward_of<float>(input, offset, out);
}

// gradient as input; d_input float32, zeros; d_offset float32.
void spread(Tensor gradient, Tensor offset, Tensor d_input) {
  if (is_half(gradient)) spread_of<BFloat16>(gradient, offset, d_input);
  else spread_of<float>(gradient, offset, d_input);
}

void steer(Tensor gradient, Tensor input, Tensor offset, Tensor d_offset) {
  if (is_half(input)) steer_of<BFloat16>(gradient, input, offset, d_offset);
  else steer_of<float>(gradient, input, offset, d_offset);
}

}  // namespace
}  // namespace pliant::warp

STABLE_TORCH_LIBRARY_FRAGMENT(pliant_native, m) {
  m.def("warp(Tensor input, Tensor offset, Tensor(a!) out) -> ()");
  m.def("warp_d_input(Tensor gradient, Tensor offset, Tensor(a!) d_input) -> ()");
  m.def("warp_d_offset(Tensor gradient, Tensor input, Tensor offset, Tensor(a!) d_offset) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(pliant_native, CompositeExplicitAutograd, m) {
  m.impl("warp", TORCH_BOX(&pliant::warp::forward));
  m.impl("warp_d_input", TORCH_BOX(&pliant::warp::spread));
  m.impl("warp_d_offset", TORCH_BOX(&pliant::warp::steer));
}
