"""Carrying masks from several remembered frames at once: each is warped to the current one by the offsets that led
here, then every position takes what looks most alike nearby, whichever frame it comes from.

Ours, not the paper's. Warping from frame to frame alone drifts: an error is warped on for ever. Here the first frame
stays among the references, and the embedding that matching was learnt with decides which of them to believe.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pliant import ops

__all__ = ["Reference", "around", "blend", "coarse_offset", "compose", "from_nearby", "refresh"]

_TEMPERATURE = 0.03
_COARSE_REACH = 8  # cells of H/8
_FAINT = 1e-6  # a sum of weights below it means that nothing alike was found


@dataclass(slots=True)
class Reference:
    """A frame whose masks are known, and where the current frame's positions lie in it."""

    embedding: Tensor  # [1, C, h, w], in what it is compared (``likeness``), of length 1 at each position
    maps: Tensor  # [K + 1, h, w]
    offset: Tensor  # [1, 2, h, w] in cells, from the frame seen last to this one
    permanent: bool = False  # annotated: never dropped


def compose(first: Tensor, then: Tensor) -> Tensor:
    """Offsets of going by ``first`` and from there by ``then``, both [N, 2, h, w]; where one leaves the picture the
    nearest offset inside is taken."""
    height, width = first.shape[-2:]
    rows = torch.arange(height, device=first.device, dtype=first.dtype)[:, None]
    columns = torch.arange(width, device=first.device, dtype=first.dtype)
    y = (rows + first[:, 0]).clamp(0, height - 1) - rows
    x = (columns + first[:, 1]).clamp(0, width - 1) - columns
    return first + ops.warp(then, torch.stack((y, x), 1))


def windows(reach: int) -> list[tuple[int, int]]:
    """All steps (dy, dx) of at most ``reach`` cells."""
    steps = range(-reach, reach + 1)
    return [(dy, dx) for dy in steps for dx in steps]


def _shifted(padded: Tensor, step: tuple[int, int], reach: int, size: tuple[int, int]) -> Tensor:
    top, left = step[0] + reach, step[1] + reach
    return padded[..., top : top + size[0], left : left + size[1]]


