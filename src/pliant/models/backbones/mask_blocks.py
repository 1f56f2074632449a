"""Blocks of STCN's value encoder and decoder, which XMem shares: ResBlock, CBAM, fusion, upsampling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.models.backbones.convolve import convolve, convolve_add

__all__ = ["CBAM", "FeatureFusion", "ResBlock", "UpsampleBlock", "repeat_for_objects"]


def repeat_for_objects(x: Tensor, batch: int) -> Tensor:
    """[N, ...] -> [batch, ...] with every row repeated batch / N times: what all objects of a frame share."""
    if len(x) == batch:
        return x
    if len(x) == 1:
        return x.expand(batch, *x.shape[1:])
    return x.repeat_interleave(batch // len(x), dim=0)


class ResBlock(nn.Module):
    """shortcut(x) + conv2(relu(conv1(relu(x)))), no norm; the shortcut is a 3x3 where channels change.

    relu: whether a ReLU follows.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.downsample = None
        if channels != out_channels:
            self.downsample = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        y = convolve(self.conv1, None, F.relu(x), relu=True)
        return convolve_add(self.conv2, None, y, x, self.downsample, relu=relu)


class _ChannelGate(nn.Module):
    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = channels // reduction
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.mlp(x.mean(dim=(2, 3))) + self.mlp(x.amax(dim=(2, 3)))
        return x * torch.sigmoid(scale)[:, :, None, None]


class _SpatialConvolution(nn.Module):  # a level of its own, for the official key names
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)


class _SpatialGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spatial = _SpatialConvolution()

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.spatial.conv(pooled))


class CBAM(nn.Module):
    """Channel gate, then spatial gate (Woo et al., "CBAM", 2018), no residual. [N, C, H, W] -> the same."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.ChannelGate = _ChannelGate(channels, reduction)
        self.SpatialGate = _SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        return self.SpatialGate(self.ChannelGate(x))


class FeatureFusion(nn.Module):
    """Two ResBlocks around x + CBAM(x): [N, C, h, w] (already concatenated) -> [N, out, h, w]."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.block1 = ResBlock(channels, out_channels)
        self.attention = CBAM(out_channels)
        self.block2 = ResBlock(out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block1(x)
        return self.block2(x + self.attention(x))


class UpsampleBlock(nn.Module):
    """Skip convolution of a frame's feature (once a frame) plus the doubled coarser feature (per object),
    ResBlock.

    skip [N, C_skip, 2h, 2w], x [N * K, C_up, h, w] -> [N * K, out, 2h, 2w]; relu: whether a ReLU follows.
    """

    def __init__(self, skip_channels: int, up_channels: int, out_channels: int) -> None:
        super().__init__()
        self.skip_conv = nn.Conv2d(skip_channels, up_channels, 3, padding=1)
        self.out_conv = ResBlock(up_channels, out_channels)

    def forward(self, skip: Tensor, x: Tensor, relu: bool = False) -> Tensor:
        shared = repeat_for_objects(convolve(self.skip_conv, None, skip), len(x))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.out_conv(x + shared if torch.is_grad_enabled() else x.add_(shared), relu)
