"""Encoders of single frames for networks that run on CPUs: ImageNet networks, batch norms folded in.

They give maps at 1/4, 1/8 and 1/16; ``channels`` says how wide they are, ``general`` which layers keep their
ImageNet weights in training.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from pliant.models.backbones.mobilenet_v2 import MobileNetV2Trunk
from pliant.nn.fused_conv import conv2d, conv2d_add
from pliant.nn.pooling import max_pool_rectified

__all__ = ["Bottleneck", "MobileNetV2Encoder", "ResNet50Encoder", "frame_encoder"]


class Bottleneck(nn.Module):
    """ResNet v1 bottleneck without batch norm, stride on the first 1x1 as in the Keras weights."""

    def __init__(self, inputs: int, planes: int, stride: int, *, project: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 1, stride)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1)
        self.shortcut = nn.Conv2d(inputs, 4 * planes, 1, stride) if project else None

    def forward(self, x: Tensor) -> Tensor:
        # The fused addition overwrites its residual, which is x where nothing projects: only the block before made it,
        # and nobody else keeps it (a stage, whose result the decoder wants, begins with a projection).
        residual = x if self.shortcut is None else conv2d(self.shortcut, x)
        y = conv2d(self.conv2, conv2d(self.conv1, x, relu=True), relu=True)
        return conv2d_add(self.conv3, y, residual, relu=True)


class ResNet50Encoder(nn.Module):
    """Image [N, 3, H, W] -> features at 1/4 [256], 1/8 [512], 1/16 [1024]."""

    channels = (256, 512, 1024)

    def __init__(self, blocks: tuple[int, int, int]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 7, 2, 3)
        inputs = 64
        for stage, (count, planes) in enumerate(zip(blocks, (64, 128, 256)), start=1):
            layers = []
            for index in range(count):
                stride = 2 if stage > 1 and index == 0 else 1
                layers.append(Bottleneck(inputs, planes, stride, project=index == 0))
                inputs = 4 * planes
            setattr(self, f"layer{stage}", nn.Sequential(*layers))

    @property
    def general(self) -> tuple[nn.Module, ...]:
        """Layers that keep their ImageNet weights in training."""
        return self.stem, self.layer1

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = max_pool_rectified(conv2d(self.stem, image, relu=True))
        f4 = self.layer1(x)
        f8 = self.layer2(f4)
        return f4, f8, self.layer3(f8)


class MobileNetV2Encoder(nn.Module):
    """Image [N, 3, H, W] -> features at 1/4 [144], 1/8 [192], 1/16 [192].

    The layer in between keeps the 3x3 convolutions that read keys and context cheap: 576 channels would cost 10 ms.
    """

    channels = (*MobileNetV2Trunk.channels[:2], 192)

    def __init__(self) -> None:
        super().__init__()
        self.trunk = MobileNetV2Trunk()
        self.neck = nn.Conv2d(MobileNetV2Trunk.channels[2], self.channels[2], 1)

    @property
    def general(self) -> tuple[nn.Module, ...]:
        """Layers that keep their ImageNet weights in training: all that run at 1/2."""
        return self.trunk.stem, *self.trunk.blocks[:2]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        f4, f8, f16 = self.trunk(image)
        return f4, f8, conv2d(self.neck, f16, relu=True)


def frame_encoder(
    kind: Literal["resnet50", "mobilenet_v2"], blocks: tuple[int, int, int]
) -> ResNet50Encoder | MobileNetV2Encoder:
    """The encoder of that name; ``blocks``: how many of ResNet-50's first three stages are kept."""
    return MobileNetV2Encoder() if kind == "mobilenet_v2" else ResNet50Encoder(blocks)
