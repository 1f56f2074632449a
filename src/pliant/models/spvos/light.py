"""The key encoder of ``spvos_light``, for machines where float32 is the fast type: MobileNetV2 and one 1x1 layer."""

from __future__ import annotations

from torch import Tensor, nn

from pliant.models.backbones.mobilenet_v2 import MobileNetV2Trunk
from pliant.nn.fused_conv import conv2d

__all__ = ["LightKeyEncoder"]


class LightKeyEncoder(nn.Module):
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
