"""3DC-Seg and D²Conv3D: a 3-D encoder, a global convolution, three refinement modules.

Mahadevan et al., "Making a Case for 3D Convolutions for Object Segmentation in Videos", BMVC 2020
(3DC-Seg), and Schmidt et al., "D²Conv3D: Dynamic Dilated Convolutions for Object Segmentation in Videos",
WACV 2022. Scales name the refinement modules here: 16, 8, 4 are the paper's rf1, rf2 and the third, which
stays plain.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from pliant.models.backbones.csn import ChannelSeparatedResNet, Encoder3d
from pliant.models.backbones.r2plus1d import R2Plus1D
from pliant.models.d2conv3d.presets import Encoder, Preset, Steering
from pliant.models.d2conv3d.refinement_convolution import refinement_convolution

__all__ = ["ClipSegmenter", "Decoder", "GlobalConvolution", "RefinementModule"]


class GlobalConvolution(nn.Module):
    """Sum of a 7x1 then 1x7 and a 1x7 then 7x1 convolution: a 7x7 view at little cost. [N, C, ...] -> [N,
    width, ...].
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        tall = {"kernel_size": (1, 7, 1), "padding": (0, 3, 0)}
        wide = {"kernel_size": (1, 1, 7), "padding": (0, 0, 3)}
        self.left = nn.Sequential(nn.Conv3d(channels, width, **tall), nn.Conv3d(width, width, **wide))
        self.right = nn.Sequential(nn.Conv3d(channels, width, **wide), nn.Conv3d(width, width, **tall))

    def forward(self, x: Tensor) -> Tensor:
        return self.left(x) + self.right(x)


class RefinementModule(nn.Module):
    """Encoder map through a residual block, plus the upsampled coarser map, through another residual block.

    revised: every convolution is followed by ReLU and a GroupNorm of one group, and upsampling aligns
    corners; otherwise (3DC-Seg) a ReLU stands before the convolutions inside the blocks and there is no
    norm.
    """

    def __init__(
        self, channels: int, width: int, scale: int, steering: Steering | None, revised: bool
    ) -> None:
        super().__init__()
        self.revised = revised

        def convolution(inputs: int, steering: Steering | None) -> nn.Sequential:
            layer = nn.Sequential(refinement_convolution(inputs, width, scale, steering))
            if revised:
                layer.extend([nn.ReLU(), nn.GroupNorm(1, width)])
            return layer

        others = None if steering is not None and steering.kind == "aspp" else steering
        self.skip1 = convolution(channels, steering)
        self.skip2, self.skip3 = convolution(width, others), convolution(width, others)
        self.merge1, self.merge2 = convolution(width, others), convolution(width, others)

    def forward(self, feature: Tensor, coarse: Tensor) -> Tensor:
        """feature [N, C, T, H, W] of the encoder, coarse [N, width, T', H', W'] -> [N, width, T, H, W]."""
        skip = self.skip1(feature)
        skip = skip + self._residual(self.skip2, self.skip3, skip)
        size = skip.shape[2:]
        merged = skip + F.interpolate(coarse, size, mode="trilinear", align_corners=self.revised)
        return merged + self._residual(self.merge1, self.merge2, merged)

    def _residual(self, first: nn.Module, second: nn.Module, x: Tensor) -> Tensor:
        if self.revised:
            return second(first(x))
        return second(F.relu(first(F.relu(x))))


class Decoder(nn.Module):
    """Encoder maps at strides 4, 8, 16, 32 to class logits at stride 4.

    channels: of the four maps, fine to coarse. The convolutions of the modules at 16 and 8 follow
    ``steering``.
    """

    def __init__(
        self,
        channels: tuple[int, int, int, int],
        width: int,
        classes: int,
        steering: Steering | None,
        revised: bool,
    ) -> None:
        super().__init__()
        self.global_convolution = GlobalConvolution(channels[3], width)
        self.residual1 = nn.Conv3d(width, width, 3, padding=1)
        self.residual2 = nn.Conv3d(width, width, 3, padding=1)
        self.refine16 = RefinementModule(channels[2], width, 16, steering, revised)
        self.refine8 = RefinementModule(channels[1], width, 8, steering, revised)
        self.refine4 = RefinementModule(channels[0], width, 4, None, revised)
        self.prediction = nn.Conv3d(width, classes, 3, padding=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps [N, C, T, H, W], fine to coarse -> logits [N, classes, T, H, W] at the size of the first."""
        f4, f8, f16, f32 = features
        x = self.global_convolution(f32)
        x = x + self.residual2(F.relu(self.residual1(F.relu(x))))
        x = self.refine16(f16, x)
        x = self.refine8(f8, x)
        x = self.refine4(f4, x)
        return self.prediction(F.relu(x))


class ClipSegmenter(nn.Module):
    """Finds what is salient in a clip; built from a ``Preset``.

    The clip holds pixels in [0, 1] minus ``pixel_mean`` over ``pixel_std``, sides padded to multiples of
    ``stride`` with what black becomes. Any number of frames will do; the networks of the papers are trained
    for 8.
    """

    stride = 32
    clip_length = 8

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        self.pixel_mean, self.pixel_std = preset.pixel_mean, preset.pixel_std
        self.encoder = _build_encoder(preset.encoder)
        self.decoder = Decoder(
            self.encoder.channels, preset.width, preset.classes, preset.steering, preset.revised
        )

    def class_logits(self, clip: Tensor) -> Tensor:
        """Logits [N, classes, T, H, W] of a normalised clip [N, 3, T, H, W]."""
        logits = self.decoder(self.encoder(clip))
        return F.interpolate(logits, scale_factor=(1, 4, 4), mode="trilinear", align_corners=False)

    def forward(self, clip: Tensor) -> Tensor:
        """Logits [N, 1, T, H, W] whose sigmoid is the probability of the foreground (two classes: the
        softmax's).
        """
        logits = self.class_logits(clip)
        return logits if self.preset.classes == 1 else logits[:, 1:] - logits[:, :1]


def _build_encoder(encoder: Encoder) -> Encoder3d:
    if encoder.kind == "csn":
        return ChannelSeparatedResNet(encoder.blocks, encoder.planes, encoder.eps)
    return R2Plus1D(encoder.blocks, encoder.eps)
