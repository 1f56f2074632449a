"""Colours as RPM-Net sees and reconstructs them: Lab or RGB, each channel about -1 to 1, 0 for "not known".

The supplement says "only color information"; the spaces and scales are ours. Lab (scaled as in MAST) keeps
brightness, which light changes, apart from the two colour channels, which it changes less.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

__all__ = ["ColourSpace", "from_normalised", "from_rgb", "rgb_to_lab"]

ColourSpace = Literal["lab", "rgb"]

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # how the house normalises images (ImageNet)
# Linear sRGB to CIE XYZ (IEC 61966-2-1), each row divided by the D65 white point, so that white is (1, 1, 1).
_XYZ = (
    (0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883),
)


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """CIE Lab under D65: L 0..100, a and b about -110..110.

    rgb: [..., 3, H, W], sRGB, 0..1 (values outside are clipped). Source: CIE 15, IEC 61966-2-1.
    """
    rgb = rgb.clamp(0, 1)
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    # Not a matrix product: autocast would round it to eight bits of mantissa.
    xyz = (linear.unsqueeze(-4) * linear.new_tensor(_XYZ)[:, :, None, None]).sum(-3)
    # The cube root below its linear part has an infinite slope at 0, hence the clamp inside `where`.
    f = torch.where(xyz > 216 / 24389, xyz.clamp_min(216 / 24389) ** (1 / 3), (24389 / 27 * xyz + 16) / 116)
    x, y, z = f.unbind(-3)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), -3)


def from_rgb(rgb: Tensor, space: ColourSpace) -> Tensor:
    """Scaled colours of an image: (L - 50)/50, a/127, b/127 for "lab", 2 v - 1 for "rgb".

    rgb: [..., 3, H, W], 0..1. Raises ValueError for another space.
    """
    if space == "rgb":
        return rgb * 2 - 1
    if space != "lab":
        raise ValueError(f"colour space {space!r}: expected 'lab' or 'rgb'")
    lab = rgb_to_lab(rgb)
    lightness, a, b = lab.unbind(-3)
    return torch.stack(((lightness - 50) / 50, a / 127, b / 127), -3)


def from_normalised(image: Tensor, space: ColourSpace) -> Tensor:
    """Scaled colours of an image that was normalised with the ImageNet mean and deviation, [..., 3, H, W].

    Computed in float32 at least: eight bits of mantissa would band the dark colours.
    """
    image = image.to(torch.promote_types(image.dtype, torch.float32))
    mean, std = (image.new_tensor(v).reshape(3, 1, 1) for v in (_MEAN, _STD))
    return from_rgb(image * std + mean, space)
