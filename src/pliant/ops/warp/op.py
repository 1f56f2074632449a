"""warp: each position of the result reads the input at its own place plus an offset."""

from __future__ import annotations

import torch
from torch import Tensor

from pliant.ops.arguments import autocast, check_tensors, empty_output, precise
from pliant.ops.backend import requested_backend
from pliant.ops.registration import register
from pliant.ops.warp import cpu
from pliant.ops.warp.reference import warp_reference


def warp(input: Tensor, offset: Tensor) -> Tensor:
    """Backward bilinear warp by a field of displacements, [N, C, H, W].

    Y[n, c, y, x] = X[n, c, y + offset[n, 0, y, x], x + offset[n, 1, y, x]]

    X between grid points is bilinear, 0 outside, each corner for itself. A position that is infinite or not a number
    counts as outside.

    input: [N, C, H, W], float32, float64, bfloat16 or float16.
    offset: [N, 2, H, W], (dy, dx) in pixels of the input, any of these dtypes; computed in float32 at least.

    Differentiable by both (once); at grid points the derivative by the offset is the one from the right.
    Raises ValueError or TypeError where shapes, dtypes or devices do not fit.
    Source: layer 109 of RPM-Net (Kim et al. 2020).

    >>> warp(torch.randn(1, 3, 30, 54), torch.zeros(1, 2, 30, 54)).shape
    torch.Size([1, 3, 30, 54])
    """
    (input,) = autocast(input)
    if input.dim() != 4:
        raise ValueError(f"warp: input must be [N, C, H, W], not {list(input.shape)}")
    expected = [input.shape[0], 2, *input.shape[2:]]
    if list(offset.shape) != expected:
        raise ValueError(
            f"warp: offset must be [N, 2, H, W] = {expected} for an input of {list(input.shape)}, "
            f"not {list(offset.shape)}"
        )
    check_tensors("warp", "input", input=input, offset=offset)
    return torch.ops.pliant.warp(input, precise(offset, input), requested_backend())


def _fake(input: Tensor, offset: Tensor) -> Tensor:
    return empty_output(input, input.shape)


register("warp", "Tensor input, Tensor offset", reference=warp_reference, fake=_fake, cpu=cpu)
