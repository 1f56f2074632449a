// 3 x 3 tiles on avx512.
#define KERNELS winograd_avx512
#include "winograd.inl"
