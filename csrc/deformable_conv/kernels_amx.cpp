// Forward and backward for bfloat16 with tile products (AMX): coordinates, weights of corners and all sums are
// float32, results are rounded once.
//
// A tile is 1 KB: 16 rows of 32 bfloat16 on the left of a product, 16 pairs of rows by 16 columns on the right,
// 16 x 16 float32 as the result.

#include <immintrin.h>

#include "backward.inl"

namespace {

constexpr int64_t tile_numbers = 512, result_numbers = 256;

// Thirty-two channels at a time: the even ones in one vector, the odd ones in another. The panel is a sequence of
// left tiles.
struct Halves {
  using In = uint16_t;
  using Real = float;
  using Panel = uint16_t;
  struct Value {
    Vector<float> even, odd;
  };
  using Weight = Vector<float>;
  static constexpr int channels = 32;

  static int64_t column(int64_t k) { return k / 32 * tile_numbers; }
  static Value read(const In* from) {
    const __m512i both = _mm512_loadu_si512(from);
    return {(Vector<float>)_mm512_slli_epi32(both, 16),
            (Vector<float>)_mm512_and_si512(both, _mm512_set1_epi32(static_cast<int>(0xffff0000)))};
  }
  template <int Vectors>
  static void read_all(const In* from, Vector<float>* to) {
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; v += 2) {
      const Value value = read(from + v * 16);
      to[v] = value.even;
      to[v + 1] = value.odd;
    }
  }
  static void write(Panel* to, const Value& value) {
    static const uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512bh rounded = _mm512_cvtne2ps_pbh((__m512)value.odd, (__m512)value.even);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi16(_mm512_loadu_si512(order), (__m512i)rounded));
  }
  static Value times(const Value& value, Weight weight) { return {value.even * weight, value.odd * weight}; }
  static Value add(const Value& sum, const Value& value, Weight weight) {
    return {sum.even + value.even * weight, sum.odd + value.odd * weight};
  }
  static Value nothing() { return {Weight{}, Weight{}}; }
};

// Tiles are set up for a thread, and given back when its task ends: they would slow down its switches.
struct Tiles {
  Tiles() {
    static const struct alignas(64) {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } configuration;
    asm volatile("" ::"m"(configuration) : "memory");  // the compiler believes that 8 of the 64 bytes are read
    _tile_loadconfig(&configuration);
  }
  ~Tiles() { _tile_release(); }
};

// Two by two result tiles: C += A B (Fresh: C = A B). Steps in bytes between rows of A and of C, and in numbers from
// tile to tile: a_down, c_down to the next 16 rows, a_deep along the depth; right tiles lie b_deep apart along the
// depth and 1 KB apart across.
struct TileProduct {
  const uint16_t* a;
  int64_t a_row, a_down, a_deep;
  const uint16_t* b;
  int64_t b_deep;
  int64_t steps;
  float* c;
  int64_t c_row, c_down, c_across;
};

template <bool Fresh>
__attribute__((noinline)) void multiply_tiles(const TileProduct& p, int64_t pairs) {
  asm volatile("" ::: "memory");  // tile loads do not say that they read memory
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const uint16_t* a = p.a + pair * 2 * p.a_down;
    const uint16_t* b = p.b;
    float* c = p.c + pair * 2 * p.c_down;
    if (Fresh) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    } else {
      _tile_loadd(0, c, p.c_row);
      _tile_loadd(1, c + p.c_across, p.c_row);
      _tile_loadd(2, c + p.c_down, p.c_row);
      _tile_loadd(3, c + p.c_down + p.c_across, p.c_row);
    }
    for (int64_t step = 0; step < p.steps; ++step) {
      _tile_loadd(4, a, p.a_row);
      _tile_loadd(6, b, 64);
      _tile_loadd(7, b + tile_numbers, 64);
      _tile_loadd(5, a + p.a_down, p.a_row);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
      a += p.a_deep;
      b += p.b_deep;
    }
    _tile_stored(0, c, p.c_row);
    _tile_stored(1, c + p.c_across, p.c_row);
    _tile_stored(2, c + p.c_down, p.c_row);
    _tile_stored(3, c + p.c_down + p.c_across, p.c_row);
  }
  asm volatile("" ::: "memory");
}

struct TileForward {
  static constexpr int64_t panel_columns = 768, depth_step = 256;
  const Problem& p;
  int64_t tap_columns, together, taps_a_panel, panel_tiles, column_tiles, depth;
  char* memory;

