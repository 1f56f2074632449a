"""Sparse losses: where they vanish, and what they pull at."""

from __future__ import annotations

import math

import pytest
import torch

from pliant.losses.sparsity import global_sparse_loss, layer_sparse_loss, relaxed_bounds


def test_bounds_open_from_the_target_to_everything():
    assert relaxed_bounds(0.0, 0.1) == pytest.approx((0.1, 0.1))
    assert relaxed_bounds(0.33, 0.1) == pytest.approx((0.0, 1.0))
    assert relaxed_bounds(0.9, 0.1) == pytest.approx((0.0, 1.0))
    c = math.cos(math.pi / 4) ** 2
    assert relaxed_bounds(0.165, 0.1) == pytest.approx((0.1 * c, 1 - 0.9 * c))


def test_at_the_start_every_layer_is_held_to_the_target():
    shares = torch.tensor([0.0, 0.1, 0.6], dtype=torch.float64)
    assert layer_sparse_loss(shares, 0.1, 0.1).item() == pytest.approx(0.1**2 + 0.5**2)
    assert layer_sparse_loss(shares, 0.1, 0.1, "mean").item() == pytest.approx((0.1**2 + 0.5**2) / 3)


def test_within_the_bounds_there_is_no_loss_and_no_gradient():
    shares = torch.tensor([0.2, 0.5], requires_grad=True)
    loss = layer_sparse_loss(shares, 0.1, 0.6)
    loss.backward()
    assert loss.item() == 0
    assert not shares.grad.any()


def test_the_global_loss_weighs_layers_by_their_cost():
    computed = torch.tensor([10.0, 90.0], dtype=torch.float64)
    loss = global_sparse_loss(computed, [100, 100], [9, 1], target=0.1)
    assert loss.item() == pytest.approx(((90 + 90) / 1000 - 0.1) ** 2)
    assert global_sparse_loss(torch.tensor([10.0, 30.0]), [100, 300], [7, 2], 0.1).item() == pytest.approx(0, abs=1e-12)


def test_gradients_are_those_of_the_formulas():
    computed = torch.rand(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda n: global_sparse_loss(n, [4, 5, 6], [1, 2, 3], 0.1), computed)
    assert torch.autograd.gradcheck(lambda s: layer_sparse_loss(s, 0.05, 0.1), computed)


def test_another_reduction_is_refused():
    with pytest.raises(ValueError, match="'sum' or 'mean', got 'max'"):
        layer_sparse_loss(torch.ones(1), 0, 1, "max")
