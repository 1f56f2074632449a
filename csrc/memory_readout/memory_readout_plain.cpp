// float32 on plain.
#define WIDTH 4
#define KERNELS float32_plain
#include "memory_readout_f32.inl"
