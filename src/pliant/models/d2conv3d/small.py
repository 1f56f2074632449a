"""salient_small: a 2-D encoder a frame, motion by correlation, D²Conv3D's refinement modules in small.

The encoder sees each frame once, however many clips hold it; time is mixed where maps are small, at 1/16
and 1/8. A CPU with matrix instructions runs it in bf16 at several times the speed of the networks of the
papers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.models.backbones.frame_encoders import MobileNetV2Pyramid
from pliant.models.d2conv3d.motion import MotionFeatures
from pliant.models.d2conv3d.network import GlobalConvolution, RefinementModule
from pliant.models.d2conv3d.presets import SmallPreset
from pliant.nn.fused_conv import conv2d

__all__ = ["SmallSegmenter"]


class SmallSegmenter(nn.Module):
    """Finds what moves on its own in a clip; built from a ``SmallPreset``.

    ``encode`` is a function of single frames, ``decode`` of their features in a clip; ``forward`` is both.
    Input is ImageNet-normalised RGB, sides multiples of ``stride``.
    """

    stride = 16
    clip_length = 8
    pixel_mean = (0.485, 0.456, 0.406)
    pixel_std = (0.229, 0.224, 0.225)

    def __init__(self, preset: SmallPreset) -> None:
        super().__init__()
        self.preset = preset
        w16, w8, w4 = preset.widths
        self.encoder = MobileNetV2Pyramid()
        c4, c8, c16, c32 = self.encoder.channels
        self.key = nn.Conv2d(c16, preset.key_channels, 1)
        nn.init.orthogonal_(self.key.weight)  # keeps angles: untrained features match well enough to begin with
        self.skip32 = nn.Conv2d(c32, w16, 1)
        self.skip16 = nn.Conv2d(c16, w16, 1)
        self.skip8 = nn.Conv2d(c8, w8, 1)
        self.skip4 = nn.Conv2d(c4, w4, 1)
        self.motion = None
        if preset.correlation_radius:
            self.motion = MotionFeatures(preset.key_channels, w16, preset.correlation_radius, preset.correlation_steps)
        inputs = w16 if self.motion is None else 2 * w16
        self.context = GlobalConvolution(inputs + w16, w16)
        self.context2 = nn.Conv3d(w16, w16, 3, padding=1)
        self.refine16 = RefinementModule(inputs, w16, 16, preset.steering, revised=True)
        self.narrow = nn.Conv3d(w16, w8, 1)
        self.refine8 = RefinementModule(w8, w8, 8, preset.steering, revised=True)
        self.widen = nn.Conv2d(w8, w4, 1)
        self.detail1 = nn.Conv2d(w4, w4, 3, padding=1)
        self.detail2 = nn.Conv2d(w4, w4, 3, padding=1)
        self.prediction = nn.Conv2d(w4, 1, 3, padding=1)

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features of normalised frames [N, 3, H, W]: a tuple of [N, C, h, w], to be stacked along a new
        axis 1.
        """
        return self.project(self.encoder(images.contiguous(memory_format=torch.channels_last)))

    def project(self, maps: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
        """What the decoder takes of the encoder's maps at 1/4, 1/8, 1/16 and 1/32."""
        f4, f8, f16, f32 = maps
        features = [conv2d(self.skip4, f4), conv2d(self.skip8, f8), conv2d(self.skip16, f16), conv2d(self.skip32, f32)]
        if self.motion is not None:
            features.append(conv2d(self.key, f16))
        return tuple(features)

    def decode(self, features: tuple[Tensor, ...]) -> Tensor:
        """Logits [N, 1, T, H, W] of the features of clips, each [N, T, C, h, w]."""
        f4, f8, f16, f32, *keys = features
        length = f4.shape[1]
        x16 = torch.cat([f16, self.motion(keys[0])], dim=2) if keys else f16
        pooled = F.avg_pool2d(x16.flatten(0, 1), 2, ceil_mode=True).unflatten(0, x16.shape[:2])
        context = F.relu(self.context(_frames_last(torch.cat([pooled, f32], dim=2))))
        context = context + F.relu(self.context2(context))
        x = self.refine16(_frames_last(x16), context)
        x = self.refine8(_frames_last(f8), self.narrow(x))
        x = self.widen(x.transpose(1, 2).flatten(0, 1))
        f4 = f4.flatten(0, 1)
        x = F.interpolate(x, f4.shape[2:], mode="bilinear", align_corners=False)
        x = F.relu(x + f4)
        x = x + conv2d(self.detail2, conv2d(self.detail1, x, relu=True))
        logits = conv2d(self.prediction, F.relu(x))
        logits = F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)
        return logits.unflatten(0, (-1, length)).transpose(1, 2)

    def forward(self, clip: Tensor) -> Tensor:
        """Logits [N, 1, T, H, W] of a normalised clip [N, 3, T, H, W]."""
        count, _, length = clip.shape[:3]
        features = self.encode(clip.transpose(1, 2).flatten(0, 1))
        return self.decode(tuple(f.unflatten(0, (count, length)) for f in features))


def _frames_last(x: Tensor) -> Tensor:
    """[N, T, C, h, w] -> [N, C, T, h, w], channels last in memory (no copy where they were)."""
    return x.transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)
