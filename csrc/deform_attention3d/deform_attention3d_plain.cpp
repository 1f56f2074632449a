#define KERNELS plain
#include "deform_attention3d.inl"
