#define GATE_KERNELS gate_avx512
#include "sparse_gates/triple_gate_float32.inl"
