// Backward for float and double. A task is a chunk of input channels: the gradients of these channels and of their
// weights belong to it alone, so nothing is shared and the sums are the same for any number of threads.
//
// For each block of positions and each tap:
//   G = g W               gradient of the sampled values, [positions, chunk]
//   corners of each point dX += weight M G; s = <X, G> gives the gradients of M and of the position; panel = M X^
//   dW += g^T panel

#pragma once

#include "../common/matrix.h"
#include "gather.inl"

namespace {

// Corners of one point for the backward pass: pointers, weights, and the weights' derivatives by the position.
template <class T>
struct Point {
  int64_t at[8];
  T weight[8], slope[3][8];
  int corners;

  bool locate(const Problem& p, const Axis<T>* axes, int i) {
    if ((axes[0].two[i] | axes[1].two[i] | axes[2].two[i]) < 0) return false;
    at[0] = ((axes[0].first[i] * p.extent[1] + axes[1].first[i]) * p.extent[2] + axes[2].first[i]) * p.row;
    const int64_t steps[3] = {p.extent[1] * p.extent[2] * p.row, p.extent[2] * p.row, p.row};
    if (axes[0].two[i] & axes[1].two[i] & axes[2].two[i]) {
      cube(axes, i, steps);
      return true;
    }
    weight[0] = slope[0][0] = slope[1][0] = slope[2][0] = T(1);
    corners = 1;
    for (int a = 0; a < 3; ++a) {
      const T w = axes[a].weight[i], rest = axes[a].rest[i], down = axes[a].slope[i];
      const int two = axes[a].two[i];
      for (int j = 0; j < corners; ++j) {
        at[corners + j] = at[j] + steps[a];
        weight[corners + j] = weight[j] * rest;
        weight[j] *= w;
        for (int b = 0; b < 3; ++b) {
          slope[b][corners + j] = slope[b][j] * (a == b ? T(1) : rest);
          slope[b][j] *= a == b ? down : w;
        }
      }
      if (two) corners *= 2;
    }
    return true;
  }

  // All corners live: the common case, without branches.
  void cube(const Axis<T>* axes, int i, const int64_t* steps) {
    const T t[2] = {axes[0].weight[i], axes[0].rest[i]}, y[2] = {axes[1].weight[i], axes[1].rest[i]},
            x[2] = {axes[2].weight[i], axes[2].rest[i]};
    corners = 8;
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      const int a = j >> 2, b = j >> 1 & 1, c = j & 1;
      at[j] = at[0] + a * steps[0] + b * steps[1] + c * steps[2];
      weight[j] = t[a] * y[b] * x[c];
      slope[0][j] = (a ? T(1) : T(-1)) * y[b] * x[c];
      slope[1][j] = (b ? T(1) : T(-1)) * t[a] * x[c];
      slope[2][j] = (c ? T(1) : T(-1)) * t[a] * y[b];
    }
  }
};

// What one point gives: the four sums over the chunk's channels, still a vector each.
template <class T>
struct Partial {
  Vector<T> mask, move[3];
};

template <class E, int Vectors, int Corners, class T = typename E::Real>
inline Partial<T> visit(const Point<T>& point, const typename E::In* input, T* d_input, const T* g, T factor,
                        T* panel) {
  constexpr int L = lanes<T>;
  Vector<T> gradient[Vectors], value[Vectors];
#pragma GCC unroll 8
  for (int v = 0; v < Vectors; ++v) gradient[v] = load(g + v * L), value[v] = Vector<T>{};
  Partial<T> sums{};
#pragma GCC unroll 8
  for (int j = 0; j < Corners; ++j) {
    Vector<T> x[Vectors];
    E::template read_all<Vectors>(input + point.at[j], x);
    T* dx = d_input + point.at[j];
    const Vector<T> weight = splat(point.weight[j] * factor);
    Vector<T> s{};
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      s += x[v] * gradient[v];
      value[v] += weight * x[v];
      store(dx + v * L, load(dx + v * L) + weight * gradient[v]);
    }
    sums.mask += splat(point.weight[j]) * s;
#pragma GCC unroll 3
    for (int a = 0; a < 3; ++a) sums.move[a] += splat(point.slope[a][j]) * s;
  }
