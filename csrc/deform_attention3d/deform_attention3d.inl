// Written once over the vectors of the including file: coordinates of several points at once, then channels.
#include <cstring>

#include "common/vector.h"
#include "deform_attention3d.h"

namespace pliant::deform_attention3d {
namespace {

using Floats = Vector<float>;
using Integers = Vector<int32_t>;
constexpr int64_t kLanes = lanes<float>;
constexpr int kMost = 6;  // vectors of channels held in registers at a time

int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// The points of one query and head, one array a quantity: place[corner] (-1: outside), share[corner] (its weight),
// part[axis] (distance from the lower corner).
struct Points {
  int64_t padded;
  float* raw[3];
  float *part[3], *share[8];
  int32_t* place[8];
};

int64_t scratch_bytes(const Problem& p) { return round_up(p.points, kLanes) * 22 * 4 + p.width * 4 + 64; }

Points divide(const Problem& p, void* scratch, float** zeros) {
  Points points;
  points.padded = round_up(p.points, kLanes);
  float* at = (float*)scratch;
  *zeros = at;
  memset(at, 0, p.width * 4);
  at += p.width;
  for (int i = 0; i < 3; ++i, at += points.padded) points.raw[i] = at;
  for (int i = 0; i < 3; ++i, at += points.padded) points.part[i] = at;
  for (int i = 0; i < 8; ++i, at += points.padded) points.share[i] = at;
  for (int i = 0; i < 8; ++i, at += points.padded) points.place[i] = (int32_t*)at;
  return points;
}

Floats choose(Integers mask, Floats yes, Floats no) {
  return (Floats)(((Integers)yes & mask) | ((Integers)no & ~mask));
}

void locate(const Problem& p, const float* locations, const float* weights, const Points& to) {
  for (int64_t k = 0; k < p.points; ++k)
    for (int axis = 0; axis < 3; ++axis) to.raw[axis][k] = locations[3 * k + axis];
  for (int64_t k = p.points; k < to.padded; ++k)
    for (int axis = 0; axis < 3; ++axis) to.raw[axis][k] = -9;
  const int32_t step[3] = {(int32_t)(p.extent[1] * p.extent[2]), (int32_t)p.extent[2], 1};
  for (int64_t k = 0; k < to.padded; k += kLanes) {
    Integers place[3][2], inside[3][2];
    Floats share[3][2];
    for (int axis = 0; axis < 3; ++axis) {
      const float extent = (float)p.extent[axis];
      Floats u = load(to.raw[axis] + k) * extent - 0.5f;
      u = choose((u > -1.f) & (u < extent), u, splat(-2.f));  // a NaN too: -2 has no corner inside
      Integers low = __builtin_convertvector(u, Integers);
      low += __builtin_convertvector(low, Floats) > u;  // true is -1: towards minus infinity
      Floats part = u - __builtin_convertvector(low, Floats);
      store(to.part[axis] + k, part);
      share[axis][0] = 1.f - part, share[axis][1] = part;
      for (int upper = 0; upper < 2; ++upper) {
        Integers at = low + upper;
        inside[axis][upper] = (at >= 0) & (at < (int32_t)p.extent[axis]);
        place[axis][upper] = at * step[axis];
      }
    }
    for (int corner = 0; corner < 8; ++corner) {
      const int t = corner >> 2, y = corner >> 1 & 1, x = corner & 1;
      Integers within = inside[0][t] & inside[1][y] & inside[2][x];
      Integers at = ((place[0][t] + place[1][y] + place[2][x]) & within) | ~within;  // ~0 = -1
      store(to.place[corner] + k, at);
      store(to.share[corner] + k, share[0][t] * share[1][y] * share[2][x]);
    }
  }
  for (int corner = 0; corner < 8; ++corner)
    for (int64_t k = 0; k < p.points; ++k) to.share[corner][k] *= weights[k];
}

// Fetches what a query and head brings: rows of other heads lie between, so that the processor finds no pattern. True
// loads first: a prefetch is given up where the page is unknown.
void fetch(const Problem& p, int64_t row) {
  const float *locations = p.locations + row * p.points * 3, *weights = p.weights + row * p.points;
  (void)*(const volatile float*)locations;
  (void)*(const volatile float*)weights;
  for (int64_t i = 0; i < 3 * p.points; i += 16) __builtin_prefetch(locations + i);
  for (int64_t i = 0; i < p.points; i += 16) __builtin_prefetch(weights + i);
}

// `Count` vectors of channels from `value` (of the head) on.
template <int Count>
void sum_points(const Problem& p, const float* value, const float* zeros, const Points& points, float* out) {
  Floats sum[Count]{};
  for (int64_t k = 0; k < p.points; ++k)
#pragma GCC unroll 8
    for (int corner = 0; corner < 8; ++corner) {
      const int64_t at = points.place[corner][k];
      const float* from = at < 0 ? zeros : value + at * p.width;
      const Floats share = splat(points.share[corner][k]);
#pragma GCC unroll 8
      for (int v = 0; v < Count; ++v) sum[v] += share * load(from + v * kLanes);
    }
#pragma GCC unroll 8
  for (int v = 0; v < Count; ++v) store(out + v * kLanes, sum[v]);
}

void forward(const Problem& p, int64_t head, int64_t begin, int64_t end, void* scratch) {
  float* zeros;
  const Points points = divide(p, scratch, &zeros);
  for (int64_t q = begin; q < end; ++q) {
    const int64_t row = q * p.heads + head;
    if (p.points > 0 && q + 2 < end) fetch(p, row + 2 * p.heads);
    locate(p, p.locations + row * p.points * 3, p.weights + row * p.points, points);
    for (int64_t c = 0; c < p.width; c += kMost * kLanes) {
      const float* value = p.value + head * p.cells * p.width + c;
      float* out = p.out + row * p.width + c;
      switch ((p.width - c) / kLanes) {
        case 1: sum_points<1>(p, value, zeros, points, out); break;
        case 2: sum_points<2>(p, value, zeros, points, out); break;
        case 3: sum_points<3>(p, value, zeros, points, out); break;
        case 4: sum_points<4>(p, value, zeros, points, out); break;
        case 5: sum_points<5>(p, value, zeros, points, out); break;
        default: sum_points<kMost>(p, value, zeros, points, out);
      }
    }
  }
}

Floats between(Floats low, Floats high, float part) { return low + (high - low) * part; }

// One head: its gradient of the values belongs to this call alone.
void backward(const Problem& p, int64_t head, void* scratch) {
  float* zeros;
  const Points points = divide(p, scratch, &zeros);
  const float* value = p.value + head * p.cells * p.width;
  float* d_value = p.d_value + head * p.cells * p.width;
  for (int64_t q = 0; q < p.queries; ++q) {
    const int64_t row = q * p.heads + head;
    const float *weights = p.weights + row * p.points, *gradient = p.gradient + row * p.width;
    float *d_weights = p.d_weights + row * p.points, *d_locations = p.d_locations + row * p.points * 3;
    if (p.points > 0 && q + 2 < p.queries) fetch(p, row + 2 * p.heads);
    locate(p, p.locations + row * p.points * 3, weights, points);
    for (int64_t k = 0; k < p.points; ++k) {
      Floats dot[8]{};
#pragma GCC unroll 8
      for (int corner = 0; corner < 8; ++corner) {
        const int64_t at = points.place[corner][k];
        if (at < 0) continue;
        const float* from = value + at * p.width;
        float* to = d_value + at * p.width;
        const Floats share = splat(points.share[corner][k]);
        for (int64_t c = 0; c < p.width; c += kLanes) {
          const Floats g = load(gradient + c);
          dot[corner] += load(from + c) * g;
          store(to + c, load(to + c) + share * g);
        }
      }
      // value and slopes of the interpolation, as vectors of partial sums: along x, then y, then t
      const float t = points.part[0][k], y = points.part[1][k], x = points.part[2][k];
      Floats at[4], by_x[4];
      for (int i = 0; i < 4; ++i) {
        at[i] = between(dot[2 * i], dot[2 * i + 1], x);
        by_x[i] = dot[2 * i + 1] - dot[2 * i];
      }
      const Floats low = between(at[0], at[1], y), high = between(at[2], at[3], y);
      const Floats slope_t = high - low, slope_y = between(at[1] - at[0], at[3] - at[2], t);
      const Floats slope_x = between(between(by_x[0], by_x[1], y), between(by_x[2], by_x[3], y), t);
      d_weights[k] = horizontal_sum<float>(between(low, high, t));
      d_locations[3 * k] = weights[k] * p.extent[0] * horizontal_sum<float>(slope_t);
      d_locations[3 * k + 1] = weights[k] * p.extent[1] * horizontal_sum<float>(slope_y);
      d_locations[3 * k + 2] = weights[k] * p.extent[2] * horizontal_sum<float>(slope_x);
    }
  }
}

}  // namespace

const Kernels KERNELS = {scratch_bytes, forward, backward};

}  // namespace pliant::deform_attention3d
