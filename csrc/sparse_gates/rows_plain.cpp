#define PLIANT_KERNELS plain
#include "sparse_gates/rows.inl"
