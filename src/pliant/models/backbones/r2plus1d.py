"""R(2+1)D-34: a 3-D ResNet whose convolutions are split into a spatial and a temporal one.

Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018, with the
pooling after the stem that 3DC-Seg adds.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from pliant.models.backbones.csn import Encoder3d
from pliant.models.backbones.frozen_norm import FrozenBatchNorm

__all__ = ["R2Plus1D"]


def middle_channels(channels: int, out_channels: int) -> int:
    """Width between the two halves that gives them together the parameters of one 3x3x3 convolution."""
    return 27 * channels * out_channels // (9 * channels + 3 * out_channels)


def _factored(channels: int, middle: int, out_channels: int, stride: int, eps: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(channels, middle, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False),
        FrozenBatchNorm(middle, eps),
        nn.ReLU(),
        nn.Conv3d(middle, out_channels, (3, 1, 1), stride=(stride, 1, 1), padding=(1, 0, 0), bias=False),
    )


class _Block(nn.Module):
    def __init__(self, channels: int, out_channels: int, stride: int, eps: float) -> None:
        super().__init__()
        first = middle_channels(channels, out_channels)
        second = middle_channels(out_channels, out_channels)
        self.conv1 = nn.Sequential(
            _factored(channels, first, out_channels, stride, eps), FrozenBatchNorm(out_channels, eps)
        )
        self.conv2 = nn.Sequential(
            _factored(out_channels, second, out_channels, 1, eps), FrozenBatchNorm(out_channels, eps)
        )
        self.downsample = None
        if stride != 1 or channels != out_channels:
            projection = nn.Conv3d(channels, out_channels, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(projection, FrozenBatchNorm(out_channels, eps))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.conv2(F.relu(self.conv1(x))) + shortcut)


class R2Plus1D(Encoder3d):
    """R(2+1)D with frozen batch norms; (3, 4, 6, 3) blocks of widths 64 to 512 are the 34-layer network.

    blocks: of each layer. eps: of the batch norms.
    """

    channels = (64, 128, 256, 512)

    def __init__(self, blocks: tuple[int, int, int, int] = (3, 4, 6, 3), eps: float = 1e-3) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, 45, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False),
            FrozenBatchNorm(45, eps),
            nn.ReLU(),
            nn.Conv3d(45, 64, (3, 1, 1), padding=(1, 0, 0), bias=False),
            FrozenBatchNorm(64, eps),
            nn.ReLU(),
        )
        channels = 64
        for index, (count, width) in enumerate(zip(blocks, self.channels)):
            layer = nn.Sequential()
            for block in range(count):
                layer.append(_Block(channels, width, 2 if block == 0 and index > 0 else 1, eps))
                channels = width
            self.add_module(f"layer{index + 1}", layer)
