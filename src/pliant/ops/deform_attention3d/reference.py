"""The specification of :func:`pliant.ops.deform_attention3d`: eight corners, read and blended one by one."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor


def deform_attention3d_reference(
    value: Tensor, shape: tuple[int, int, int], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """See :func:`pliant.ops.deform_attention3d`. Coordinates and sums in float32 at least; rounds once."""
    work = torch.promote_types(value.dtype, torch.float32)
    batch, _, heads, width = value.shape
    queries, points = sampling_locations.shape[1], sampling_locations.shape[3]
    location = sampling_locations.to(work)
    floors, parts = [], []
    for axis, extent in enumerate(shape):
        u = location[..., axis] * extent - 0.5  # [N, Q, M, K], cells; 0 the centre of the first
        u = torch.where((u > -1) & (u < extent), u, -2.0)  # -2 has no corner inside; takes NaN as well
        floors.append(u.detach().floor())
        parts.append(u - floors[-1])

    cells = value.to(work).permute(0, 2, 1, 3)  # [N, M, T*H*W, D]
    total = cells.new_zeros(batch, heads, queries, width)
    for steps in product((0, 1), repeat=3):
        t, y, x = (low + step for low, step in zip(floors, steps))
        inside = torch.ones_like(t, dtype=torch.bool)
        weight = attention_weights.to(work)
        for corner, part, step, extent in zip((t, y, x), parts, steps, shape):
            inside = inside & (corner >= 0) & (corner < extent)
            weight = weight * (part if step else 1 - part)
        index = torch.where(inside, (t * shape[1] + y) * shape[2] + x, 0).long()
        index = index.transpose(1, 2).flatten(2).unsqueeze(3).expand(-1, -1, -1, width)  # [N, M, Q*K, D]
        corner = cells.gather(2, index).unflatten(2, (queries, points))  # [N, M, Q, K, D]
        inside, weight = inside.transpose(1, 2).unsqueeze(4), weight.transpose(1, 2).unsqueeze(4)
        total = total + (torch.where(inside, corner, 0) * weight).sum(3)
    return total.transpose(1, 2).reshape(batch, queries, heads * width).to(value.dtype)
