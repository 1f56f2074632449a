// Forward and backward for float and double: gather a block of positions into a panel, multiply it with the weight.
// Included once an instruction set.

#include "backward.inl"

namespace {

// Columns of a panel: rows of the panel stay in the second-level cache.
constexpr int64_t panel_columns = 768;

template <class T>
struct Forward {
  const Problem& p;
  int64_t tap_columns, together, taps_a_panel, panel_step, columns, depth;
  char* memory;

  explicit Forward(const Problem& problem, void* scratch) : p(problem), memory(static_cast<char*>(scratch)) {
    tap_columns = p.segments / p.groups * p.segment;
    together = taps_together(p);
    const int64_t fit = panel_columns / (tap_columns * p.groups * together);
    taps_a_panel = together * (fit > 1 ? fit : 1);
    if (taps_a_panel > p.taps) taps_a_panel = p.taps;
    panel_step = taps_a_panel * tap_columns + 16;  // not a multiple of 4 KB
    columns = p.groups * p.outputs_padded;
    depth = p.taps * tap_columns;
  }
  int64_t panel_bytes() const { return up(p.groups * p.block * panel_step * sizeof(T), 64); }
  int64_t sum_bytes() const { return up(p.block * columns * sizeof(T), 64); }
  int64_t bytes() const { return panel_bytes() + sum_bytes() + Corners<T>::bytes(p, p.block); }

  void run(int64_t image, int64_t block) const {
    const int64_t origin = block * p.block;
    const int count = static_cast<int>(origin + p.block < p.positions ? p.block : p.positions - origin);
    T* panel = reinterpret_cast<T*>(memory);
    T* sum = reinterpret_cast<T*>(memory + panel_bytes());
    const Corners<T> corners{p, image, origin, count, false, memory + panel_bytes() + sum_bytes()};
    corners.start();
    start_sum(sum, count);
    const auto place = [&](int64_t group, int i) { return panel + (group * p.block + i) * panel_step; };
    for (int64_t tap = 0; tap < p.taps; tap += taps_a_panel) {
      const int64_t here = tap + taps_a_panel < p.taps ? taps_a_panel : p.taps - tap;
      bool live = false;
      for (int64_t inner = 0; inner < here; inner += together)
        live |= gather_taps<Direct<T>>(corners, tap + inner, inner * tap_columns, place);
      if (!live) continue;
      for (int64_t group = 0; group < p.groups; ++group)
        multiply(place(group, 0), group, tap * tap_columns, here * tap_columns, sum, count);
    }
    T* output = static_cast<T*>(p.output) + (image * p.positions + origin) * p.groups * p.outputs;
    for (int i = 0; i < count; ++i)
      for (int64_t group = 0; group < p.groups; ++group, output += p.outputs)
        __builtin_memcpy(output, sum + i * columns + group * p.outputs_padded, p.outputs * sizeof(T));
  }

  void start_sum(T* sum, int count) const {
    for (int i = 0; i < count; ++i) {
      if (p.bias) __builtin_memcpy(sum + i * columns, p.bias, columns * sizeof(T));
      else __builtin_memset(sum + i * columns, 0, columns * sizeof(T));
    }
  }

  // sum += panel * rows [from, from + number) of the group's weight, which lies in strips [depth, strip] and a
  // narrower last one.
  void multiply(const T* panel, int64_t group, int64_t from, int64_t number, T* sum, int count) const {
    const T* weight = static_cast<const T*>(p.weight) + group * depth * p.outputs_padded;
    T* to = sum + group * p.outputs_padded;
    for (int64_t k = 0; k < number; k += depth_step) {
      const int64_t deep = k + depth_step < number ? depth_step : number - k;
      for (int64_t o = 0; o < p.outputs_padded; o += strip<T>) {
        const int64_t wide = o + strip<T> < p.outputs_padded ? strip<T> : p.outputs_padded - o;
        const T* strip_weight = weight + o * depth + (from + k) * wide;
        multiply_strip<T, false>({panel + k, panel_step, 1, strip_weight, wide, deep, to + o, columns}, count,
                                 wide / lanes<T>);
      }
    }
  }
};

template <class T>
int64_t forward_scratch(const Problem& p) {
  return Forward<T>(p, nullptr).bytes();
}

template <class T>
void forward(const Problem& p, int64_t image, int64_t block, void* scratch) {
  Forward<T>(p, scratch).run(image, block);
}

template <class T>
constexpr pliant::deformable_conv::Kernels kernels = {forward_scratch<T>, forward<T>, backward_scratch<T>, backward<T>};

}  // namespace