  TileForward(const Problem& problem, void* scratch) : p(problem), memory(static_cast<char*>(scratch)) {
    tap_columns = p.segments / p.groups * p.segment;
    together = taps_together(p);
    const int64_t fit = panel_columns / (tap_columns * p.groups * together);
    taps_a_panel = together * (fit > 1 ? fit : 1);
    if (taps_a_panel > p.taps) taps_a_panel = p.taps;
    panel_tiles = taps_a_panel * tap_columns / 32;
    column_tiles = p.outputs_padded / 16;
    depth = p.taps * tap_columns;
  }
  int64_t panel_numbers() const { return p.block / 16 * panel_tiles * tile_numbers; }  // a group
  int64_t panel_bytes() const { return p.groups * panel_numbers() * 2; }
  int64_t sum_numbers() const { return p.block / 16 * column_tiles * result_numbers; }  // a group
  int64_t sum_bytes() const { return p.groups * sum_numbers() * 4; }
  int64_t bytes() const { return panel_bytes() + sum_bytes() + Corners<float>::bytes(p, p.block); }

  void run(int64_t image, int64_t block) const {
    const int64_t origin = block * p.block;
    const int count = static_cast<int>(origin + p.block < p.positions ? p.block : p.positions - origin);
    uint16_t* panel = reinterpret_cast<uint16_t*>(memory);
    float* sum = reinterpret_cast<float*>(memory + panel_bytes());
    const Corners<float> corners{p, image, origin, count, false, memory + panel_bytes() + sum_bytes()};
    corners.start();
    start_sum(sum);
    const Tiles tiles;
    const auto place = [&](int64_t group, int i) {
      return panel + group * panel_numbers() + i / 16 * panel_tiles * tile_numbers + i % 16 * 32;
    };
    for (int64_t tap = 0; tap < p.taps; tap += taps_a_panel) {
      const int64_t here = tap + taps_a_panel < p.taps ? taps_a_panel : p.taps - tap;
      bool live = false;
      for (int64_t inner = 0; inner < here; inner += together)
        live |= gather_taps<Halves>(corners, tap + inner, inner * tap_columns, place);
      if (!live) continue;
      for (int64_t group = 0; group < p.groups; ++group)
        multiply(place(group, 0), group, tap * tap_columns, here * tap_columns, sum + group * sum_numbers(), count);
    }
    finish(sum, image, origin, count);
  }

  void start_sum(float* sum) const {
    const float* bias = static_cast<const float*>(p.bias);
    for (int64_t group = 0; group < p.groups; ++group)
      for (int64_t down = 0; down < p.block / 16; ++down)
        for (int64_t across = 0; across < column_tiles; ++across, sum += result_numbers) {
          const Vector<float> value = bias ? load(bias + group * p.outputs_padded + across * 16) : Vector<float>{};
          for (int row = 0; row < 16; ++row) store(sum + row * 16, value);
        }
  }

  void multiply(const uint16_t* panel, int64_t group, int64_t from, int64_t number, float* sum, int count) const {
    const uint16_t* weight = static_cast<const uint16_t*>(p.weight) + group * depth * p.outputs_padded;
    const int64_t pairs = (count + 31) / 32;
    for (int64_t k = 0; k < number; k += depth_step) {
      const int64_t steps = (k + depth_step < number ? depth_step : number - k) / 32;
      for (int64_t across = 0; across < column_tiles; across += 2) {
        const uint16_t* b = weight + across * 16 * depth + (from + k) * 32;
        multiply_tiles<false>({panel + k / 32 * tile_numbers, 64, panel_tiles * tile_numbers, tile_numbers, b,
                               2 * tile_numbers, steps, sum + across * result_numbers, 64,
                               column_tiles * result_numbers, result_numbers},
                              pairs);
      }
    }
  }

  void finish(const float* sum, int64_t image, int64_t origin, int count) const {
    uint16_t* output = static_cast<uint16_t*>(p.output) + (image * p.positions + origin) * p.groups * p.outputs;
    for (int i = 0; i < count; ++i)
      for (int64_t group = 0; group < p.groups; ++group, output += p.outputs) {
        const float* row = sum + group * sum_numbers() + i / 16 * column_tiles * result_numbers + i % 16 * 16;
        for (int64_t o = 0; o < p.outputs; o += 16, row += result_numbers) {
          const int64_t left = p.outputs - o;
          const __mmask16 mask = static_cast<__mmask16>(left < 16 ? (1u << left) - 1 : 0xffffu);
          const __m256i rounded = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(row));
          _mm256_mask_storeu_epi16(output + o, mask, rounded);
        }
      }
  }
};

// As Backward in backward.inl, with these differences: channels lie even before odd in each run of 32 (in G, in the
// packed weight and in the gradients of input and weight; deformable_native.py puts them back), and the panel's rows
// are joined in pairs, as a right operand wants them.
template <int Vectors>
struct TileBackward {
  static constexpr int64_t width = Vectors * 16;
  const Problem& p;
  char* memory;

