// float32 on avx512.
#define KERNELS float32_avx512
#include "sparse_conv2d_f32.inl"
