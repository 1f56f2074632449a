"""DynamicDilatedConv3d: starts as the convolution it replaces, has the published parameters, learns its
rates.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pliant.nn import DynamicDilatedConv3d

VARIANTS = [{"rates": r, "modulation": m} for r in ("t,y,x", "y,x", "yx", "t,yx") for m in ("sigmoid", None)]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_a_converted_layer_keeps_the_output_of_the_convolution(options):
    torch.manual_seed(0)
    conv = nn.Conv3d(
        6, 8, (3, 5, 3), stride=(1, 2, 1), padding=(1, 2, 1), dilation=(1, 1, 2), groups=2
    ).double()
    x = torch.randn(2, 6, 4, 9, 10, dtype=torch.float64)
    torch.testing.assert_close(DynamicDilatedConv3d.from_conv(conv, **options)(x), conv(x))


def test_without_keeping_the_output_the_weight_is_copied_as_it_is():
    conv = nn.Conv3d(3, 4, 3, padding="same", bias=False)
    layer = DynamicDilatedConv3d.from_conv(conv, keep_output=False)
    assert torch.equal(layer.deform_conv.weight, conv.weight) and layer.deform_params.bias is None
    x = torch.randn(1, 3, 2, 5, 6)
    torch.testing.assert_close(layer(x), conv(x) / 2)


def test_the_ten_replaced_convolutions_of_3dc_seg_cost_2903340_parameters():
    added = 0
    for channels in (1024, 512, *[256] * 8):
        layer = DynamicDilatedConv3d(channels, 256, 3, padding=1, bias=True)
        added += sum(p.numel() for p in layer.deform_params.parameters())
    assert added == 2_903_340


def test_state_dict_has_the_names_of_the_published_checkpoints():
    layer = DynamicDilatedConv3d(4, 5, 3, input_norm=nn.GroupNorm(2, 4))
    assert {k: tuple(v.shape) for k, v in layer.state_dict().items()} == {
        "deform_conv.weight": (5, 4, 3, 3, 3),
        "deform_conv.bias": (5,),
        "norm.weight": (4,),
        "norm.bias": (4,),
        "deform_params.weight": (30, 4, 3, 3, 3),
        "deform_params.bias": (30,),
    }


@pytest.mark.parametrize(
    "activation, start", [("elu_plus_one", 1.0), ("relu", 1.0), ("relu_plus_one", 1.001), ("none", 0.0)]
)
def test_every_activation_starts_at_its_rate(activation, start):
    layer = DynamicDilatedConv3d(2, 2, 3, padding=1, activation=activation).double()
    raw = layer.predict(torch.randn(1, 2, 3, 4, 5, dtype=torch.float64))
    torch.testing.assert_close(layer.dilate(raw), torch.full((1, 3, 3, 4, 5), start, dtype=torch.float64))


def test_small_rates_keep_their_digits():
    layer = DynamicDilatedConv3d(1, 1, 1, modulation=None)
    raw = torch.full((1, 3, 1, 1, 1), -20.0)
    assert layer.dilate(raw).flatten()[0].item() == pytest.approx(2.0611536e-09, rel=1e-6)


def test_rates_stay_precise_in_a_bfloat16_network():
    layer = DynamicDilatedConv3d(4, 4, 3, padding=1).bfloat16()
    x = torch.randn(1, 4, 2, 5, 5, dtype=torch.bfloat16)
    assert layer(x).dtype == torch.bfloat16
    assert layer.dilate(layer.predict(x)).dtype == torch.float32


def test_autocast_gives_its_dtype_and_trains():
    layer = DynamicDilatedConv3d(4, 4, 3, padding=1)
    x = torch.randn(1, 4, 2, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"rates": "xyz"}, "rates must be one of 't,y,x', 'y,x', 'yx', 't,yx', not 'xyz'"),
        ({"activation": "elu"}, "activation must be one of .* not 'elu'"),
        (
            {"modulation": "softmax"},
            "modulation must be 'sigmoid', 'relu', 'tanh', 'linear' or None, not 'softmax'",
        ),
    ],
    ids=lambda v: str(v)[:20],
)
def test_unknown_names_are_refused_with_the_known_ones(options, message):
    with pytest.raises(ValueError, match=message):
        DynamicDilatedConv3d(2, 2, 3, **options)


def test_what_cannot_be_converted_says_why():
    with pytest.raises(TypeError, match=r"takes an nn\.Conv3d, not Conv2d"):
        DynamicDilatedConv3d.from_conv(nn.Conv2d(2, 2, 3))
    with pytest.raises(ValueError, match="padding_mode must be 'zeros', not 'reflect'"):
        DynamicDilatedConv3d.from_conv(nn.Conv3d(2, 2, 3, padding_mode="reflect"))
    with pytest.raises(ValueError, match=r"starts at the rate 1\.001"):
        DynamicDilatedConv3d.from_conv(nn.Conv3d(2, 2, 3), activation="relu_plus_one")
    with pytest.raises(ValueError, match="'tanh' starts at 0"):
        DynamicDilatedConv3d.from_conv(nn.Conv3d(2, 2, 3), modulation="tanh")


@pytest.mark.slow
def test_it_learns_to_dilate_where_a_fixed_kernel_cannot_follow():
    """The target is a 3x3x3 kernel at rate 2 where the first channel is high and at rate 1 elsewhere."""
    torch.manual_seed(0)
    teacher = nn.Conv3d(1, 1, 3, bias=False)
    wide = (
        (torch.rand(8, 1, 1, 4, 4) > 0.5)
        .float()
        .repeat_interleave(4, 3)
        .repeat_interleave(4, 4)
        .expand(-1, -1, 2, -1, -1)
    )
    signal = nn.functional.avg_pool3d(torch.randn(8, 1, 2, 16, 16), (1, 3, 3), 1, (0, 1, 1)) * 3
    near, far = (
        nn.functional.conv3d(signal, teacher.weight, padding=(1, r, r), dilation=(1, r, r)) for r in (1, 2)
    )
    target = torch.where(wide > 0, far, near).detach()
    x = torch.cat([wide, signal], 1)
    losses, layers = {}, {"fixed": nn.Conv3d(2, 1, 3, padding=1)}
    layers["dynamic"] = DynamicDilatedConv3d.from_conv(layers["fixed"], rates="yx", modulation=None)
    for name, layer in layers.items():
        optimizer = torch.optim.Adam(layer.parameters(), 0.02)
        for _ in range(250):
            loss = nn.functional.mse_loss(layer(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[name] = loss.item()
    layer = layers["dynamic"]
    rate = layer.dilate(layer.predict(x)).detach()
    inner = nn.functional.avg_pool3d(wide, (1, 3, 3), 1, (0, 1, 1))
    assert losses["dynamic"] < losses["fixed"] / 3
    assert rate[inner > 0.99].mean() > 1.7 and rate[inner < 0.01].mean() < 1.3
