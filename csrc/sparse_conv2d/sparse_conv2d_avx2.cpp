// float32 on avx2.
#define KERNELS float32_avx2
#include "sparse_conv2d_f32.inl"
