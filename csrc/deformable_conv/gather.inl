// Sampling: where the corners of each tap lie, and their weighted sums.
//
// Axis by axis, a sampling point has two corners, floor(q) and floor(q) + 1. One that is outside is never read (it
// might hold inf), so each axis of each point has 0, 1 or 2 live corners.

#pragma once

#include "../common/vector.h"
#include "problem.h"

namespace {

using pliant::deformable_conv::Problem;

constexpr int64_t up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Live corners along one axis, for each position of a block.
template <class R>
struct Axis {
  int32_t* first;  // index of the first live corner
  int32_t* two;    // 1: the next one is live too; 0: it is not; -1: none is live
  R* weight;       // of the first; of the second it is `rest`
  R* rest;
  R* slope;        // derivative of `weight` by the position: -1 or 1 (that of `rest` is 1)
};

// Positions along an axis: base + factor * move. With keep, a second corner of weight 0 counts as live: its derivative
// is not 0 (the one from the right). One position; V and I are numbers, or vectors of them.
template <class V, class I, class R>
struct Located {
  I first, two;
  V weight, rest, slope;

  Located(V base, R factor, V move, R end, bool keep) {
    const V zero{};
    V q = base + (zero + factor) * move;
    q = (q >= zero - R(1)) & (q < zero + end) ? q : zero - R(3);  // also what is infinite or not a number
    I start = truncated(q);
    start = q < number(start) ? start - 1 : start;
    const V fraction = q - number(start);
    const auto in0 = start >= 0;
    const auto in1 = (start >= -1) & (number(start) < zero + (end - R(1))) & (fraction > zero - (keep ? R(1) : R(0)));
    const I none = start - start, one = none + 1;
    first = in0 ? start : start + 1;
    two = (in0 ? one : none) + (in1 ? one : none) - 1;
    weight = in0 ? zero + R(1) - fraction : fraction;
    rest = fraction;
    slope = in0 ? zero - R(1) : zero + R(1);
  }
  static I truncated(float q) { return static_cast<I>(q); }
  static I truncated(double q) { return static_cast<I>(q); }
  static V number(int32_t i) { return static_cast<V>(i); }
  template <class Wide>
  static I truncated(Wide q) { return __builtin_convertvector(q, I); }
  template <class Wide>
  static V number(Wide i) { return __builtin_convertvector(i, V); }
};

template <class R>
void resolve(const R* base, const R* move, R factor, int64_t extent, int count, bool keep, const Axis<R>& axis) {
  const R end = static_cast<R>(extent);
  int i = 0;
  if (sizeof(R) == sizeof(int32_t)) {
    for (; i + lanes<float> <= count; i += lanes<float>) {
      const Located<Vector<float>, Vector<int32_t>, float> at(load((const float*)base + i), static_cast<float>(factor),
                                                              load((const float*)move + i), static_cast<float>(end), keep);
      store(axis.first + i, at.first);
      store(axis.two + i, at.two);
      store((float*)axis.weight + i, at.weight);
      store((float*)axis.rest + i, at.rest);
      store((float*)axis.slope + i, at.slope);
    }
  }
  for (; i < count; ++i) {
    const Located<R, int32_t, R> at(base[i], factor, move[i], end, keep);
    axis.first[i] = at.first;
    axis.two[i] = at.two;
    axis.weight[i] = at.weight;
    axis.rest[i] = at.rest;
    axis.slope[i] = at.slope;
  }
}

// The records of a block. For a dilation map: one for each tap of each axis. For offsets: three, of one tap at a time.
template <class R>
struct Corners {
  const Problem& p;
  int64_t image, origin;
  int count;
  bool keep;
  char* memory;

  static int64_t records(const Problem& p) {
    return p.dynamic ? p.kernel[0] + p.kernel[1] + p.kernel[2] : 3;
  }
  static int64_t record_bytes(int64_t block) { return up(block * (2 * sizeof(int32_t) + 3 * sizeof(R)), 64); }
  static int64_t bytes(const Problem& p, int64_t block) {
    return records(p) * record_bytes(block) + 5 * up(block * sizeof(R), 64);
  }

