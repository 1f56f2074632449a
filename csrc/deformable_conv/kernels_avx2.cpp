#include "kernels.inl"

const pliant::deformable_conv::Table pliant::deformable_conv::avx2 = {kernels<float>, kernels<double>};
