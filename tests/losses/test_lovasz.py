"""The Lovász hinge: the definition, its closed forms and its gradient."""

from __future__ import annotations

import pytest
import torch

from conftest import shared
from pliant.losses.lovasz import lovasz_hinge
from pliant.testing import parity


def definition(logits, labels):
    """The loss of one clip, term by term as the paper writes it."""
    errors = [1 - f * (2 * y - 1) for f, y in zip(logits, labels)]
    order = sorted(range(len(errors)), key=lambda i: -errors[i])
    total, loss, previous = sum(labels), 0.0, 0.0
    for k in range(1, len(order) + 1):
        found = sum(labels[i] for i in order[:k])
        jaccard = 1 - (total - found) / (total + k - found)
        loss += max(errors[order[k - 1]], 0) * (jaccard - previous)
        previous = jaccard
    return loss


def random_case(pixels=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, pixels, generator=generator, dtype=torch.float64) * 1.5
    return logits, (torch.rand(1, pixels, generator=generator) < 0.4).double()


def test_equals_the_definition():
    for seed in range(5):
        logits, labels = random_case(seed=seed)
        expected = definition(logits[0].tolist(), labels[0].tolist())
        assert lovasz_hinge(logits, labels).item() == pytest.approx(expected, abs=1e-12)


def test_is_twice_one_minus_iou_of_a_decided_prediction():
    decided, labels = torch.tensor([[1.0, 1, -1, -1, 1]]), torch.tensor([[1, 0, 1, 0, 1]])
    assert lovasz_hinge(decided, labels).item() == pytest.approx(2 * (1 - 2 / 4))


def test_an_empty_clip_costs_its_highest_pixel_alone():
    logits = torch.tensor([[-0.5, 0.25, -3.0]], requires_grad=True)
    loss = lovasz_hinge(logits, torch.zeros(1, 3))
    loss.backward()
    assert loss.item() == pytest.approx(1.25)
    assert logits.grad.tolist() == [[0, 1, 0]]


def test_a_full_clip_costs_the_mean_hinge():
    logits = torch.tensor([[-0.5, 0.25, 3.0, 0.5]])
    assert lovasz_hinge(logits, torch.ones(1, 4)).item() == pytest.approx((1.5 + 0.75 + 0 + 0.5) / 4)


def test_the_order_of_pixels_does_not_matter():
    logits, labels = random_case()
    shuffled = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    assert lovasz_hinge(logits[:, shuffled], labels[:, shuffled]).item() == pytest.approx(
        lovasz_hinge(logits, labels).item(), abs=1e-12
    )


def test_clips_are_averaged():
    first, second = random_case(seed=1), random_case(seed=2)
    together = lovasz_hinge(torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]]))
    assert together.item() == pytest.approx((lovasz_hinge(*first) + lovasz_hinge(*second)).item() / 2)


def test_gradient_by_finite_differences():
    logits, labels = random_case(20)
    assert torch.autograd.gradcheck(lambda f: lovasz_hinge(f, labels), logits.requires_grad_())


def test_half_precision_logits_are_summed_in_float32():
    logits, labels = random_case()
    assert lovasz_hinge(logits.bfloat16(), labels).dtype == torch.float32


def test_a_million_pixels_are_counted_exactly():
    """float32 sums stop at 2^24; the steps of an all-wrong clip of more pixels must still add up to 1."""
    pixels = 2**24 + 4096
    logits = torch.full((1, pixels), -1.0)  # every error is 2
    assert lovasz_hinge(logits, torch.ones(1, pixels)).item() == pytest.approx(2.0, rel=1e-5)


def test_shapes_that_differ_are_named():
    with pytest.raises(ValueError, match=r"shaped like logits \[2, 3\], got \[2, 4\]"):
        lovasz_hinge(torch.zeros(2, 3), torch.zeros(2, 4))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_official_loss_and_gradient(dtype):
    results = list(parity.compare(shared("parity", "d2conv3d_loss"), dtype))
    assert [r for r in results if not r.ok] == []
    assert len(results) == 8
