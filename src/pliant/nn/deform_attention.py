"""Deformable attention in space-time: every query looks at a few points around its reference point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from math import prod

import torch
from torch import Tensor, nn

from pliant.ops import deform_attention3d

__all__ = ["DeformAttention3d", "DeformAttentionLevels", "QueryReference", "grid_reference"]


def grid_reference(shape: Sequence[int], **options) -> Tensor:
    """Centres of all cells of a volume (T, H, W), [T*H*W, 3], (t, y, x) in units of the extent. options: of tensors."""
    axes = [(torch.arange(extent, **options) + 0.5) / extent for extent in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 2)


class QueryReference(nn.Module):
    """Reference points of object queries, [..., 3] in (0, 1), (t, y, x): sigmoid of a linear map of the embedding.

    frames: with a number T, the queries come frame by frame (first all of frame 0, ...) and t is the centre of a
    query's frame; None: t is learned as y and x are.
    """

    def __init__(self, channels: int, frames: int | None = None) -> None:
        super().__init__()
        self.frames = frames
        self.linear = nn.Linear(channels, 3 if frames is None else 2)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, embedding: Tensor) -> Tensor:
        """embedding [..., Q, C]; with ``frames``, Q a multiple of it."""
        point = self.linear(embedding).sigmoid()
        if self.frames is None:
            return point
        queries = embedding.shape[-2]
        if queries % self.frames:
            raise ValueError(f"{queries} queries cannot be shared out evenly among {self.frames} frames")
        frame = torch.arange(queries, device=point.device) // (queries // self.frames)
        time = ((frame + 0.5) / self.frames).to(point.dtype)
        return torch.cat([time.expand(point.shape[:-1]).unsqueeze(-1), point], -1)


class _DeformAttention(nn.Module):
    """The four linear maps, with the names of Deformable DETR."""

    def __init__(self, channels: int, heads: int, samples: int, axes: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"channels ({channels}) must be a multiple of heads ({heads})")
        self.channels, self.heads = channels, heads
        self.sampling_offsets = nn.Linear(channels, heads * samples * axes)
        self.attention_weights = nn.Linear(channels, heads * samples)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Points spread around the reference, each head in its own direction, all with the same weight."""
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(self.first_offsets().flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def compass(self) -> Tensor:
        """A direction (y, x) a head, [M, 2]; the larger component is 1 or -1. With 8 heads: the eight neighbours."""
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        direction = torch.stack([angle.sin(), angle.cos()], 1)
        return direction / direction.abs().amax(1, keepdim=True)

    def values(self, source: Tensor, padding: Tensor | None) -> Tensor:
        """[N, S, M, D]; zeros where ``padding`` [N, S] is True (after the projection, so that its bias stays out)."""
        value = self.value_proj(source)
        if padding is not None:
            value = value.masked_fill(padding.unsqueeze(2), 0)
        return value.unflatten(2, (self.heads, -1))

    def weights(self, query: Tensor) -> Tensor:
        """[N, Q, M, samples], softmax over the samples of a head, in float32 at least."""
        scores = self.attention_weights(query).unflatten(2, (self.heads, -1))
        return scores.to(torch.promote_types(scores.dtype, torch.float32)).softmax(3)


class DeformAttention3d(_DeformAttention):
    """Multi-head attention of each query to ``points`` fractional places of a space-time volume.

    place = reference + offset / (T, H, W), offset a linear map of the query in cells, (dt, dy, dx); the value there is
    trilinear, zero outside; weights are a softmax over the points of a head.
    Source: Deformable VisTR (Yarram et al. 2022), Eq. 2; names and the spatial start of Deformable DETR. Point k
    starts (k mod 4) + 1 cells along its head's direction, in the frame 0, 1, -1, 2, -2, ... (one more every 4 points).
    """

    def __init__(self, channels: int = 384, heads: int = 8, points: int = 32) -> None:
        self.points = points
        super().__init__(channels, heads, points, 3)

    def first_offsets(self) -> Tensor:
        radii = min(4, self.points)
        k = torch.arange(self.points)
        step, far = k // radii, k % radii + 1
        time = torch.where(step % 2 == 1, (step + 1) // 2, -(step // 2))  # 0, 1, -1, 2, -2, ...
        space = self.compass()[:, None] * far[None, :, None]  # [M, K, 2]
        return torch.cat([time.expand(self.heads, -1).unsqueeze(2), space], 2)

    def forward(
        self,
        query: Tensor,
        reference: Tensor,
        source: Tensor,
        shape: Sequence[int],
        padding: Tensor | None = None,
    ) -> Tensor:
        """[N, Q, C].

        query: [N, Q, C], content plus position. reference: [N, Q, 3], (t, y, x) in units of the extent.
        source: [N, T*H*W, C], content alone, in the order (t, y, x). shape: (T, H, W).
        padding: [N, T*H*W], True where there is no image.
        """
        value = self.values(source, padding)
        offset = self.sampling_offsets(query).unflatten(2, (self.heads, self.points, 3))
        exact = torch.promote_types(offset.dtype, torch.float32)  # bfloat16 has grains of 1/4 cell at 35
        extent = torch.tensor(tuple(shape), dtype=exact, device=offset.device)
        place = reference.to(exact)[:, :, None, None] + offset.to(exact) / extent
        return self.output_proj(deform_attention3d(value, shape, place, self.weights(query)))


class DeformAttentionLevels(_DeformAttention):
    """Frames as levels: ``points`` places in every level, with two-dimensional offsets and one softmax over all.

    Nothing moves or interpolates in time. Levels are frames, or maps of any sizes.
    Source: the multi-scale attention of Deformable DETR, as the repository of Deformable VisTR uses it.
    """

    def __init__(self, channels: int = 384, heads: int = 8, levels: int = 4, points: int = 6) -> None:
        self.levels, self.points = levels, points
        super().__init__(channels, heads, levels * points, 2)

    def first_offsets(self) -> Tensor:
        """[M, levels, points, 2], (x, y) as in Deformable DETR."""
        far = torch.arange(1, self.points + 1).view(1, 1, -1, 1)
        return (self.compass().flip(1)[:, None, None] * far).expand(-1, self.levels, -1, -1)

    def forward(
        self,
        query: Tensor,
        reference: Tensor,
        source: Tensor,
        shapes: Sequence[tuple[int, int]],
        padding: Tensor | None = None,
    ) -> Tensor:
        """[N, Q, C].

        query: [N, Q, C]. reference: [N, Q, L, 2], (x, y) in units of each level's extent. source: [N, S, C], the
        levels one after the other, rows of (y, x). shapes: (H, W) a level, S = sum of H W. padding: [N, S].
        """
        if len(shapes) != self.levels or sum(map(prod, shapes)) != source.shape[1]:
            raise ValueError(
                f"shapes must be {self.levels} pairs (H, W) of together {source.shape[1]} positions, as source has; "
                f"{len(shapes)} have {sum(map(prod, shapes))}"
            )
        value = self.values(source, padding)
        offset = self.sampling_offsets(query).unflatten(2, (self.heads, self.levels, self.points, 2))
        exact = torch.promote_types(offset.dtype, torch.float32)
        extent = torch.tensor(
            [(width, height) for height, width in shapes], dtype=exact, device=offset.device
        )
        place = reference.to(exact)[:, :, None, :, None] + offset.to(exact) / extent[:, None]
        weights = self.weights(query).unflatten(3, (self.levels, self.points))
        parts, first, begin = [], 0, 0
        for shape, same in groupby(shapes):  # neighbours of one size are the frames of one volume
            count = len(list(same))
            levels, cells = slice(first, first + count), slice(begin, begin + count * prod(shape))
            parts.append(
                self._volume(
                    value[:, cells], (count, *shape), place[:, :, :, levels], weights[:, :, :, levels]
                )
            )
            first, begin = levels.stop, cells.stop
        return self.output_proj(torch.stack(parts).sum(0))

    def _volume(self, value: Tensor, shape: tuple[int, int, int], place: Tensor, weights: Tensor) -> Tensor:
        """place [N, Q, M, T, P, 2], (x, y); weights [N, Q, M, T, P]."""
        frame = (torch.arange(shape[0], dtype=place.dtype, device=place.device) + 0.5) / shape[0]
        time = frame[:, None, None].expand(*place.shape[:-1], 1)
        location = torch.cat([time, place.flip(-1)], -1).flatten(3, 4)
        return deform_attention3d(value, shape, location, weights.flatten(3))