  Axis<R> record(int64_t index) const {
    char* at = memory + index * record_bytes(p.block);
    Axis<R> axis;
    axis.weight = reinterpret_cast<R*>(at);
    axis.rest = axis.weight + p.block;
    axis.slope = axis.rest + p.block;
    axis.first = reinterpret_cast<int32_t*>(axis.slope + p.block);
    axis.two = axis.first + p.block;
    return axis;
  }
  R* line(int index) const {
    char* lines = memory + records(p) * record_bytes(p.block);
    return reinterpret_cast<R*>(lines + index * up(p.block * sizeof(R), 64));
  }

  // Coordinates of the block's positions without offset, and a line of zeros.
  void start() const {
    int64_t x = origin % p.out[2], y = origin / p.out[2] % p.out[1], t = origin / p.out[2] / p.out[1];
    for (int i = 0; i < count; ++i) {
      line(0)[i] = static_cast<R>(t * p.stride[0] - p.padding[0]);
      line(1)[i] = static_cast<R>(y * p.stride[1] - p.padding[1]);
      line(2)[i] = static_cast<R>(x * p.stride[2] - p.padding[2]);
      line(4)[i] = R(0);
      if (++x == p.out[2]) {
        x = 0;
        if (++y == p.out[1]) y = 0, ++t;
      }
    }
    if (p.dynamic) resolve_map();
  }

  void resolve_map() const {
    const R* map = static_cast<const R*>(p.coordinates) + image * 3 * p.positions + origin;
    int64_t index = 0;
    for (int a = 0; a < 3; ++a) {
      const R middle = R(0.5) * static_cast<R>(p.dilation[a] * (p.kernel[a] - 1));
      for (int i = 0; i < count; ++i) line(3)[i] = line(a)[i] + middle;
      for (int64_t tap = 0; tap < p.kernel[a]; ++tap, ++index) {
        const R factor = static_cast<R>(tap * p.dilation[a]) - middle;
        const R* move = factor == R(0) ? line(4) : map + a * p.positions;
        resolve(line(3), move, factor, p.extent[a], count, keep && factor != R(0), record(index));
      }
    }
  }

  // The three records of a tap; offsets are resolved here, for one offset group.
  void of_tap(int64_t tap, int64_t offset_group, Axis<R>* axes) const {
    const int64_t at[3] = {tap / (p.kernel[1] * p.kernel[2]), tap / p.kernel[2] % p.kernel[1], tap % p.kernel[2]};
    if (p.dynamic) {
      axes[0] = record(at[0]);
      axes[1] = record(p.kernel[0] + at[1]);
      axes[2] = record(p.kernel[0] + p.kernel[1] + at[2]);
      return;
    }
    const int64_t group = (image * p.offset_groups + offset_group) * p.taps + tap;
    const R* offset = static_cast<const R*>(p.coordinates) + group * p.axes * p.positions + origin;
    for (int a = 0; a < 3; ++a) {
      const int64_t number = a - (3 - p.axes);
      for (int i = 0; i < count; ++i) line(3)[i] = line(a)[i] + static_cast<R>(at[a] * p.dilation[a]);
      const R* move = number < 0 ? line(4) : offset + number * p.positions;
      axes[a] = record(a);
      resolve(line(3), move, R(1), p.extent[a], count, keep && number >= 0, axes[a]);
    }
  }
};

// How a kernel reads channels, computes with them and writes them to the panel that is multiplied. This one: as they
// are. `channels` at a time; column k of a row lies `column(k)` elements after its beginning.
template <class T>
struct Direct {
  using In = T;
  using Real = T;
  using Panel = T;
  using Value = Vector<T>;
  using Weight = Vector<T>;
  static constexpr int channels = lanes<T>;
  static int64_t column(int64_t k) { return k; }
  static Value read(const In* from) { return load(from); }
  template <int Vectors>
  static void read_all(const In* from, Vector<T>* to) {
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) to[v] = load(from + v * lanes<T>);
  }
  static void write(Panel* to, Value value) { store(to, value); }
  static Value times(Value value, Weight weight) { return value * weight; }
  static Value add(Value sum, Value value, Weight weight) { return sum + value * weight; }
  static Value nothing() { return Value{}; }
};

