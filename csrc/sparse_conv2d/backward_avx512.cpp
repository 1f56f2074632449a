#define PLIANT_KERNELS avx512
#include "sparse_conv2d/backward.inl"
