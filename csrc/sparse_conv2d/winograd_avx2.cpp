// 3 x 3 tiles on avx2.
#define KERNELS winograd_avx2
#include "winograd.inl"
