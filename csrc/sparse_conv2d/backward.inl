// Included by one source file an instruction set, which defines PLIANT_KERNELS.
#include "common/matrix.h"
#include "sparse_conv2d/backward.h"

namespace {

using pliant::sparse_conv2d_backward::kOutputs;
using pliant::sparse_conv2d_backward::Problem;

constexpr int kGroup = 16;                               // channels
constexpr int kVectors = kGroup / lanes<float>;  // a group

// The row of gradient whose window has this tap at input (y, x), or -1.
inline int64_t row_at(const Problem& p, int64_t sample, int64_t y, int64_t x, int64_t tap_y, int64_t tap_x) {
  const int64_t down = y + p.padding_y - tap_y, right = x + p.padding_x - tap_x;
  if (down < 0 || right < 0 || down % p.stride_y || right % p.stride_x) return -1;
  const int64_t out_y = down / p.stride_y, out_x = right / p.stride_x;
  if (out_y >= p.out_height || out_x >= p.out_width) return -1;
  return p.place[(sample * p.out_height + out_y) * p.out_width + out_x];
}

template <int groups>
void input_block(const Problem& p, int64_t sample, int64_t y, int64_t x, int64_t channel) {
  constexpr int count = groups * kVectors;
  Vector<float> sum[count] = {};
  for (int64_t tap_y = 0; tap_y < p.kernel_height; ++tap_y)
    for (int64_t tap_x = 0; tap_x < p.kernel_width; ++tap_x) {
      const int64_t row = row_at(p, sample, y, x, tap_y, tap_x);
      if (row < 0) continue;
      const float* gradient = p.gradient + row * p.outputs;
      const float* weight = p.weight + (tap_y * p.kernel_width + tap_x) * p.outputs * p.channels + channel;
      for (int64_t o = 0; o < p.outputs; ++o) {
        const Vector<float> factor = splat(gradient[o]);
#pragma GCC unroll 16
        for (int v = 0; v < count; ++v) sum[v] += factor * load(weight + o * p.channels + v * lanes<float>);
      }
    }
  float* to = p.d_input + ((sample * p.height + y) * p.width + x) * p.channels + channel;
#pragma GCC unroll 16
  for (int v = 0; v < count; ++v) store(to + v * lanes<float>, sum[v]);
}

void input_row(const Problem& p, int64_t sample, int64_t y) {
  for (int64_t x = 0; x < p.width; ++x) {
    int64_t channel = 0;
    for (; channel + 4 * kGroup <= p.channels; channel += 4 * kGroup) input_block<4>(p, sample, y, x, channel);
    for (; channel < p.channels; channel += kGroup) input_block<1>(p, sample, y, x, channel);
  }
}

// Positions of a product: a strip of their pixels, 24 KB, stays in the first-level cache.
constexpr int64_t kPositions = 96;

int64_t weight_scratch(const Problem& p) { return kPositions * (kOutputs + p.channels + kGroup) * sizeof(float); }

// The outer products of gradient and input over the positions, a block of them at a time: gathered into two panels,
// [position][output] and [position][channel], and multiplied.
void weight_block(const Problem& p, int64_t tap, int64_t first, int64_t last, void* scratch) {
  const int64_t tap_y = tap / p.kernel_width, tap_x = tap % p.kernel_width, outputs = last - first;
  const int64_t pixel_step = p.channels + kGroup;  // no multiple of 4 KB
  float* gradients = static_cast<float*>(scratch);
  float* pixels = gradients + kPositions * kOutputs;
  float* sums = p.d_weight + (tap * p.outputs + first) * p.channels;
  int64_t count = 0;
  const auto add = [&] {
    for (int64_t channel = 0; channel < p.channels; channel += strip<float>) {
      const int64_t wide = p.channels - channel < strip<float> ? p.channels - channel : strip<float>;
      multiply_strip<float, false>({gradients, 1, kOutputs, pixels + channel, pixel_step, count, sums + channel, p.channels},
                                   outputs, wide / lanes<float>);
    }
    count = 0;
  };
  for (int64_t sample = 0; sample < p.samples; ++sample)
    for (int64_t out_y = 0; out_y < p.out_height; ++out_y)
      for (int64_t out_x = 0; out_x < p.out_width; ++out_x) {
        const int64_t row = p.place[(sample * p.out_height + out_y) * p.out_width + out_x];
        if (row < 0) continue;
        const float* gradient = p.gradient + row * p.outputs;
        if (tap == 0)
          for (int64_t o = first; o < last; ++o) p.d_bias[o] += gradient[o];
        const int64_t y = out_y * p.stride_y - p.padding_y + tap_y, x = out_x * p.stride_x - p.padding_x + tap_x;
        if (y < 0 || y >= p.height || x < 0 || x >= p.width) continue;
        const float* pixel = p.input + ((sample * p.height + y) * p.width + x) * p.channels;
        __builtin_memcpy(gradients + count * kOutputs, gradient + first, outputs * sizeof(float));
        __builtin_memcpy(pixels + count * pixel_step, pixel, p.channels * sizeof(float));
        if (++count == kPositions) add();
      }
  if (count) add();
}

}  // namespace

namespace pliant::sparse_conv2d_backward {

const Kernels PLIANT_KERNELS{input_row, weight_scratch, weight_block};

}  // namespace pliant::sparse_conv2d_backward
