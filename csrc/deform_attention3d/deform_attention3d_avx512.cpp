#define KERNELS avx512
#include "deform_attention3d.inl"
