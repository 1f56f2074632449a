#include "kernels.inl"

const pliant::deformable_conv::Table pliant::deformable_conv::avx512 = {kernels<float>, kernels<double>};