  int64_t g_bytes() const { return p.block * width * 4; }
  int64_t panel_bytes() const { return p.block * width * 2; }
  int64_t pair_bytes() const { return 2 * width * 4; }
  Scatter<Halves, Vectors> pass() const { return {p}; }
  int64_t fixed_bytes() const { return g_bytes() + panel_bytes() + pair_bytes(); }
  int64_t bytes() const { return fixed_bytes() + pass().move_bytes() + Corners<float>::bytes(p, p.block); }

  // Receives the panel's rows in float32; every second one is written with the one before it.
  struct Rows {
    float* pair;
    uint16_t* panel;
    float* at(int i) const { return pair + i % 2 * width; }
    void written(int i) const {
      if (i % 2 == 0) return;
      uint16_t* to = panel + i / 32 * Vectors * tile_numbers + i % 32 / 2 * 32;
      for (int v = 0; v < Vectors; ++v)
        Halves::write(to + v * tile_numbers, {load(pair + v * 16), load(pair + width + v * 16)});
    }
    void empty(int i) const {
      __builtin_memset(at(i), 0, width * 4);
      written(i);
    }
  };

  void run(int64_t chunk) const {
    const Tiles tiles;
    const int64_t blocks = (p.positions + p.block - 1) / p.block;
    for (int64_t image = 0; image < p.batch; ++image)
      for (int64_t block = 0; block < blocks; ++block) run_block(chunk, image, block * p.block);
  }

  void run_block(int64_t chunk, int64_t image, int64_t origin) const {
    const int count = static_cast<int>(origin + p.block < p.positions ? p.block : p.positions - origin);
    const int64_t group = pass().segment_of(chunk) / (p.segments / p.groups);
    const int64_t wide = p.groups * p.outputs_padded, rows_here = up(count, 32);
    float* g_values = reinterpret_cast<float*>(memory);
    uint16_t* panel = reinterpret_cast<uint16_t*>(memory + g_bytes());
    float* pair = reinterpret_cast<float*>(memory + g_bytes() + panel_bytes());
    float* moves = reinterpret_cast<float*>(memory + fixed_bytes());
    const Corners<float> corners{p, image, origin, count, true, memory + fixed_bytes() + pass().move_bytes()};
    corners.start();
    __builtin_memset(moves, 0, pass().move_bytes());
    const Rows rows{pair, panel};
    const uint16_t* gradient = static_cast<const uint16_t*>(p.gradient) +
                               (image * p.positions_padded + origin) * wide + group * p.outputs_padded;
    const uint16_t* gradient_t = static_cast<const uint16_t*>(p.gradient_t) +
                                 (image * wide + group * p.outputs_padded) * p.positions_padded + origin;
    for (int64_t tap = 0; tap < p.taps; ++tap) {
      const int64_t at = (chunk * p.taps + tap) * p.outputs_padded * width;
      const uint16_t* weight = static_cast<const uint16_t*>(p.weight) + at;
      for (int64_t v = 0; v < Vectors; v += 2)
        multiply_tiles<true>({gradient, wide * 2, 16 * wide, 32, weight + v * tile_numbers, Vectors * tile_numbers,
                              p.outputs_padded / 32, g_values + v * 16, width * 4, 16 * width, 16},
                             rows_here / 32);
      const bool live = pass().run(corners, tap, chunk, g_values, moves, rows);
      if (!live) continue;
      for (int i = count; i < rows_here; ++i) rows.empty(i);
      float* d_weight = static_cast<float*>(p.d_weight) + at;
      for (int64_t v = 0; v < Vectors; v += 2)
        multiply_tiles<false>({gradient_t, p.positions_padded * 2, 16 * p.positions_padded, 32,
                               panel + v * tile_numbers, Vectors * tile_numbers, rows_here / 32, d_weight + v * 16,
                               width * 4, 16 * width, 16},
                              p.outputs_padded / 32);
    }
    if (p.dynamic) pass().store_moves(chunk, image, origin, count, moves);
  }
};

int64_t tile_forward_scratch(const Problem& p) { return TileForward(p, nullptr).bytes(); }

void tile_forward(const Problem& p, int64_t image, int64_t block, void* scratch) {
  TileForward(p, scratch).run(image, block);
}

int64_t tile_backward_scratch(const Problem& p) {
  return p.chunk == 64 ? TileBackward<4>{p, nullptr}.bytes() : TileBackward<2>{p, nullptr}.bytes();
}

void tile_backward(const Problem& p, int64_t chunk, void* scratch) {
  char* memory = static_cast<char*>(scratch);
  p.chunk == 64 ? TileBackward<4>{p, memory}.run(chunk) : TileBackward<2>{p, memory}.run(chunk);
}

}  // namespace

const pliant::deformable_conv::Kernels pliant::deformable_conv::amx_bfloat16 = {
    tile_forward_scratch, tile_forward, tile_backward_scratch, tile_backward};
