#include "problem.h"
const pliant::deformable_conv::Kernels pliant::deformable_conv::amx_bfloat16 = {};
