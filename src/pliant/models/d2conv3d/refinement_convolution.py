"""The 3x3x3 convolution of a refinement module, or the layer that a preset puts in its place."""

from __future__ import annotations

from torch import nn

from pliant.models.d2conv3d.presets import Steering
from pliant.nn import ASPP3d, DeformConv3d, DynamicDilatedConv3d

__all__ = ["refinement_convolution"]

# Dilation rates (t, y, x) of ASPP's three dilated branches, by the stride of the map.
ASPP_RATES = {16: ((1, 3, 3), (1, 6, 6), (1, 9, 9)), 8: ((1, 6, 6), (1, 12, 12), (1, 18, 18))}


def refinement_convolution(
    channels: int, out_channels: int, scale: int, steering: Steering | None
) -> nn.Module:
    """[N, channels, T, H, W] -> [N, out_channels, T, H, W]; ``scale``: stride of the map, which sets
    ASPP's rates.
    """
    if steering is None:
        return nn.Conv3d(channels, out_channels, 3, padding=1)
    if steering.kind in ("aspp", "aspp_all"):
        return ASPP3d(channels, out_channels, ASPP_RATES[scale])
    modulation = "sigmoid" if steering.modulated else None
    if steering.kind == "deform":
        return DeformConv3d(channels, out_channels, 3, padding=1, modulation=modulation, moving=steering.axes)
    return DynamicDilatedConv3d(
        channels,
        out_channels,
        3,
        padding=1,
        rates=steering.axes,
        modulation=modulation,
        activation=steering.activation,
    )
