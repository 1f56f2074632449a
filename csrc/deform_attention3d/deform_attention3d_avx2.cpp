#define KERNELS avx2
#include "deform_attention3d.inl"