#pragma GCC unroll 8
  for (int v = 0; v < Vectors; ++v) store(panel + v * L, value[v]);
  return sums;
}

// Depth of one product: a strip of this depth stays in the first-level cache.
constexpr int64_t depth_step = 128;

// The pass over the corners, the same for all element types. G and the panel are of type Real.
template <class E, int Vectors>
struct Scatter {
  using T = typename E::Real;
  using In = typename E::In;
  static constexpr int64_t width = Vectors * lanes<T>;
  const Problem& p;

  int64_t move_bytes() const { return up(p.dynamic ? p.block * 3 * lanes<T> * sizeof(T) : 0, 64); }

  // First channel of a chunk, in a row of the input.
  int64_t segment_of(int64_t chunk) const { return chunk / (p.segment / width); }
  int64_t channel_of(int64_t chunk) const { return chunk * width; }

  // One tap; rows.at(i): where row i of the panel is written, rows.written(i): it was. False: no corner was live.
  template <class Rows>
  bool run(const Corners<T>& corners, int64_t tap, int64_t chunk, const T* g_values, T* moves,
           const Rows& rows) const {
    const int64_t image = corners.image, channel = channel_of(chunk);
    const int64_t offset_group = segment_of(chunk) / (p.segments / p.offset_groups);
    const In* input = static_cast<const In*>(p.input) + image * p.cells * p.row + channel;
    T* d_input = static_cast<T*>(p.d_input) + image * p.cells * p.row + channel;
    const T* mask = static_cast<const T*>(p.mask);
    if (mask) mask += ((image * p.offset_groups + offset_group) * p.taps + tap) * p.positions + corners.origin;
    const int64_t own = (chunk * p.batch + image) * p.taps + tap;
    T* d_mask = mask ? static_cast<T*>(p.d_mask) + own * p.positions + corners.origin : nullptr;
    T* d_offset = static_cast<T*>(p.d_coordinates) + own * p.axes * p.positions + corners.origin;
    const int64_t index[3] = {tap / (p.kernel[1] * p.kernel[2]), tap / p.kernel[2] % p.kernel[1], tap % p.kernel[2]};
    T factor[3];  // of the rate, along each axis
    for (int a = 0; a < 3; ++a)
      factor[a] = static_cast<T>(index[a] * p.dilation[a]) - T(0.5) * static_cast<T>(p.dilation[a] * (p.kernel[a] - 1));
    Axis<T> axes[3];
    corners.of_tap(tap, offset_group, axes);
    bool live = false;
    for (int i = 0; i < corners.count; ++i) {
      const T scale = mask ? mask[i] : T(1);
      T* to = rows.at(i);
      Point<T> point;
      Partial<T> sums{};
      if (point.locate(p, axes, i)) {
        live = true;
        const T* g = g_values + i * width;
        switch (point.corners) {
          case 1: sums = visit<E, Vectors, 1>(point, input, d_input, g, scale, to); break;
          case 2: sums = visit<E, Vectors, 2>(point, input, d_input, g, scale, to); break;
          case 4: sums = visit<E, Vectors, 4>(point, input, d_input, g, scale, to); break;
          default: sums = visit<E, Vectors, 8>(point, input, d_input, g, scale, to);
        }
      } else {
        __builtin_memset(to, 0, width * sizeof(T));
      }
      rows.written(i);
      if (mask) d_mask[i] = horizontal_sum<T>(sums.mask);
      if (p.dynamic) {
        T* move = moves + i * 3 * lanes<T>;
        for (int a = 0; a < 3; ++a)
          if (factor[a] != T(0))
            store(move + a * lanes<T>, load(move + a * lanes<T>) + sums.move[a] * splat(factor[a] * scale));
      } else {
        for (int64_t a = 0; a < p.axes; ++a)
          d_offset[a * p.positions + i] = scale * horizontal_sum<T>(sums.move[a + 3 - p.axes]);
      }
    }
    return live;
  }