// to[0 ... count) = sum over Corners of weight * from.
template <class E, int Corners>
inline void blend(const typename E::In* const* from, const typename E::Real* weight, int64_t count,
                  typename E::Panel* to) {
  typename E::Weight weights[Corners];
#pragma GCC unroll 8
  for (int j = 0; j < Corners; ++j) weights[j] = splat(weight[j]);
  for (int64_t c = 0; c < count; c += E::channels) {
    typename E::Value sum = E::times(E::read(from[0] + c), weights[0]);
#pragma GCC unroll 8
    for (int j = 1; j < Corners; ++j) sum = E::add(sum, E::read(from[j] + c), weights[j]);
    E::write(to + E::column(c), sum);
  }
}

template <class E>
void clear(int64_t count, typename E::Panel* to) {
  for (int64_t c = 0; c < count; c += E::channels) E::write(to + E::column(c), E::nothing());
}

// The eight corners of a point whose corners are all live, from the first on: the common case, without branches.
template <class In, class R>
struct Cube {
  const In* from[8];
  R weight[8];

  Cube(const Problem& p, const In* first, const Axis<R>* axes, int i, R factor) {
    const int64_t x = p.row, y = p.extent[2] * p.row, t = p.extent[1] * y;
    const R t0 = axes[0].weight[i] * factor, t1 = axes[0].rest[i] * factor;
    const R y0 = axes[1].weight[i], y1 = axes[1].rest[i], x0 = axes[2].weight[i], x1 = axes[2].rest[i];
    const R plane[4] = {y0 * x0, y0 * x1, y1 * x0, y1 * x1};
    const int64_t step[4] = {0, x, y, y + x};
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      from[j] = first + step[j];
      from[4 + j] = first + (t + step[j]);
      weight[j] = t0 * plane[j];
      weight[4 + j] = t1 * plane[j];
    }
  }
};

// The four corners of a point in one plane, all live: the common case of two dimensions.
template <class In, class R>
struct Plane {
  const In* from[4];
  R weight[4];

  Plane(const Problem& p, const In* first, const Axis<R>* axes, int i, R factor)
      : from{first, first + p.row, first + p.extent[2] * p.row, first + (p.extent[2] + 1) * p.row} {
    const R y0 = axes[0].weight[i] * factor * axes[1].weight[i], y1 = axes[0].weight[i] * factor * axes[1].rest[i];
    const R x0 = axes[2].weight[i], x1 = axes[2].rest[i];
    weight[0] = y0 * x0, weight[1] = y0 * x1, weight[2] = y1 * x0, weight[3] = y1 * x1;
  }
};

// One tap of one position. False: no corner is live.
template <class E>
inline bool gather_one(const Problem& p, const typename E::In* image, const Axis<typename E::Real>* axes, int i,
                       typename E::Real factor, int64_t count, typename E::Panel* to) {
  using R = typename E::Real;
  const int t = axes[0].two[i], y = axes[1].two[i], x = axes[2].two[i];
  if ((t | y | x) < 0) {
    clear<E>(count, to);
    return false;
  }
  const typename E::In* first =
      image + ((axes[0].first[i] * p.extent[1] + axes[1].first[i]) * p.extent[2] + axes[2].first[i]) * p.row;
  if (t & y & x) {
    const Cube<typename E::In, R> cube(p, first, axes, i, factor);
    blend<E, 8>(cube.from, cube.weight, count, to);
    return true;
  }
  if (y & x) {
    const Plane<typename E::In, R> plane(p, first, axes, i, factor);
    blend<E, 4>(plane.from, plane.weight, count, to);
    return true;
  }
  const typename E::In* from[4] = {first};
  R weight[4] = {factor};
  int corners = 1;
  const int64_t step[3] = {p.extent[1] * p.extent[2] * p.row, p.extent[2] * p.row, p.row};
  for (int a = 0; a < 3; ++a) {
    const bool two = axes[a].two[i];
    for (int j = 0; j < corners; ++j) {
      if (two) from[corners + j] = from[j] + step[a], weight[corners + j] = weight[j] * axes[a].rest[i];
      weight[j] *= axes[a].weight[i];
    }
    if (two) corners *= 2;
  }
  switch (corners) {
    case 1: blend<E, 1>(from, weight, count, to); break;
    case 2: blend<E, 2>(from, weight, count, to); break;
    default: blend<E, 4>(from, weight, count, to);
  }
  return true;
}

