"""Channels last for layers of images and of clips."""

from __future__ import annotations

import torch
from torch import nn

from pliant.nn.memory_format import channels_last


def test_each_weight_in_its_own_layout():
    network = nn.ModuleList([nn.Conv2d(4, 6, 3), nn.Conv3d(4, 6, 3), nn.Linear(4, 6)])
    values = [p.clone() for p in network.parameters()]
    assert channels_last(network) is network
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert network[1].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert network[2].weight.is_contiguous()
    assert all(torch.equal(a, b) for a, b in zip(values, network.parameters()))
