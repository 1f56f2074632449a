#define PLIANT_KERNELS plain
#include "sparse_conv2d/backward.inl"
