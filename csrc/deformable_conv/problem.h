// What the host file hands to the kernels of the deformable convolutions: sizes and pointers, nothing else.
#pragma once

#include <cstdint>

namespace pliant::deformable_conv {

// Axes are (t, y, x); a two-dimensional problem has extent, kernel and stride 1 along t.
//
// Channels lie in segments: a segment belongs to one offset group and one weight group, and is padded with zeros to
// `segment` channels (whole vectors), so that no kernel knows a tail.
struct Problem {
  int64_t batch;
  int64_t extent[3], out[3], kernel[3], stride[3], padding[3], dilation[3];
  int64_t cells, positions, taps;  // products of extent, out, kernel
  int64_t groups, offset_groups, segments, segment;
  int64_t row;                      // channels of a cell of the input: segments * segment
  int64_t outputs, outputs_padded;  // a weight group
  int64_t axes;                     // 2 or 3: numbers an offset
  bool dynamic;                     // coordinates are a dilation map [N, 3, positions], else offsets
  int64_t block;                    // positions a block

  const void* input;        // [N, cells, row]
  const void* coordinates;  // [N, 3, positions] or [N, offset_groups, taps, axes, positions]
  const void* mask;         // [N, offset_groups, taps, positions] or null
  const void* weight;       // packed, see cpu.py
  const void* bias;         // [groups, outputs_padded] or null
  void* output;             // [N, positions, groups * outputs]

  // Backward. `chunk` channels (at most a strip) of one segment are one task.
  int64_t chunk;
  const void* gradient;    // [N, positions, groups * outputs]
  const void* gradient_t;  // [N, groups * outputs, positions rounded up]: bfloat16 only
  int64_t positions_padded;
  void* d_input;        // [N, cells, row], zeros
  void* d_weight;       // [chunks, taps, outputs, chunk], zeros
  void* d_mask;         // [chunks, N, taps, positions] or null
  void* d_coordinates;  // [chunks, N, 3, positions] or [chunks, N, taps, axes, positions]
};

// Kernels of one element type. A block is `block` output positions of one image.
struct Kernels {
  int64_t (*forward_scratch)(const Problem&);  // bytes
  void (*forward)(const Problem&, int64_t image, int64_t block, void* scratch);
  int64_t (*backward_scratch)(const Problem&);
  void (*backward)(const Problem&, int64_t chunk, void* scratch);
};

struct Table {
  Kernels float32, float64;
};

extern const Table plain, avx2, avx512;
extern const Kernels amx_bfloat16;

}  // namespace pliant::deformable_conv
