"""ResNet-50 and ResNet-18 to the third stage, with the key names that STCN and XMem checkpoints use.

torchvision's ResNets (stride on the 3x3 of a bottleneck) give the same numbers; their ``layer1`` is ``res2``
in the key encoder. Batch norms are meant to stay in eval mode, also in training.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from pliant.models.backbones.convolve import convolve, convolve_add

__all__ = ["BasicBlock", "Bottleneck", "ResNet18Trunk", "ResNet50Trunk"]


def _shortcut(channels: int, out_channels: int, stride: int, bias: bool) -> nn.Sequential | None:
    if stride == 1 and channels == out_channels:
        return None
    return nn.Sequential(nn.Conv2d(channels, out_channels, 1, stride=stride, bias=bias), nn.BatchNorm2d(out_channels))


class Bottleneck(nn.Module):
    """1x1, 3x3 (carries the stride), 1x1, each with batch norm, around a shortcut. -> [N, 4p, H/s, W/s]."""

    expansion = 4

    def __init__(self, channels: int, planes: int, stride: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=bias)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.downsample = _shortcut(channels, planes * self.expansion, stride, bias)

    def forward(self, x: Tensor) -> Tensor:
        y = convolve(self.conv2, self.bn2, convolve(self.conv1, self.bn1, x, relu=True), relu=True)
        return convolve_add(self.conv3, self.bn3, y, x, self.downsample, relu=True)


class BasicBlock(nn.Module):
    """Two 3x3 (the first carries the stride) with batch norm, around a shortcut. -> [N, p, H/s, W/s]."""

    expansion = 1

    def __init__(self, channels: int, planes: int, stride: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, stride=stride, padding=1, bias=bias)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _shortcut(channels, planes, stride, bias)

    def forward(self, x: Tensor) -> Tensor:
        y = convolve(self.conv1, self.bn1, x, relu=True)
        return convolve_add(self.conv2, self.bn2, y, x, self.downsample, relu=True)


def _stage(block: type, channels: int, planes: int, count: int, stride: int, bias: bool) -> nn.Sequential:
    first = block(channels, planes, stride, bias)
    others = [block(planes * block.expansion, planes, 1, bias) for _ in range(count - 1)]
    return nn.Sequential(first, *others)


class ResNet50Trunk(nn.Module):
    """Key encoder: image [N, 3, H, W] -> f16 [N, 1024, H/16, W/16], f8 [N, 512, ...], f4 [N, 256, ...]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.res2 = _stage(Bottleneck, 64, 64, 3, 1, False)
        self.layer2 = _stage(Bottleneck, 256, 128, 4, 2, False)
        self.layer3 = _stage(Bottleneck, 512, 256, 6, 2, False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(convolve(self.conv1, self.bn1, image, relu=True), 3, stride=2, padding=1)
        f4 = self.res2(x)
        f8 = self.layer2(f4)
        return self.layer3(f8), f8, f4


class ResNet18Trunk(nn.Module):
    """Trunk of the value encoder: [N, in_channels, H, W] -> [N, 256, H/16, W/16].

    bias: whether convolutions have one (STCN: yes; XMem, torchvision: no).
    """

    def __init__(self, in_channels: int, bias: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=bias)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(BasicBlock, 64, 64, 2, 1, bias)
        self.layer2 = _stage(BasicBlock, 64, 128, 2, 2, bias)
        self.layer3 = _stage(BasicBlock, 128, 256, 2, 2, bias)

    def trunk(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(convolve(self.conv1, self.bn1, x, relu=True), 3, stride=2, padding=1)
        return self.layer3(self.layer2(self.layer1(x)))
