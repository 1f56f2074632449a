"""What moved where: local correlation of a frame's features with those of its neighbours in time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MotionFeatures", "against_the_camera", "local_correlation"]


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


def against_the_camera(flow: Tensor, rounds: int = 3) -> Tensor:
    """What is left of a flow field [B, 2, h, w] when the camera's part is taken out, of its shape, float32.

    The camera's part is the affine motion that most places follow: least squares over all of them, repeated with
    weights 1 / (1 + r² / m), r what is left of a place and m the median of r² (Cauchy's weights), ``rounds`` times.
    Gradients pass through the flow, not through the fit.
    """
    count, _, height, width = flow.shape
    flow = flow.float()
    rows = torch.linspace(-1, 1, height, device=flow.device)[:, None].expand(height, width)
    columns = torch.linspace(-1, 1, width, device=flow.device).expand(height, width)
    basis = torch.stack([torch.ones_like(rows), rows, columns]).flatten(1)  # [3, h w]
    with torch.no_grad():
        values, weights = flow.flatten(2), flow.new_ones(count, 1, height * width)
        for _ in range(rounds):
            weighted = basis * weights  # [B, 3, h w]
            normal = weighted @ basis.T + 1e-3 * torch.eye(3, device=flow.device)
            motion = torch.linalg.solve(normal, weighted @ values.transpose(1, 2))  # [B, 3, 2]
            left = (values - motion.transpose(1, 2) @ basis).square().sum(1, keepdim=True)
            weights = 1 / (1 + left / left.median(dim=2, keepdim=True).values.clamp_min(1e-4))
        camera = (motion.transpose(1, 2) @ basis).view_as(flow)
    return flow - camera


class MotionFeatures(nn.Module):
    """Motion of each place and of the frame as a whole, [N, T, C, h, w] keys -> [N, T, width, h, w].

    The correlation with the frames ``steps`` before and after, at each place and its mean over the frame; where in it
    the best match lies (the mean of all steps, weighted by their softmax), and what of that is not the camera's motion
    (``against_the_camera``), with its length. Where a clip has no such frame all of this is 0.

    channels: of the keys, whose mean over the frame is taken out before they are scaled to length 1; radius: of the
    correlation, in cells.
    """

    def __init__(self, channels: int, width: int, radius: int, steps: tuple[int, ...]) -> None:
        super().__init__()
        self.radius, self.steps = radius, steps
        volume = 2 * len(steps) * (2 * radius + 1) ** 2
        self.place = nn.Conv2d(volume + 2 * len(steps) * 5, width, 1)
        self.frame = nn.Linear(volume, width)
        self.scale = nn.Parameter(torch.tensor(8.0))
        self.sharpness = nn.Parameter(torch.tensor(60.0))  # of the softmax

    def forward(self, keys: Tensor) -> Tensor:
        count, length = keys.shape[:2]
        keys = F.normalize(keys - keys.mean(dim=(3, 4), keepdim=True), dim=2)
        found = [self._against(keys, offset) for step in self.steps for offset in (-step, step)]
        volume = (torch.cat([v for v, _ in found], dim=2) * self.scale).flatten(0, 1)  # [N T, V, h, w]
        flow = torch.cat([f for _, f in found], dim=2).flatten(0, 1).to(volume.dtype)
        volume = volume.contiguous(memory_format=torch.channels_last)
        frame = self.frame(volume.mean(dim=(2, 3)))
        mixed = self.place(torch.cat([volume, flow], dim=1)) + frame[:, :, None, None]
        return F.relu(mixed).unflatten(0, (count, length))

    def _against(self, keys: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """Correlation of frame t with frame t + offset [N, T, V, h, w], and the motion in it [N, T, 5, h, w]."""
        count, length, _, height, width = keys.shape
        lost = min(abs(offset), length)
        first, last = max(0, -offset), length - max(0, offset)
        channels = (2 * self.radius + 1) ** 2
        if lost == length:
            return tuple(keys.new_zeros(count, length, size, height, width) for size in (channels, 5))
        here, there = keys[:, first:last], keys[:, first + offset : last + offset]
        volume = local_correlation(here.flatten(0, 1), there.flatten(0, 1), self.radius)
        pair = volume, self._motion(volume)
        whole = []
        for part in pair:
            part = part.unflatten(0, (count, length - lost))
            missing = part.new_zeros(count, lost, *part.shape[2:])
            whole.append(torch.cat([missing, part] if offset < 0 else [part, missing], dim=1))
        return whole[0], whole[1]

    def _motion(self, volume: Tensor) -> Tensor:
        """(dy, dx) of the best match in cells, the same against the camera, and the length of that: [B, 5, h, w]."""
        with torch.autocast(volume.device.type, enabled=False):
            weights = (volume.float() * self.sharpness.float()).softmax(1)
            steps = torch.arange(-self.radius, self.radius + 1, device=volume.device, dtype=torch.float32)
            rows, columns = (axis.flatten() for axis in torch.meshgrid(steps, steps, indexing="ij"))
            flow = torch.stack([(weights * axis.view(1, -1, 1, 1)).sum(1) for axis in (rows, columns)], 1)
            left = against_the_camera(flow)
            length = (left.square().sum(1, keepdim=True) + 1e-6).sqrt()
            return torch.cat([flow, left, length], 1)
