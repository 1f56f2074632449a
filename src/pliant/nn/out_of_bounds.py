"""OutOfBounds: counts how many sampling points of a network's layers lie outside of their input."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pliant.nn.dynamic_dilated_conv import DynamicDilatedConv3d
from pliant.nn.steered_conv import SteeredConv
from pliant.ops.deformable import origins, taps
from pliant.ops.dynamic_dilated_conv3d.reference import offsets


@dataclass
class Count:
    """Sampling points of one layer: all, those outside, those with no corner inside, those outside an
    axis.
    """

    points: int = 0
    outside: int = 0
    lost: int = 0
    outside_axis: list[int] = field(default_factory=list)

    @property
    def percent(self) -> float:
        """Points outside, in percent: q < 0 or q > n - 1 on some axis (they have partial support at most)."""
        return 100 * self.outside / max(self.points, 1)

    @property
    def percent_lost(self) -> float:
        """Points with no corner inside, in percent: q <= -1 or q >= n on some axis."""
        return 100 * self.lost / max(self.points, 1)

    @property
    def percent_axis(self) -> list[float]:
        """Points outside along each axis, in percent, (t,) y, x."""
        return [100 * n / max(self.points, 1) for n in self.outside_axis]

    def add(self, positions: Tensor, extent: tuple[int, ...]) -> None:
        """Counts positions [A, ...], in cells of an input of that extent."""
        last = positions.new_tensor([n - 1 for n in extent]).view(-1, *([1] * (positions.dim() - 1)))
        outside = ~((positions >= 0) & (positions <= last))
        lost = ~((positions > -1) & (positions < last + 1))
        self.points += positions[0].numel()
        self.outside += int(outside.any(0).sum())
        self.lost += int(lost.any(0).sum())
        found = outside.flatten(1).sum(1).tolist()
        self.outside_axis = [a + b for a, b in zip(self.outside_axis or [0] * len(found), found)]


class OutOfBounds:
    """Counts, while the block runs, the sampling points of every steered layer of ``network`` (Fig. 2 of
    D2Conv3D).

    A point is one tap at one output position; the modulation does not enter. Positions are computed in
    float64, so that a point exactly on the border counts inside. Costs a second run of each layer's
    predictor.

    >>> layer = DynamicDilatedConv3d(4, 4, 3, padding=1)
    >>> with OutOfBounds(layer) as counts:
    ...     _ = layer(torch.randn(1, 4, 2, 30, 54))
    >>> f"{counts.average:.1f} %"
    '35.6 %'
    """

    def __init__(self, network: nn.Module) -> None:
        self.layers = {name: m for name, m in network.named_modules() if isinstance(m, SteeredConv)}
        self.counts = {name: Count() for name in self.layers}
        self._hooks: list = []

    @property
    def average(self) -> float:
        """Mean over the layers of their percentage of points outside."""
        return sum(count.percent for count in self.counts.values()) / max(len(self.counts), 1)

    def __enter__(self) -> OutOfBounds:
        for name, layer in self.layers.items():
            count = self.counts[name]
            self._hooks.append(
                layer.register_forward_pre_hook(
                    lambda layer, inputs, count=count: _observe(layer, inputs[0], count)
                )
            )
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()


@torch.no_grad()
def _observe(layer: SteeredConv, input: Tensor, count: Count) -> None:
    raw = layer.predict(input).double()
    kernel = layer.deform_conv.kernel_size
    stride, padding, dilation = layer.geometry
    if isinstance(layer, DynamicDilatedConv3d):
        offset = offsets(layer.spread(layer.dilate(raw)), kernel, dilation)
    else:
        offset = layer.offset(raw)
    out = offset.shape[2:]
    axes, number = len(out), math.prod(kernel)
    moved = offset.reshape(-1, number, axes, *out).permute(2, 0, 1, *range(3, 3 + axes))  # [A, N G, K, *out]
    fixed = taps(offset, kernel, dilation).view(axes, 1, number, *([1] * axes))
    start = origins(offset, out, stride, padding).view(axes, 1, 1, *out)
    count.add(moved + fixed + start, tuple(input.shape[2:]))
