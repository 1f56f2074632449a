"""The interpolation rule of every operator here, in plain PyTorch: multilinear, zero outside, corner by
corner.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor


def sample(input: Tensor, positions: Tensor) -> Tensor:
    """Values of ``input`` between its grid points.

    The value at position q is the sum over the 2^A corners of the cell that starts at floor(q) of the input
    there times the product over the axes of 1 - |q_a - corner_a|. A corner outside the grid counts 0, each
    for itself; so a value fades to 0 within one cell of the border, and is 0 where q <= -1 or q >= n on any
    axis, also for infinite and not-a-number positions. At grid points the derivative by q is the one from the
    right.

    input: [N, C, n_1, ..., n_A]. positions: [N, A, ...], in cells, 0 the first grid point, axes in the order
    of the input's; any trailing shape. Returns [N, C, ...], differentiable by both.
    """
    batch, channels, *extent = input.shape
    axes, trailing = len(extent), positions.shape[2:]
    flat = input.reshape(batch, channels, math.prod(extent))
    bound = positions.new_tensor(extent).view(1, axes, *([1] * len(trailing)))
    # A dead position is moved far enough out that all its corners are outside; this also stops its gradient.
    alive = ((positions >= -1) & (positions < bound)).all(dim=1, keepdim=True)
    positions = torch.where(alive, positions, torch.full_like(positions, -3.0))
    start = positions.detach().floor()
    fraction = positions - start
    result = input.new_zeros(batch, channels, *trailing)
    for corner in itertools.product((0, 1), repeat=axes):
        weight = torch.ones_like(fraction[:, 0])
        index = torch.zeros_like(start[:, 0], dtype=torch.long)
        inside = torch.ones_like(index, dtype=torch.bool)
        for axis, step in enumerate(corner):
            weight = weight * (fraction[:, axis] if step else 1 - fraction[:, axis])
            at = start[:, axis].long() + step
            inside = inside & (at >= 0) & (at < extent[axis])
            index = index * extent[axis] + at.clamp(0, max(extent[axis] - 1, 0))
        index = index.reshape(batch, 1, math.prod(trailing)).expand(-1, channels, -1)
        value = flat.gather(2, index).view(batch, channels, *trailing)
        # where, not a product: what lies outside must not turn an infinite input into nan.
        value = torch.where(inside.unsqueeze(1), value, torch.zeros_like(value))
        result = result + value * weight.unsqueeze(1).to(input.dtype)
    return result
