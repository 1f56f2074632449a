"""ASPP3d: parallel convolutions of several fixed dilations, side by side (atrous spatial pyramid pooling)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ASPP3d(nn.Module):
    """Parallel 1x1x1 and dilated 3x3x3 convolutions, concatenated and mixed, [N, C, T, H, W] -> [N, O, T, H,
    W].

    Each branch: convolution without bias to ``inner_channels``, batch norm, ReLU; the mix: 1x1x1 to
    ``out_channels``, batch norm, ReLU. rates: a dilation (t, y, x) for each 3x3x3 branch, whose padding is
    the same.
    inner_channels: None for ``out_channels``.
    Source: the comparison in Table 1 of Schmidt et al., WACV 2022; keys as in its checkpoints.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        rates: Sequence[Sequence[int]] = ((1, 6, 6), (1, 12, 12), (1, 18, 18)),
        inner_channels: int | None = None,
    ) -> None:
        super().__init__()
        inner = out_channels if inner_channels is None else inner_channels
        branches = [_branch(in_channels, inner, 1, 0, 1)]
        branches += [_branch(in_channels, inner, 3, tuple(rate), tuple(rate)) for rate in rates]
        self.atrous_convs = nn.ModuleList(branches)
        self.conv_out = _branch(inner * len(branches), out_channels, 1, 0, 1)

    def forward(self, input: Tensor) -> Tensor:
        return self.conv_out(torch.cat([branch(input) for branch in self.atrous_convs], dim=1))


def _branch(in_channels: int, out_channels: int, kernel: int, padding, dilation) -> nn.Sequential:
    conv = nn.Conv3d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(out_channels), nn.ReLU())
