"""The specification of :func:`pliant.ops.warp`: four corners, read and blended one by one."""

from __future__ import annotations

import torch
from torch import Tensor


def warp_reference(input: Tensor, offset: Tensor) -> Tensor:
    """See :func:`pliant.ops.warp`. Sums in float32 at least and rounds once."""
    dtype = input.dtype
    work = torch.promote_types(dtype, torch.float32)
    batch, channels, height, width = input.shape
    rows = torch.arange(height, device=input.device, dtype=work).view(1, height, 1)
    columns = torch.arange(width, device=input.device, dtype=work).view(1, 1, width)
    y = rows + offset[:, 0].to(work)  # [N, H, W]
    x = columns + offset[:, 1].to(work)
    # -2 has no corner inside; this also takes what is not a number, so that no gradient of it is left
    y = torch.where((y > -1) & (y < height), y, -2.0)
    x = torch.where((x > -1) & (x < width), x, -2.0)
    y_floor, x_floor = y.detach().floor(), x.detach().floor()
    y_part, x_part = y - y_floor, x - x_floor
    cells = input.to(work).flatten(2)  # [N, C, H*W]

    total = cells.new_zeros(batch, channels, height * width)
    for y_step in (0, 1):
        for x_step in (0, 1):
            row, column = y_floor + y_step, x_floor + x_step
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = torch.where(inside, row * width + column, 0).long().flatten(1)
            weight = (y_part if y_step else 1 - y_part) * (x_part if x_step else 1 - x_part)
            corner = cells.gather(2, index.unsqueeze(1).expand(-1, channels, -1))
            inside, weight = inside.flatten(1).unsqueeze(1), weight.flatten(1).unsqueeze(1)
            total = total + torch.where(inside, corner, 0) * weight
    return total.view(batch, channels, height, width).to(dtype)
