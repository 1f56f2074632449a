"""3-D encoders: sizes by rounding up, and their published parameter counts."""

from __future__ import annotations

import pytest
import torch

from pliant.models.backbones.csn import ChannelSeparatedResNet
from pliant.models.backbones.r2plus1d import R2Plus1D, middle_channels


@pytest.mark.parametrize(
    "build, parameters",
    [
        (ChannelSeparatedResNet, 28_732_544),
        (lambda: ChannelSeparatedResNet((3, 4, 6, 3)), 12_258_432),
        (R2Plus1D, 63_441_687),
    ],
    ids=["ir-CSN-152", "ir-CSN-50", "R(2+1)D-34"],
)
def test_parameters(build, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in build().parameters()) == parameters


@pytest.mark.parametrize("encoder", [ChannelSeparatedResNet((1, 1, 1, 1), 4), R2Plus1D((1, 1, 1, 1))])
def test_four_maps_halved_in_space_and_from_the_second_on_in_time(encoder):
    maps = encoder(torch.randn(1, 3, 7, 36, 70))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (encoder.channels[0], 7, 9, 18),
        (encoder.channels[1], 4, 5, 9),
        (encoder.channels[2], 2, 3, 5),
        (encoder.channels[3], 1, 2, 3),
    ]


def test_middle_channels_keep_the_parameters_of_a_whole_convolution():
    widths = [(64, 64), (64, 128), (128, 128), (256, 256), (512, 512)]
    assert [middle_channels(*pair) for pair in widths] == [144, 230, 288, 576, 1152]
