// float32 on avx512.
#define WIDTH 16
#define KERNELS float32_avx512
#include "memory_readout_f32.inl"
