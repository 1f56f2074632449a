#include "kernels.inl"

const pliant::deformable_conv::Table pliant::deformable_conv::plain = {kernels<float>, kernels<double>};
