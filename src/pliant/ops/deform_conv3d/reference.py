"""The specification of deform_conv3d (and, with two axes, of deform_conv2d)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from pliant.ops.deformable import contract, origins, taps
from pliant.ops.sampling import sample


def deform_conv(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Y[o, u] = bias[o] + sum over c, i of W[o, c, i] M[i, u] X(c, u s - p + i d + offset[i, u]), any number
    of axes.
    """
    batch, channels, *extent = input.shape
    axes, kernel, out = len(extent), weight.shape[2:], offset.shape[2:]
    count = math.prod(kernel)
    groups = offset.shape[1] // (axes * count)
    # channel of offset: axes * (group * count + tap) + axis
    moved = offset.reshape(batch * groups, count, axes, *out).transpose(1, 2)  # [N G, A, K, *out]
    fixed = origins(offset, out, stride, padding).unsqueeze(1) + taps(offset, kernel, dilation).view(
        axes, count, *([1] * axes)
    )
    columns = sample(input.reshape(batch * groups, channels // groups, *extent), moved + fixed)
    if mask is not None:
        columns = columns * mask.reshape(batch * groups, 1, count, *out).to(columns.dtype)
    return contract(columns.reshape(batch, channels, count, *out), weight, bias)
