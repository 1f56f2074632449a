"""Fitting the matching module to one stream: a few steps on an annotated frame and warped copies of it.

The WACV abstract names an online updating module that transfers "knowledge from the given first frame" and
says no more; this is our design, off by default. A warped copy has a known motion and known masks, so the
module learns how this frame's content looks when it moves. The embedding stays: its features, and with them
the memory, remain valid.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from pliant import ops

if TYPE_CHECKING:
    from pliant.models.rpmnet.network import RPMNet

__all__ = ["affine_motion", "fit_matching"]

_LEARNING_RATE = 2e-4
_OBJECT_WEIGHT = 3.0  # what a pixel of an object counts beside one of the background


def fit_matching(
    network: RPMNet, image: Tensor, probabilities: Tensor, fitted: dict[str, Tensor] | None
) -> dict[str, Tensor]:
    """Parameters of the matching module after ``preset.online_update`` steps; the network itself is not changed.

    image: [1, 3, H, W], normalised; probabilities: [K + 1, H, W] of that frame; fitted: where to start, None: the
    network's. The same frame gives the same result.
    """
    start = fitted or dict(network.matching.named_parameters())
    plain = torch.autocast(image.device.type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), plain:
        weights = {name: value.detach().float().clone().requires_grad_(True) for name, value in start.items()}
        image, maps = image.detach().clone(), probabilities.detach().clone().float()[None]
        with torch.no_grad():
            reference = network.embed(image).clone()
        optimizer = torch.optim.Adam(weights.values(), lr=_LEARNING_RATE)
        random = torch.Generator().manual_seed(0)
        for _ in range(network.preset.online_update):
            motion = affine_motion(tuple(image.shape[-2:]), random).to(image.device)
            loss = _loss(network, weights, image, maps, reference, motion)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return {name: value.detach() for name, value in weights.items()}


def affine_motion(size: tuple[int, int], random: torch.Generator) -> Tensor:
    """Offsets [1, 2, H, W] in pixels of a random rotation (15 degrees), scale (10 %) and shift (8 % of the
    sides).
    """
    draw = (torch.rand(4, generator=random) * 2 - 1).tolist()
    angle, scale = math.radians(15) * draw[0], 1.1 ** draw[1]
    shift = [0.08 * draw[2] * size[0], 0.08 * draw[3] * size[1]]
    y = torch.arange(size[0], dtype=torch.float32)[:, None] - (size[0] - 1) / 2
    x = torch.arange(size[1], dtype=torch.float32)[None, :] - (size[1] - 1) / 2
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    return torch.stack((cosine * y + sine * x - y + shift[0], cosine * x - sine * y - x + shift[1]))[None]


def _loss(
    network: RPMNet,
    weights: dict[str, Tensor],
    image: Tensor,
    maps: Tensor,
    reference: Tensor,
    motion: Tensor,
) -> Tensor:
    """End-point error in cells and error of the warped maps, where the copy shows what the frame shows."""
    with torch.no_grad():
        # Outside the frame the copy is mid-grey (0 after normalisation); those positions do not count.
        target = network.embed(ops.warp(image.float(), motion).to(image.dtype))
        size = list(target.shape[-2:])
        cells = motion.new_tensor([small / side for small, side in zip(size, image.shape[-2:])])
        truth = F.adaptive_avg_pool2d(motion, size) * cells.reshape(1, 2, 1, 1)
        seen = F.adaptive_avg_pool2d(ops.warp(torch.ones_like(motion[:, :1]), motion), size) > 0.99
        given = F.adaptive_avg_pool2d(maps, size)
        moved = F.adaptive_avg_pool2d(ops.warp(maps, motion), size)
        weight = seen * (1 + (_OBJECT_WEIGHT - 1) * (1 - moved[:, :1]))
    offset = network.match(target.clone(), reference, weights)
    motion_error = (offset - truth).square().sum(1, keepdim=True).add(1e-6).sqrt()
    map_error = (ops.warp(given, offset) - moved).abs().sum(1, keepdim=True)
    return (weight * (motion_error + map_error)).sum() / weight.sum().clamp_min(1)
