// bfloat16 on avx512bf16.
#define KERNELS bfloat16_avx512
#include "memory_readout_bf16.inl"
