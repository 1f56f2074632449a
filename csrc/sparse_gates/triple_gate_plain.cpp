#define GATE_KERNELS gate_plain
#include "sparse_gates/triple_gate_float32.inl"
