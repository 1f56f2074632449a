"""Enlarging maps along the edges of the image: a guided filter whose coefficients are found at H/4."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["enlarge_along_edges"]

_RADIUS = 2  # cells of H/4
_SMOOTHNESS = 0.02  # variance of a colour, of an image with standard deviation about 1, that counts as an edge


def enlarge_along_edges(maps: Tensor, image: Tensor) -> Tensor:
    """Maps [K + 1, h, w] at the size of the image, [K + 1, H, W]: around each cell the linear function of colours that
    comes nearest to them. They stay in 0..1 and sum to 1.

    image: [1, 3, H, W], normalised. Source: He, Sun, Tang, "Guided image filtering", PAMI 2013; He, Sun, "Fast guided
    filter", 2015.
    """
    image, size = image.float(), tuple(maps.shape[-2:])
    small = F.adaptive_avg_pool2d(image, size)[0]  # [3, h, w]
    mean, mean_maps = _around(small), _around(maps)
    pairs = _around((small[:, None] * small[None]).flatten(0, 1)).unflatten(0, (3, 3))
    spread = pairs - mean[:, None] * mean[None]  # [3, 3, h, w], covariance of the colours
    together = _around((small[:, None] * maps[None]).flatten(0, 1)).unflatten(0, (3, len(maps)))
    together = together - mean[:, None] * mean_maps[None]  # [3, K + 1, h, w]
    spread = spread + _SMOOTHNESS * torch.eye(3, device=maps.device)[:, :, None, None]
    slope = torch.linalg.solve(spread.permute(2, 3, 0, 1), together.permute(2, 3, 0, 1)).permute(2, 3, 0, 1)
    level = mean_maps - (slope * mean[:, None]).sum(0)
    slope, level = _around(slope.flatten(0, 1)), _around(level)
    large = F.interpolate(torch.cat((slope, level))[None], size=tuple(image.shape[-2:]), mode="bilinear")[0]
    slope, level = large[: 3 * len(maps)].unflatten(0, (3, len(maps))), large[3 * len(maps) :]
    found = ((slope * image[0][:, None]).sum(0) + level).clamp(0, 1)
    return found / found.sum(0).clamp_min(1e-6)


def _around(values: Tensor) -> Tensor:
    """Means of [C, h, w] over the (2 radius + 1)^2 positions around each, fewer at borders."""
    return F.avg_pool2d(values[None], 2 * _RADIUS + 1, 1, _RADIUS, count_include_pad=False)[0]