// Three taps in a row (x) of one position: the Rows corner rows they share are blended first. Columns: 5, two for the
// outer taps and one for the middle one, or 3, one each. shift: of each column; across: the weight of each column.
template <class E, int Rows, int Columns>
inline void blend_row(const typename E::In* const* from, const typename E::Real* down, const int64_t* shift,
                      const typename E::Real* across, int64_t count, typename E::Panel* to, int64_t tap_step) {
  typename E::Weight downs[Rows], acrosses[Columns];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) downs[r] = splat(down[r]);
#pragma GCC unroll 8
  for (int j = 0; j < Columns; ++j) acrosses[j] = splat(across[j]);
  for (int64_t c = 0; c < count; c += E::channels) {
    typename E::Value column[Columns];
#pragma GCC unroll 8
    for (int j = 0; j < Columns; ++j) {
      column[j] = E::read(from[0] + shift[j] + c);
      if (Rows > 1) column[j] = E::times(column[j], downs[0]);
#pragma GCC unroll 8
      for (int r = 1; r < Rows; ++r) column[j] = E::add(column[j], E::read(from[r] + shift[j] + c), downs[r]);
    }
    typename E::Value tap[3];
    if (Columns == 3) {
#pragma GCC unroll 8
      for (int j = 0; j < 3; ++j) tap[j] = E::times(column[j], acrosses[j]);
    } else {
      tap[0] = E::add(E::times(column[0], acrosses[0]), column[1], acrosses[1]);
      tap[1] = E::times(column[2], acrosses[2]);
      tap[2] = E::add(E::times(column[3], acrosses[3]), column[Columns - 1], acrosses[Columns - 1]);
    }
#pragma GCC unroll 8
    for (int j = 0; j < 3; ++j) E::write(to + j * tap_step + E::column(c), tap[j]);
  }
}

