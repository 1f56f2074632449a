// bfloat16 on amx.
#define KERNELS bfloat16_amx
#include "memory_readout_bf16.inl"
