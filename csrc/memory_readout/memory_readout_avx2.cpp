// float32 on avx2.
#define WIDTH 8
#define KERNELS float32_avx2
#include "memory_readout_f32.inl"