// The three taps (x) of one pair (t, y) of one position of a dilation map. False: no corner is live.
template <class E>
inline bool gather_row(const Problem& p, const typename E::In* image, const Axis<typename E::Real>* axes, int i,
                       const typename E::Real* factor, int64_t count, typename E::Panel* to, int64_t tap_step) {
  using R = typename E::Real;
  const Axis<R>&t = axes[0], &y = axes[1];
  const int x0 = axes[2].two[i], x1 = axes[3].two[i], x2 = axes[4].two[i];
  const bool five = x0 == 1 && x1 == 0 && x2 == 1, three = x0 == 0 && x1 == 0 && x2 == 0;
  if ((t.two[i] | y.two[i]) < 0) {
    for (int j = 0; j < 3; ++j) clear<E>(count, to + j * tap_step);
    return false;
  }
  if (!five && !three) {
    bool live = false;
    for (int j = 0; j < 3; ++j) {
      const Axis<R> own[3] = {t, y, axes[2 + j]};
      live |= gather_one<E>(p, image, own, i, factor[j], count, to + j * tap_step);
    }
    return live;
  }
  const typename E::In* from[4];
  R down[4];
  from[0] = image + (t.first[i] * p.extent[1] + y.first[i]) * p.extent[2] * p.row;
  down[0] = t.weight[i] * y.weight[i];
  int rows = 1;
  if (y.two[i]) from[1] = from[0] + p.extent[2] * p.row, down[1] = t.weight[i] * y.rest[i], rows = 2;
  if (t.two[i]) {
    const int64_t step = p.extent[1] * p.extent[2] * p.row;
    from[rows] = from[0] + step, down[rows] = t.rest[i] * y.weight[i];
    if (rows == 2) from[3] = from[1] + step, down[3] = t.rest[i] * y.rest[i];
    rows *= 2;
  }
  const R fold = rows == 1 ? down[0] : R(1);  // blend_row leaves a single row's weight to the columns
  const R scale[3] = {factor[0] * fold, factor[1] * fold, factor[2] * fold};
  const Axis<R>*x = axes + 2;
  int64_t shift[5];
  R across[5];
  if (five) {
    shift[0] = x[0].first[i] * p.row, across[0] = x[0].weight[i] * scale[0];
    shift[1] = shift[0] + p.row, across[1] = x[0].rest[i] * scale[0];
    shift[2] = x[1].first[i] * p.row, across[2] = x[1].weight[i] * scale[1];
    shift[3] = x[2].first[i] * p.row, across[3] = x[2].weight[i] * scale[2];
    shift[4] = shift[3] + p.row, across[4] = x[2].rest[i] * scale[2];
  } else {
    for (int j = 0; j < 3; ++j) shift[j] = x[j].first[i] * p.row, across[j] = x[j].weight[i] * scale[j];
  }
  if (five) {
    if (rows == 4) blend_row<E, 4, 5>(from, down, shift, across, count, to, tap_step);
    else if (rows == 2) blend_row<E, 2, 5>(from, down, shift, across, count, to, tap_step);
    else blend_row<E, 1, 5>(from, down, shift, across, count, to, tap_step);
  } else {
    if (rows == 4) blend_row<E, 4, 3>(from, down, shift, across, count, to, tap_step);
    else if (rows == 2) blend_row<E, 2, 3>(from, down, shift, across, count, to, tap_step);
    else blend_row<E, 1, 3>(from, down, shift, across, count, to, tap_step);
  }
  return true;
}

// Taps that are gathered together: the three of a row of a dilation map, else one.
inline int64_t taps_together(const Problem& p) { return p.dynamic && p.kernel[2] == 3 ? 3 : 1; }

// Gathers `taps_together` taps from `tap` on into the panels of the block, one panel a weight group. place(group, i):
// where row i of that group's panel begins; the taps start at column `column`. False: no corner was live.
template <class E, class Place>
bool gather_taps(const Corners<typename E::Real>& corners, int64_t tap, int64_t column, const Place& place) {
  using R = typename E::Real;
  const Problem& p = corners.p;
  const auto* image = static_cast<const typename E::In*>(p.input) + corners.image * p.cells * p.row;
  const int64_t segments_a_group = p.segments / p.groups, together = taps_together(p);
  const int64_t tap_columns = segments_a_group * p.segment;
  const R one[3] = {R(1), R(1), R(1)};
  Axis<R> axes[5];
  bool live = false;
  for (int64_t s = 0; s < p.segments; ++s) {
    const int64_t group = s / segments_a_group, inner = s % segments_a_group;
    const int64_t offset_group = s / (p.segments / p.offset_groups);
    if (s % (p.segments / p.offset_groups) == 0) {
      corners.of_tap(tap, offset_group, axes);
      if (together == 3) {
        axes[3] = corners.record(p.kernel[0] + p.kernel[1] + 1);
        axes[4] = corners.record(p.kernel[0] + p.kernel[1] + 2);
      }
    }
    const R* mask = static_cast<const R*>(p.mask);
    if (mask) mask += ((corners.image * p.offset_groups + offset_group) * p.taps + tap) * p.positions + corners.origin;
    for (int i = 0; i < corners.count; ++i) {
      auto* to = place(group, i) + E::column(column + inner * p.segment);
      if (together == 3) {
        const R factor[3] = {mask ? mask[i] : R(1), mask ? mask[p.positions + i] : R(1),
                             mask ? mask[2 * p.positions + i] : R(1)};
        live |= gather_row<E>(p, image + s * p.segment, axes, i, factor, p.segment, to, E::column(tap_columns));
      } else {
        live |= gather_one<E>(p, image + s * p.segment, axes, i, mask ? mask[i] : one[0], p.segment, to);
      }
    }
  }
  return live;
}

}  // namespace
