"""salient_small: U2-NetP's view of each frame, motion against the camera, D²Conv3D's refinement modules in small.

The encoder sees each frame once, however many clips hold it, and its decoder's two finest stages, more than half of the
work, are left out: they add nothing to the score. Time is mixed where maps are small, at 1/16 and 1/8.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.models.backbones.u2net import U2NetP
from pliant.models.d2conv3d.motion import MotionEncoder, motion_between
from pliant.models.d2conv3d.network import GlobalConvolution, RefinementModule
from pliant.models.d2conv3d.presets import SmallPreset
from pliant.nn.fused_conv import conv2d

__all__ = ["SmallSegmenter"]

_SURE = 4.0  # U2-NetP's logits are cut to -4 to 4, beyond which no motion could change its mind


class SmallSegmenter(nn.Module):
    """Finds what moves on its own in a clip; built from a ``SmallPreset``.

    ``encode`` is a function of a frame and the one before, ``decode`` of their features in a clip; ``forward`` is both.
    Input is ImageNet-normalised RGB stretched to ``size`` x ``size``, a multiple of 32.

    The decoder says what to add to U2-NetP's logits: nothing to begin with.
    """

    stride = 32
    size, stretched = 320, True  # as the pictures that the encoder has learnt from
    clip_length = 8
    pixel_mean = (0.485, 0.456, 0.406)
    pixel_std = (0.229, 0.224, 0.225)

    def __init__(self, preset: SmallPreset) -> None:
        super().__init__()
        self.preset = preset
        w16, w8, w4 = preset.widths
        seen = U2NetP.channels
        self.encoder = U2NetP(finest=2)
        self.motion = MotionEncoder((w4, w8, w16)) if preset.motion else None
        both = 2 if preset.motion else 1
        self.skip32, self.skip16 = nn.Conv2d(seen, w16, 1), nn.Conv2d(seen, w16, 1)
        self.skip8, self.skip4 = nn.Conv2d(seen, w8, 1), nn.Conv2d(seen, w4, 1)
        self.context = GlobalConvolution((1 + both) * w16, w16)
        self.context2 = nn.Conv3d(w16, w16, 3, padding=1)
        self.refine16 = RefinementModule(both * w16, w16, 16, preset.steering, revised=True)
        self.narrow = nn.Conv3d(w16, w8, 1)
        self.refine8 = RefinementModule(both * w8, w8, 8, preset.steering, revised=True)
        self.widen = nn.Conv2d(w8, w4, 1)
        self.detail1 = nn.Conv2d((1 + both) * w4 + 1, w4, 3, padding=1)
        self.detail2 = nn.Conv2d(w4, w4, 3, padding=1)
        self.prediction = nn.Conv2d(w4, 1, 3, padding=1)
        nn.init.zeros_(self.prediction.weight)
        nn.init.zeros_(self.prediction.bias)

    def encode(self, images: Tensor, before: Tensor, encoder: nn.Module | None = None) -> tuple[Tensor, ...]:
        """Features of normalised frames [N, 3, H, W], each with the one ``before`` it (the first of a video: itself).

        encoder: runs in place of the network's own. Returns a tuple of [N, C, h, w], to be stacked along a new axis 1.
        """
        encoder = self.encoder if encoder is None else encoder
        trained = torch.is_grad_enabled() and any(p.requires_grad for p in encoder.parameters())
        with torch.set_grad_enabled(trained):
            logits, features = encoder(images.contiguous(memory_format=torch.channels_last))
        if self.motion is None:
            return logits, *features
        return logits, *features, motion_between(before, images).to(logits.dtype)

    def decode(self, features: tuple[Tensor, ...]) -> Tensor:
        """Logits [N, 1, T, H, W] of the features of clips, each [N, T, C, h, w]."""
        logits, *maps = features
        count, length = logits.shape[:2]
        motion = self.motion(maps.pop()) if self.motion is not None else None
        layers = (self.skip4, self.skip8, self.skip16, self.skip32)
        maps = [conv2d(layer, x.flatten(0, 1)).unflatten(0, (count, length)) for layer, x in zip(layers, maps)]
        f4, f8, f16, f32 = maps
        if motion is not None:
            f4, f8, f16 = (torch.cat(pair, 2) for pair in zip(maps, motion))
        pooled = F.avg_pool2d(f16.flatten(0, 1), 2, ceil_mode=True).unflatten(0, (count, length))
        context = F.relu(self.context(_frames_last(torch.cat([pooled, f32], dim=2))))
        context = context + F.relu(self.context2(context))
        x = self.refine16(_frames_last(f16), context)
        x = self.refine8(_frames_last(f8), self.narrow(x))
        x = self.widen(x.transpose(1, 2).flatten(0, 1))
        f4, logits = f4.flatten(0, 1), logits.flatten(0, 1)
        x = F.interpolate(x, f4.shape[2:], mode="bilinear", align_corners=False)
        logits = (logits / _SURE).tanh() * _SURE
        x = torch.cat([F.relu(x), F.relu(f4), logits], 1).contiguous(memory_format=torch.channels_last)
        x = conv2d(self.detail1, x, relu=True)
        x = x + conv2d(self.detail2, x, relu=True)
        logits = logits + conv2d(self.prediction, x)
        logits = F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)
        return logits.unflatten(0, (count, length)).transpose(1, 2)

    def forward(self, clip: Tensor, encoder: nn.Module | None = None) -> Tensor:
        """Logits [N, 1, T, H, W] of a normalised clip [N, 3, T, H, W]; encoder: as in ``encode``."""
        count, _, length = clip.shape[:3]
        frames = clip.transpose(1, 2)  # [N, T, 3, H, W]
        before = torch.cat([frames[:, :1], frames[:, :-1]], 1)
        features = self.encode(frames.flatten(0, 1), before.flatten(0, 1), encoder)
        return self.decode(tuple(f.unflatten(0, (count, length)) for f in features))


def _frames_last(x: Tensor) -> Tensor:
    """[N, T, C, h, w] -> [N, C, T, h, w], channels last in memory (no copy where they were)."""
    return x.transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)
