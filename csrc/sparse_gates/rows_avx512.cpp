#define PLIANT_KERNELS avx512
#include "sparse_gates/rows.inl"
