"""What moved where: local correlation of a frame's features with those of its neighbours in time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MotionFeatures", "local_correlation"]


def local_correlation(keys: Tensor, others: Tensor, radius: int) -> Tensor:
    """Inner products of every key with those around the same place in another frame, [B, (2r + 1)², h, w].

    Channel (dy + r) (2r + 1) + dx + r at (y, x): <keys[y, x], others[y + dy, x + dx]>, 0 outside of the
    frame. keys, others: [B, C, h, w], of one shape and dtype; radius: r, in cells. One matrix product a
    frame: all pairs of cells are computed and a band of them is read, which costs less than (2r + 1)²
    passes over the features.
    """
    padded = F.pad(others, (radius, radius, radius, radius)).flatten(2).transpose(1, 2).contiguous()
    here = keys.flatten(2).transpose(1, 2).contiguous()  # [B, h w, C]
    if torch.is_grad_enabled():
        return _band(here @ padded.transpose(1, 2), *keys.shape[2:], radius)
    # One after the other is twice as fast in bf16, and holds the products of one frame only.
    products = (F.linear(a, b)[None] for a, b in zip(here, padded))
    return torch.cat([_band(p, *keys.shape[2:], radius) for p in products])


def _band(products: Tensor, height: int, width: int, radius: int) -> Tensor:
    """[B, h w, (h + 2r)(w + 2r)] -> [B, (2r + 1)², h, w]: the window of cell (y, x) starts at (y, x) when
    padded.
    """
    side, rows, columns = 2 * radius + 1, height + 2 * radius, width + 2 * radius
    row, cell = width * rows * columns, rows * columns  # steps from one cell's products to the next one's
    band = products.as_strided(
        (len(products), side, side, height, width),
        (height * row, columns, 1, row + columns, cell + 1),
        products.storage_offset(),
    )
    return band.reshape(len(products), side * side, height, width)


class MotionFeatures(nn.Module):
    """Motion of each place and of the frame as a whole, [N, T, C, h, w] keys -> [N, T, width, h, w].

    The correlation with the frames ``steps`` before and after, at each place and its mean over the frame,
    which shows how the camera moves; what a place does against that is for the layers behind. Where a clip
    has no such frame the correlation is 0.

    channels: of the keys, which are scaled to length 1; radius: of the correlation, in cells.
    """

    def __init__(self, channels: int, width: int, radius: int, steps: tuple[int, ...]) -> None:
        super().__init__()
        self.radius, self.steps = radius, steps
        volume = 2 * len(steps) * (2 * radius + 1) ** 2
        self.place = nn.Conv2d(volume, width, 1)
        self.frame = nn.Linear(volume, width)
        self.scale = nn.Parameter(torch.tensor(8.0))

    def forward(self, keys: Tensor) -> Tensor:
        count, length = keys.shape[:2]
        keys = F.normalize(keys, dim=2)
        volumes = [self._against(keys, offset) for step in self.steps for offset in (-step, step)]
        volume = (torch.cat(volumes, dim=2) * self.scale).flatten(0, 1)  # [N T, V, h, w]
        volume = volume.contiguous(memory_format=torch.channels_last)
        frame = self.frame(volume.mean(dim=(2, 3)))
        mixed = self.place(volume) + frame[:, :, None, None]
        return F.relu(mixed).unflatten(0, (count, length))

    def _against(self, keys: Tensor, offset: int) -> Tensor:
        """Correlation of frame t with frame t + offset, [N, T, V, h, w]."""
        count, length, _, height, width = keys.shape
        lost = min(abs(offset), length)
        first, last = max(0, -offset), length - max(0, offset)
        channels = (2 * self.radius + 1) ** 2
        if lost == length:
            return keys.new_zeros(count, length, channels, height, width)
        here, there = keys[:, first:last], keys[:, first + offset : last + offset]
        found = local_correlation(here.flatten(0, 1), there.flatten(0, 1), self.radius)
        found = found.unflatten(0, (count, length - lost))
        missing = found.new_zeros(count, lost, channels, height, width)
        return torch.cat([missing, found] if offset < 0 else [found, missing], dim=1)
