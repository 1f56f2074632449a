#define PLIANT_KERNELS avx2
#include "sparse_gates/rows.inl"
