"""ir-CSN: 3-D ResNets whose 3x3x3 convolutions work channel by channel.

"Interaction-reduced, channel-separated": Tran et al., "Video Classification with Channel-Separated
Convolutional Networks", ICCV 2019; here with a pooling that halves space only, as 3DC-Seg uses it: 8 frames
stay 8, 4, 2, 1 at strides 4, 8, 16, 32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pliant.models.backbones.frozen_norm import FrozenBatchNorm

__all__ = ["ChannelSeparatedResNet", "Encoder3d"]


class Encoder3d(nn.Module):
    """What 3-D encoders share: a ``stem``, four layers of blocks, and four feature maps.

    channels: of the four maps. ``checkpoint_blocks = True`` recomputes the inside of every block in the
    backward pass: a training clip needs a fraction of the memory for a third more time.
    """

    channels: tuple[int, int, int, int]
    checkpoint_blocks = False

    def forward(self, clip: Tensor) -> list[Tensor]:
        """[N, 3, T, H, W] -> maps at strides 4, 8, 16, 32 in space and 1, 2, 4, 8 in time, sizes rounded
        up.
        """
        x = F.max_pool3d(self.stem(clip), (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        features = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in layer:
                x = checkpoint(block, x, use_reentrant=False) if self._recomputes(x) else block(x)
            features.append(x)
        return features

    def _recomputes(self, x: Tensor) -> bool:
        return self.checkpoint_blocks and self.training and x.requires_grad


class _Stem(nn.Module):
    def __init__(self, channels: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, channels, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False)
        self.bn1 = norm(channels)

    def forward(self, clip: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(clip)))


class _Block(nn.Module):
    """1x1x1, depth-wise 3x3x3 (carries the stride), 1x1x1, each with norm, around a shortcut."""

    def __init__(
        self, channels: int, planes: int, stride: int, first: bool, norm: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        out_channels = 4 * planes
        self.conv1 = nn.Conv3d(channels, planes, 1, bias=False)
        self.bn1 = norm(planes)
        self.conv2 = nn.Conv3d(planes, planes, 3, stride=stride, padding=1, groups=planes, bias=False)
        self.bn2 = norm(planes)
        self.conv3 = nn.Conv3d(planes, out_channels, 1, bias=False)
        self.bn3 = norm(out_channels)
        self.downsample = None
        if first:
            projection = nn.Conv3d(channels, out_channels, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(projection, norm(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class ChannelSeparatedResNet(Encoder3d):
    """ir-CSN with frozen batch norms. Blocks (3, 8, 36, 3) are ir-CSN-152, (3, 4, 6, 3) are ir-CSN-50.

    blocks: of each of the four layers. planes: inner width of the first, doubled in every further one; maps
    have four times that. eps: of the batch norms (the weights of the paper were trained with 1e-3).
    """

    def __init__(
        self, blocks: tuple[int, int, int, int] = (3, 8, 36, 3), planes: int = 64, eps: float = 1e-3
    ) -> None:
        super().__init__()

        def norm(channels: int) -> FrozenBatchNorm:
            return FrozenBatchNorm(channels, eps)

        self.stem = _Stem(planes, norm)
        channels = planes
        for index, count in enumerate(blocks):
            inner = planes * 2**index
            layer = nn.Sequential()
            for block in range(count):
                stride = 2 if block == 0 and index > 0 else 1
                layer.append(_Block(channels, inner, stride, block == 0, norm))
                channels = 4 * inner
            self.add_module(f"layer{index + 1}", layer)
        self.channels = tuple(4 * planes * 2**index for index in range(4))
