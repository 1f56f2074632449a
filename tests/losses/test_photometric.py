"""The photometric losses: what costs nothing, what is counted, and their gradients."""

from __future__ import annotations

import pytest
import torch

from pliant.losses import photometric as loss

KINDS = ("l1", "huber", "mse", "quantised")


def colours(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 1.8 - 0.9


def still(image: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(image[:, :2])


def shifted(image: torch.Tensor, dy: float, dx: float) -> torch.Tensor:
    return still(image) + torch.tensor([dy, dx], dtype=image.dtype).reshape(1, 2, 1, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_frames_without_motion_cost_nothing(kind: str):
    image = colours(2, 3, 6, 7)
    assert loss.colour_loss(image, image, still(image), kind).abs().max() < 1e-6
    assert loss.structure_loss(image, image).abs().max() < 1e-4
    assert loss.edge_aware_smoothness(still(image), image[:, :1]) == 0
    assert loss.cycle_error(still(image), still(image)).max() <= 1e-3 + 1e-8


@pytest.mark.parametrize("kind, expected", [("l1", 0.3), ("huber", 0.3 - 0.025), ("mse", 0.09)])
def test_a_difference_of_0_3(kind: str, expected: float):
    target, reference = torch.full((1, 1, 2, 2), 0.5), torch.full((1, 1, 2, 2), 0.2)
    result = loss.colour_loss(target, reference, still(target.expand(1, 2, 2, 2)), kind)
    torch.testing.assert_close(result, torch.full((1, 1, 2, 2), expected))


@pytest.mark.parametrize("kind", KINDS)
def test_the_true_shift_costs_less_than_any_other(kind: str):
    reference = colours(1, 3, 10, 12)
    target = torch.roll(reference, (-1, 2), (2, 3))  # target(y, x) = reference(y + 1, x - 2)
    costs = {}
    for dy in (-1, 0, 1, 2):
        for dx in (-3, -2, -1, 0):
            offset = shifted(target, dy, dx)
            costs[dy, dx] = loss.masked_mean(loss.colour_loss(target, reference, offset, kind), loss.in_view(offset))
    assert min(costs, key=costs.get) == (1, -2) and costs[1, -2] < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_offsets(kind: str):
    target, reference = (
        colours(1, 2, 4, 5, dtype=torch.float64),
        colours(1, 2, 4, 5, seed=1, dtype=torch.float64),
    )
    offset = (colours(1, 2, 4, 5, seed=2, dtype=torch.float64) * 0.4).requires_grad_()
    assert torch.autograd.gradcheck(lambda o: loss.colour_loss(target, reference, o, kind), offset)


def test_channels_count_as_weighted():
    target, reference = colours(2, 3, 4, 4), colours(2, 3, 4, 4, seed=1)
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.0]])
    result = loss.colour_loss(target, reference, still(target), "l1", weights)
    difference = (target - reference).abs()
    torch.testing.assert_close(result[0], difference[0, :1])
    torch.testing.assert_close(result[1], difference[1, 1:2] / 2)


def test_bins_sum_to_1_and_hold_the_value():
    image = colours(1, 2, 3, 4)
    bins = loss.soft_bins(image)
    assert bins.shape == (1, 2, 16, 3, 4)
    torch.testing.assert_close(bins.sum(2), torch.ones(1, 2, 3, 4))
    centres = torch.linspace(-1, 1, 16).reshape(1, 1, 16, 1, 1)
    torch.testing.assert_close((bins * centres).sum(2), image, atol=1e-6, rtol=1e-5)


def test_the_quantised_loss_sees_two_colours_where_the_others_see_their_mean():
    reference = torch.tensor([-0.6, 0.6]).reshape(1, 1, 1, 2)
    half = torch.tensor([0.0, 0.5]).reshape(1, 2, 1, 1).expand(1, 2, 1, 2)
    grey = torch.zeros(1, 1, 1, 2)
    assert loss.colour_loss(grey, reference, half, "l1")[..., 0] < 1e-6
    assert loss.colour_loss(grey, reference, half, "quantised")[..., 0] > 1


def test_what_left_the_view_does_not_count():
    offset = torch.zeros(1, 2, 3, 4)
    offset[:, 1] = 1.5
    assert loss.in_view(offset)[0, 0].tolist() == [[1, 1, 0, 0]] * 3
    nothing = loss.in_view(offset + 10)
    assert loss.masked_mean(torch.full((1, 1, 3, 4), 7.0), nothing) == 0


def test_a_consistent_pair_of_offsets_returns():
    there, back = shifted(torch.zeros(1, 2, 8, 8), 0, 2), shifted(torch.zeros(1, 2, 8, 8), 0, -2)
    assert loss.cycle_error(there, back)[..., :6].max() <= 1e-3 + 1e-8
    assert loss.consistency(there, back)[..., :6].all()
    assert not loss.consistency(there, there)[..., :4].any()


def test_smoothness_allows_jumps_at_edges():
    offset = torch.zeros(1, 2, 4, 8)
    offset[..., 4:] = 3
    edge, flat = torch.zeros(1, 1, 4, 8), torch.zeros(1, 1, 4, 8)
    edge[..., 4:] = 1
    assert loss.edge_aware_smoothness(offset, edge) < 1e-3 * loss.edge_aware_smoothness(offset, flat)


def test_an_unknown_loss_is_named():
    with pytest.raises(ValueError, match="colour loss 'l2': expected 'l1', 'huber', 'mse' or 'quantised'"):
        loss.colour_loss(*[torch.zeros(1, 2, 2, 2)] * 3, kind="l2")
