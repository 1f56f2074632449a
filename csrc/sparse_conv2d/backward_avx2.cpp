#define PLIANT_KERNELS avx2
#include "sparse_conv2d/backward.inl"
