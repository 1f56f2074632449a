#define GATE_KERNELS gate_avx2
#include "sparse_gates/triple_gate_float32.inl"
