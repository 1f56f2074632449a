"""The specification of dynamic_dilated_conv3d: the offsets of a dilation map, handed to deform_conv3d's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pliant.ops.deform_conv3d.reference import deform_conv
from pliant.ops.deformable import taps


def offsets(dilation_map: Tensor, kernel: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """The offsets that stretch a kernel about its centre: b (D - 1) with b = d (i - (k - 1) / 2), [N, 3 K,
    To, Ho, Wo].

    A tap in the centre of an axis does not move along it, whatever the rate (also an infinite one).
    """
    batch, _, *out = dilation_map.shape
    base = taps(dilation_map, kernel, dilation)
    base = base - base.amax(dim=1, keepdim=True) / 2  # [3, K]
    base = base.t().reshape(1, math.prod(kernel), 3, 1, 1, 1)
    moved = base * (dilation_map.unsqueeze(1) - 1)
    return torch.where(base == 0, torch.zeros_like(moved), moved).reshape(batch, 3 * math.prod(kernel), *out)


def dynamic_dilated_conv(
    input: Tensor,
    dilation_map: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Y[o, u] = bias[o] + sum over c, i of W[o, c, i] M[i, u] X(c, centre(u) + d (i - (k - 1) / 2) D(u))."""
    offset = offsets(dilation_map, weight.shape[2:], dilation)
    return deform_conv(input, offset, weight, bias, mask, stride, padding, dilation)
