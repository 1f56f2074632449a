// 3 x 3 tiles on plain.
#define KERNELS winograd_plain
#include "winograd.inl"