def from_nearby(query: Tensor, keys: Tensor, values: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """For each position the weighted sum of the references' values around it, and the sum of the weights; a weight is
    exp((cosine - 1) / ``_TEMPERATURE``).

    query: [1, C, h, w] of unit length; keys: [R, C, h, w], shorter than 1 where they are not covered; values:
    [R, V, h, w]. Returns [R, V, h, w] and [R, 1, h, w]; the one divided by the other is the mean.
    """
    size = tuple(query.shape[-2:])
    border = (reach,) * 4
    keys, values = F.pad(keys, border), F.pad(values, border)
    total = values.new_zeros(len(keys), values.shape[1], *size)
    weights = total.new_zeros(len(keys), 1, *size)
    for step in windows(reach):
        cosine = (query * _shifted(keys, step, reach, size)).sum(1, keepdim=True)
        weight = ((cosine - 1) / _TEMPERATURE).exp()
        total.addcmul_(weight, _shifted(values, step, reach, size))
        weights += weight
    return total, weights


def coarse_offset(query: Tensor, key: Tensor) -> Tensor:
    """Offsets [1, 2, h, w] to about a cell: where a patch looks most alike at half the resolution, at most
    ``_COARSE_REACH`` cells there away, and of equals rather the nearer.

    query, key: embeddings [1, C, h, w] of unit length.
    """
    small_query, small_key = (F.normalize(F.avg_pool2d(x, 2, ceil_mode=True), dim=1) for x in (query, key))
    size, reach = tuple(small_query.shape[-2:]), _COARSE_REACH
    padded = F.pad(small_key, (reach,) * 4)
    best = query.new_full((1, 1, *size), -1.0)
    found = query.new_zeros(1, 2, *size)
    for step in windows(reach):
        cosine = (small_query * _shifted(padded, step, reach, size)).sum(1, keepdim=True)
        cosine = F.avg_pool2d(cosine, 3, 1, padding=1) - 0.002 * (abs(step[0]) + abs(step[1]))
        better = cosine > best
        best = torch.where(better, cosine, best)
        found = torch.where(better, found.new_tensor(step).reshape(1, 2, 1, 1), found)
    large = F.interpolate(2 * _median(found), scale_factor=2, mode="bilinear", align_corners=False)
    return large[..., : query.shape[-2], : query.shape[-1]]


def _median(offset: Tensor) -> Tensor:
    """Each component's median over 3x3 positions."""
    cells = F.unfold(F.pad(offset, (1, 1, 1, 1), mode="replicate").transpose(0, 1), 3)
    return cells.median(1).values.reshape(1, 2, *offset.shape[-2:])


def blend(query: Tensor, references: list[Reference], motion: Tensor, reach: int) -> Tensor:
    """Maps [K + 1, h, w] of a new frame from its references, whose ``offset`` is carried on to it.

    query: its embedding, [1, C, h, w] of unit length. references: the newest last. motion: offsets [1, 2, h, w] to the
    frame before it. reach: how far around them to look, in cells. Only around the objects, elsewhere the last frame is
    warped. Where an object is that a reference does not know, that reference does not count.
    """
    for reference in references:
        reference.offset = compose(motion, reference.offset)
    newest = references[-1]
    maps = ops.warp(newest.maps[None], newest.offset)[0]
    maps[0] += 1 - maps.sum(0)  # what comes from outside the picture
    box = around(1 - maps[0], 2 * reach)
    if box is None:
        return maps
    for reference in references:
        if reference.permanent and reference is not newest:
            _find_again(query, reference, (slice(None), *box))
    objects, channels = len(maps), query.shape[1]
    height, width = query.shape[-2:]
    rows = torch.arange(height, dtype=query.dtype, device=query.device)[:, None].expand(height, width)
    columns = torch.arange(width, dtype=query.dtype, device=query.device).expand(height, width)
    grid = torch.stack((rows, columns))
    keys, values = [], []
    for reference in references:
        unknown = objects - len(reference.maps)
        known = F.pad(reference.maps, (0, 0, 0, 0, 0, unknown))
        warped = ops.warp(torch.cat((reference.embedding[0], known))[None], reference.offset)[0]
        late = maps[objects - unknown :].sum(0).clamp(0, 1)
        keys.append((warped[:channels] * (1 - late))[box])
        values.append(torch.cat((warped[channels:], reference.offset[0] + grid))[box])
    total, weights = from_nearby(query[0][box][None], torch.stack(keys), torch.stack(values), reach)
    found = weights.sum(0) > _FAINT
    mean = total[:, :objects].sum(0) / weights.sum(0).clamp_min(_FAINT)
    maps[box] = torch.where(found, mean / mean.sum(0).clamp_min(_FAINT), maps[box])
    for reference, places, weight in zip(references, total[:, objects:], weights):
        offset = reference.offset.clone()
        offset[0][box] = torch.where(weight > _FAINT, places / weight.clamp_min(_FAINT) - grid[box], offset[0][box])
        reference.offset = offset
    return maps


def _find_again(query: Tensor, reference: Reference, box: tuple[slice, ...]) -> None:
    """Look for a reference's content by likeness around where it was carried to: what drifted further than ``reach``,
    or was hidden for a while, comes back to its place."""
    seen = F.normalize(ops.warp(reference.embedding, reference.offset)[box], dim=1)
    offset = reference.offset.clone()
    offset[box] = compose(coarse_offset(query[box], seen), reference.offset[box])
    reference.offset = offset


def refresh(references: list[Reference], newest: Reference, recent: int) -> list[Reference]:
    """The references with ``newest`` among them: all permanent ones and the last ``recent``."""
    others = [reference for reference in references if not reference.permanent]
    dropped = others[: max(0, len(others) + 1 - recent)]
    return [reference for reference in references if not any(reference is gone for gone in dropped)] + [newest]


def around(objects: Tensor, margin: int) -> tuple[slice, slice, slice] | None:
    """The part of [C, h, w] around where ``objects`` [h, w] is above 0.02, with a margin; None: nowhere."""
    there = objects > 0.02
    if not there.any():
        return None
    sides = [slice(None)]
    for axis in (1, 0):
        hit = there.any(axis).nonzero()
        sides.append(slice(max(0, int(hit[0]) - margin), int(hit[-1]) + margin + 1))
    return tuple(sides)