  void store_moves(int64_t chunk, int64_t image, int64_t origin, int count, const T* moves) const {
    T* to = static_cast<T*>(p.d_coordinates) + (chunk * p.batch + image) * 3 * p.positions + origin;
    for (int i = 0; i < count; ++i)
      for (int a = 0; a < 3; ++a)
        to[a * p.positions + i] = horizontal_sum<T>(load(moves + (i * 3 + a) * lanes<T>));
  }
};

template <class T, int Vectors>
struct Backward {
  static constexpr int64_t width = Vectors * lanes<T>;
  const Problem& p;
  char* memory;

  int64_t panel_bytes() const { return up(p.block * width * sizeof(T), 64); }
  Scatter<Direct<T>, Vectors> pass() const { return {p}; }
  int64_t bytes() const { return 2 * panel_bytes() + pass().move_bytes() + Corners<T>::bytes(p, p.block); }

  void run(int64_t chunk) const {
    const int64_t blocks = (p.positions + p.block - 1) / p.block;
    for (int64_t image = 0; image < p.batch; ++image)
      for (int64_t block = 0; block < blocks; ++block) run_block(chunk, image, block * p.block);
  }

  void run_block(int64_t chunk, int64_t image, int64_t origin) const {
    const int count = static_cast<int>(origin + p.block < p.positions ? p.block : p.positions - origin);
    const int64_t group = pass().segment_of(chunk) / (p.segments / p.groups), wide = p.groups * p.outputs;
    T* g_values = reinterpret_cast<T*>(memory);
    T* panel = reinterpret_cast<T*>(memory + panel_bytes());
    T* moves = reinterpret_cast<T*>(memory + 2 * panel_bytes());
    const Corners<T> corners{p, image, origin, count, true, memory + 2 * panel_bytes() + pass().move_bytes()};
    corners.start();
    __builtin_memset(moves, 0, pass().move_bytes());
    const struct {
      T* panel;
      T* at(int i) const { return panel + i * width; }
      void written(int) const {}
    } rows{panel};
    const T* gradient = static_cast<const T*>(p.gradient) + (image * p.positions + origin) * wide + group * p.outputs;
    for (int64_t tap = 0; tap < p.taps; ++tap) {
      const int64_t at = (chunk * p.taps + tap) * p.outputs * width;
      const T* weight = static_cast<const T*>(p.weight) + at;
      for (int64_t k = 0; k < p.outputs; k += depth_step) {
        const int64_t deep = k + depth_step < p.outputs ? depth_step : p.outputs - k;
        const Product<T> product{gradient + k, wide, 1, weight + k * width, width, deep, g_values, width};
        if (k) multiply_strip<T, false>(product, count, Vectors);
        else multiply_strip<T, true>(product, count, Vectors);
      }
      if (!pass().run(corners, tap, chunk, g_values, moves, rows)) continue;
      T* d_weight = static_cast<T*>(p.d_weight) + at;
      multiply_strip<T, false>({gradient, 1, wide, panel, width, count, d_weight, width}, p.outputs, Vectors);
    }
    if (p.dynamic) pass().store_moves(chunk, image, origin, count, moves);
  }
};

// Calls use(kernel) with the kernel for the chunk's width in vectors.
template <class T, class Use>
int64_t with_width(const Problem& p, char* memory, const Use& use) {
  switch (p.chunk / lanes<T>) {
    case 1: return use(Backward<T, 1>{p, memory});
    case 2: return use(Backward<T, 2>{p, memory});
#if defined(__AVX512F__)
    case 3: return use(Backward<T, 3>{p, memory});
    case 4: return use(Backward<T, 4>{p, memory});
#endif
    default: __builtin_unreachable();
  }
}

template <class T>
int64_t backward_scratch(const Problem& p) {
  return with_width<T>(p, nullptr, [](const auto& kernel) { return kernel.bytes(); });
}

template <class T>
void backward(const Problem& p, int64_t chunk, void* scratch) {
  with_width<T>(p, static_cast<char*>(scratch), [&](const auto& kernel) {
    kernel.run(chunk);
    return int64_t{0};
  });
}

}  // namespace
