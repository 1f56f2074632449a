"""DeformConv2d, DeformConv3d: start as the convolution they replace; still axes stay still."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pliant.nn import DeformConv2d, DeformConv3d


@pytest.mark.parametrize("modulation", ["sigmoid", None])
@pytest.mark.parametrize(
    "layer_type, conv",
    [
        (DeformConv3d, nn.Conv3d(4, 6, (1, 3, 3), padding="same", groups=2)),
        (DeformConv2d, nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, bias=False)),
    ],
    ids=["3d", "2d"],
)
def test_a_converted_layer_keeps_the_output_of_the_convolution(layer_type, conv, modulation):
    layer = layer_type.from_conv(conv, modulation=modulation, offset_groups=2)
    x = torch.randn(2, 4, *[5] * layer_type.axes)
    torch.testing.assert_close(layer(x), conv(x))


@pytest.mark.parametrize("moving, still", [("yx", [0]), ("t", [1, 2]), ("tyx", [])])
def test_an_axis_that_is_not_named_does_not_move(moving, still):
    layer = DeformConv3d(2, 2, 3, padding=1, moving=moving)
    nn.init.normal_(layer.deform_params.weight)
    offset = layer.offset(layer.predict(torch.randn(1, 2, 3, 4, 5))).view(1, 27, 3, 3, 4, 5)
    assert [axis for axis in range(3) if offset[:, :, axis].eq(0).all()] == still


def test_the_predictor_has_three_numbers_a_tap_and_the_modulation():
    assert DeformConv3d(2, 2, 3).deform_params.out_channels == 108
    assert DeformConv3d(2, 2, 3, modulation=None).deform_params.out_channels == 81
    assert DeformConv2d(2, 2, 3, offset_groups=2).deform_params.out_channels == 54


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="moving must name axes out of 'yx', not 't'"):
        DeformConv2d(2, 2, 3, moving="t")
    with pytest.raises(ValueError, match="offset_groups must divide the 4 input channels, 3 does not"):
        DeformConv3d(4, 2, 3, offset_groups=3)


@pytest.mark.parametrize(
    "layer_type, options, axis", [(DeformConv2d, {}, 3), (DeformConv3d, {"moving": "t"}, 2)], ids=["2d", "time"]
)
def test_it_learns_to_look_where_the_input_says(layer_type, options, axis):
    """The target is the second channel, two places on where the first is 1: no fixed kernel of one tap can fetch it."""
    torch.manual_seed(0)
    extent = (16, 16) if layer_type is DeformConv2d else (16, 8, 8)
    pool = nn.functional.avg_pool2d if layer_type.axes == 2 else nn.functional.avg_pool3d
    signal = 3 * pool(torch.randn(8, 1, *extent), 5, 1, 2)  # smooth: the gradient points the way
    moved = (torch.arange(8) % 2).view(8, 1, *[1] * layer_type.axes).expand_as(signal).float()
    target = torch.where(moved > 0, signal.roll(-2, axis), signal)
    x = torch.cat([moved, signal], 1)
    layer = layer_type(2, 1, 1, modulation=None, **options)
    optimizer = torch.optim.Adam(layer.parameters(), 0.03)
    for _ in range(150):
        loss = (layer(x) - target).narrow(axis, 2, 11).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    offset = layer.offset(layer.predict(x)).detach()[:, axis - 2]
    assert loss < 1e-3 * target.var()
    assert offset[1::2].mean() == pytest.approx(2, abs=0.05) and offset[0::2].mean() == pytest.approx(0, abs=0.05)
