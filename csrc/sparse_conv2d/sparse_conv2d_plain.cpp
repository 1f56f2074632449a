// float32 on plain.
#define KERNELS float32_plain
#include "sparse_conv2d_f32.inl"
