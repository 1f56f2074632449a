"""ASPP3d: size kept, parameters and names of the published comparison."""

from __future__ import annotations

import torch

from pliant.nn import ASPP3d


def test_it_keeps_the_extent():
    layer = ASPP3d(6, 4, rates=((1, 3, 3), (2, 6, 6)))
    assert layer(torch.randn(2, 6, 2, 7, 9)).shape == (2, 4, 2, 7, 9)


def test_two_of_them_cost_what_the_comparison_added():
    rates = {1024: ((1, 3, 3), (1, 6, 6), (1, 9, 9)), 512: ((1, 6, 6), (1, 12, 12), (1, 18, 18))}
    added = sum(
        sum(p.numel() for p in ASPP3d(c, 256, r).parameters()) - 256 * (27 * c + 1) for c, r in rates.items()
    )
    assert added == 22_155_776


def test_state_dict_has_the_published_names():
    keys = set(ASPP3d(2, 2).state_dict())
    assert {
        "atrous_convs.0.0.weight",
        "atrous_convs.3.1.running_var",
        "conv_out.0.weight",
        "conv_out.1.bias",
    } <= keys
    assert len(keys) == 5 * 6
