"""The out-of-bounds counter against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pliant.nn import DeformConv3d, DynamicDilatedConv3d, OutOfBounds


def percent(layer, extent):
    with OutOfBounds(layer) as counts:
        layer(torch.randn(1, 2, *extent))
    return counts.counts[""]


@pytest.mark.parametrize("extent, expected", [((2, 30, 54), 35.6), ((4, 60, 108), 18.1)])
@pytest.mark.parametrize("layer_type", [DynamicDilatedConv3d, DeformConv3d])
def test_a_fresh_layer_counts_what_a_plain_convolution_does(layer_type, extent, expected):
    plain = 1 - torch.tensor([(3 * n - 2) / (3 * n) for n in extent], dtype=torch.float64).prod()
    count = percent(layer_type(2, 2, 3, padding=1), extent)
    assert count.percent == pytest.approx(100 * plain.item())
    assert count.percent == pytest.approx(expected, abs=0.05)
    assert count.percent_axis[0] == pytest.approx(100 * 2 / (3 * extent[0]))


@pytest.mark.parametrize("rate, expected", [(0.0, 0.0), (2.0, 100 * 2 / 3)])
def test_shrunk_and_widened_kernels(rate, expected):
    layer = DynamicDilatedConv3d(2, 2, 3, padding=1, activation="none")
    nn.init.constant_(layer.deform_params.bias[:3], rate)
    assert percent(layer, (2, 5, 5)).percent_axis[0] == pytest.approx(expected)


def test_points_less_than_a_cell_outside_are_not_lost():
    layer = DynamicDilatedConv3d(2, 2, 3, padding=1, activation="none")
    nn.init.constant_(layer.deform_params.bias[:3], 0.5)
    count = percent(layer, (1, 6, 6))
    assert count.percent > 66 and count.percent_lost == 0


def test_the_average_is_over_layers_and_the_hooks_go():
    network = nn.Sequential(DeformConv3d(2, 2, 1), DeformConv3d(2, 2, (3, 1, 1), padding=(1, 0, 0)))
    with OutOfBounds(network) as counts:
        network(torch.randn(1, 2, 1, 3, 3))
    assert counts.average == pytest.approx((0 + 100 * 2 / 3) / 2)
    network(torch.randn(1, 2, 1, 3, 3))
    assert counts.counts["0"].points == 9
