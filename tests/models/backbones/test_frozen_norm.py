"""Batch norms as constants."""

from __future__ import annotations

import torch
from torch import nn

from pliant.models.backbones.frozen_norm import FrozenBatchNorm


def test_equals_a_batch_norm_in_evaluation_also_while_training():
    torch.manual_seed(0)
    norm, frozen = nn.BatchNorm3d(5, eps=1e-3).eval(), FrozenBatchNorm(5, eps=1e-3).train()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    frozen.load_state_dict(norm.state_dict(), strict=False)
    x = torch.randn(2, 5, 2, 3, 4)
    before = {key: value.clone() for key, value in frozen.state_dict().items()}
    assert torch.equal(frozen(x), norm(x))
    assert all(torch.equal(frozen.state_dict()[key], value) for key, value in before.items())


def test_has_no_parameters():
    assert list(FrozenBatchNorm(4).parameters()) == []
