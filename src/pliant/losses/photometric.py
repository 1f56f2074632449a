"""Losses of learning to match from colours alone: how well a reference, warped by offsets, explains a target.

All of them take tensors and give tensors: maps [N, 1, H, W] of each position's loss, masks [N, 1, H, W] of
where it counts, scalars by ``masked_mean``. Offsets are those of ``pliant.ops.warp``: (dy, dx) in pixels of
the maps, from the target to the reference. Colours may be any space; those of ``pliant.models.rpmnet.colour``
lie within -1 and 1.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pliant.ops import warp

__all__ = [
    "ColourLoss",
    "colour_loss",
    "consistency",
    "copied_by_similarity",
    "cycle_error",
    "edge_aware_smoothness",
    "found_again",
    "in_view",
    "masked_mean",
    "neighbourhoods",
    "soft_bins",
    "structure_loss",
]

ColourLoss = Literal["l1", "huber", "mse", "quantised"]

_HUBER_DELTA = 0.05  # about 2.5 steps of L out of 100: noise and compression below it, motion above
_BINS = 16  # a channel of the quantised loss; the width of one is 2/15 of the channel's range


def colour_loss(
    target: Tensor,
    reference: Tensor,
    offset: Tensor,
    kind: ColourLoss = "huber",
    weights: Tensor | None = None,
) -> Tensor:
    """How far the reference warped by the offsets is from the target, at each position, summed over channels.

    l1: |d|. huber: d^2 / (2 delta) below delta = 0.05, |d| - delta / 2 above. mse: d^2.
    quantised: cross-entropy between 16 bins a channel (``soft_bins``), less the target's entropy, so that
    equal
        colours cost 0; the warped bins are a distribution, which can be split between two colours at an edge.

    target, reference: [N, C, H, W], -1..1. offset: [N, 2, H, W]. weights: [N, C], what each channel counts.
    Returns [N, 1, H, W]. Raises ValueError for another kind.
    """
    if kind == "quantised":
        given, seen = (
            soft_bins(target),
            warp(soft_bins(reference).flatten(1, 2), offset).unflatten(1, (-1, _BINS)),
        )
        tiny = 1e-3  # a bin that the warp leaves empty costs at most 7 nats
        loss = (given * ((given + tiny) / (seen + tiny)).log()).sum(2)  # [N, C, H, W]
    else:
        difference = (warp(reference, offset) - target).abs()
        if kind == "l1":
            loss = difference
        elif kind == "huber":
            loss = F.huber_loss(
                difference, torch.zeros_like(difference), reduction="none", delta=_HUBER_DELTA
            )
            loss = loss / _HUBER_DELTA
        elif kind == "mse":
            loss = difference.square()
        else:
            raise ValueError(f"colour loss {kind!r}: expected 'l1', 'huber', 'mse' or 'quantised'")
    if weights is not None:
        loss = loss * weights[:, :, None, None]
    return loss.sum(1, keepdim=True)


def copied_by_similarity(
    target: Tensor, reference: Tensor, values: Tensor, places: Tensor, temperature: float = 0.07
) -> Tensor:
    """What the reference holds where it looks alike: at each place the mean of ``values`` over the whole reference,
    weighted by the softmax of cosine similarity / temperature.

    target, reference: embeddings [N, C, h, w]. values: [N, V, h, w], of the reference. places: [N, P], row-major
    indices into the target. Returns [N, P, V], float32.
    """
    places = places[:, None].expand(-1, target.shape[1], -1)
    queries = F.normalize(target.float(), dim=1).flatten(2).gather(2, places) / temperature  # [N, C, P]
    keys = F.normalize(reference.float(), dim=1).flatten(2)
    weights = (queries.transpose(1, 2) @ keys).softmax(-1)  # [N, P, h w]
    return weights @ values.flatten(2).transpose(1, 2)


def found_again(
    target: Tensor, reference: Tensor, affine: Tensor, places: Tensor, temperature: float = 0.07
) -> Tensor:
    """How surely each place is found where it is known to lie in the reference: cross-entropy over all its positions.

    target, reference: embeddings [N, C, h, w]. affine: [N, 2, 3], (row, column, 1) in cells of the target to (row,
    column) in cells of the reference. places: [N, P], row-major indices into the target. The true position counts by
    bilinear weights of its four neighbours; places that lie outside of the reference do not count. A scalar, float32:
    the mean over the others, 0 where there are none. Source: InfoNCE (van den Oord et al., 2018) over positions.
    """
    height, width = reference.shape[-2:]
    rows, columns = places // target.shape[-1], places % target.shape[-1]
    position = torch.stack((rows, columns, torch.ones_like(rows)), 1).to(affine.dtype)  # [N, 3, P]
    y, x = (affine @ position).unbind(1)
    inside = (y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1)
    chosen = places[:, None].expand(-1, target.shape[1], -1)
    queries = F.normalize(target.float(), dim=1).flatten(2).gather(2, chosen) / temperature
    keys = F.normalize(reference.float(), dim=1).flatten(2)
    logarithms = (queries.transpose(1, 2) @ keys).log_softmax(-1)  # [N, P, h w]
    total = logarithms.new_zeros(places.shape)
    top, left = y.clamp(0, height - 1).floor(), x.clamp(0, width - 1).floor()
    for row in (top, top + 1):
        for column in (left, left + 1):
            weight = (1 - (y - row).abs()).clamp_min(0) * (1 - (x - column).abs()).clamp_min(0)
            index = row.clamp(max=height - 1) * width + column.clamp(max=width - 1)
            total = total - weight * logarithms.gather(2, index.long()[..., None])[..., 0]
    return (total * inside).sum() / inside.sum().clamp_min(1)


def neighbourhoods(colours: Tensor, dilation: int = 2) -> Tensor:
    """Each position's colours and those of its eight neighbours at a distance of ``dilation``: [N, C, h, w] to
    [N, 9 C, h, w], borders repeated."""
    padded = F.pad(colours, (dilation,) * 4, mode="replicate")
    return F.unfold(padded, 3, dilation=dilation).unflatten(2, colours.shape[-2:])


def soft_bins(colours: Tensor) -> Tensor:
    """Each channel's value as weights of its two nearest of 16 bins: [N, C, H, W] in -1..1 to [N, C, 16, H,
    W].
    """
    position = (colours.clamp(-1, 1) + 1) * ((_BINS - 1) / 2)
    centres = torch.arange(_BINS, device=colours.device, dtype=colours.dtype).reshape(-1, 1, 1)
    return (1 - (position.unsqueeze(2) - centres).abs()).clamp_min(0)


def structure_loss(target: Tensor, prediction: Tensor) -> Tensor:
    """(1 - SSIM) / 2 in 3x3 windows, averaged over channels: [N, C, H, W] in -1..1 to [N, 1, H, W], 0 where
    equal.

    Source: Wang et al., "Image quality assessment", 2004, constants 0.01 and 0.03 of the range, which is 2.
    """

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)

    a, b = mean(target), mean(prediction)
    variance_a, variance_b = mean(target.square()) - a * a, mean(prediction.square()) - b * b
    covariance = mean(target * prediction) - a * b
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    similarity = (2 * a * b + c1) * (2 * covariance + c2)
    similarity = similarity / ((a * a + b * b + c1) * (variance_a + variance_b + c2))
    return ((1 - similarity) / 2).clamp(0, 1).mean(1, keepdim=True)


def in_view(offset: Tensor, threshold: float = 0.99) -> Tensor:
    """Where the reference has what the offset points to: 1 if at least ``threshold`` of the sample lies
    inside it.

    offset: [N, 2, H, W]. Returns [N, 1, H, W], 0 or 1, without a gradient.
    """
    with torch.no_grad():
        return (warp(torch.ones_like(offset[:, :1]), offset) >= threshold).to(offset.dtype)


def cycle_error(forward: Tensor, backward: Tensor) -> Tensor:
    """Where one arrives by going to the other frame and back, |o_f(x) + o_b(x + o_f(x))|: [N, 2, H, W] to [N,
    1, H, W].
    """
    error = forward + warp(backward, forward)
    return (error.square().sum(1, keepdim=True) + 1e-6).sqrt()


def consistency(forward: Tensor, backward: Tensor) -> Tensor:
    """Where a point is seen in both frames: 1 if the cycle returns, |e|^2 <= 0.01 (|o_f|^2 + |o_b|^2) + 0.5.

    forward, backward: [N, 2, H, W]. Returns [N, 1, H, W], 0 or 1, without a gradient.
    Source: Sundaram, Brox, Keutzer, "Dense point trajectories by GPU-accelerated large displacement optical
    flow", ECCV 2010.
    """
    with torch.no_grad():
        back = warp(backward, forward)
        error = (forward + back).square().sum(1, keepdim=True)
        size = forward.square().sum(1, keepdim=True) + back.square().sum(1, keepdim=True)
        return (error <= 0.01 * size + 0.5).to(forward.dtype)


def edge_aware_smoothness(offset: Tensor, guide: Tensor, sharpness: float = 10.0) -> Tensor:
    """Mean of |d o| exp(-sharpness |d guide|) over both axes: motion may jump where the image does.

    offset: [N, 2, H, W]; guide: [N, 1, H, W]. Returns a scalar.
    """
    total = offset.new_zeros(())
    for axis in (2, 3):
        step = offset.diff(dim=axis).abs().sum(1, keepdim=True)
        weight = torch.exp(-sharpness * guide.diff(dim=axis).abs())
        total = total + (step * weight).sum() / max(step.numel(), 1)
    return total / 2


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values [N, 1, H, W] where mask [N, 1, H, W] counts them; 0 if it counts nothing."""
    return (values * mask).sum() / mask.sum().clamp_min(1)
