from __future__ import annotations

import pytest
import torch

from pliant.models.spvos import aggregate, pad_to_multiple, unpad


def test_probabilities_sum_to_one():
    p = torch.rand(4, 5, 6, dtype=torch.float64)
    assert torch.allclose(aggregate(p).sum(0), torch.ones(5, 6, dtype=torch.float64))


def test_one_object_has_a_closed_form():
    p = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)[None]
    assert torch.allclose(aggregate(p)[1], (p**2 / (p**2 + (1 - p) ** 2))[0])


def test_the_background_is_its_share_of_odds():
    p = torch.tensor([[0.3], [0.6]], dtype=torch.float64)
    odds = [0.28 / 0.72, 0.3 / 0.7, 0.6 / 0.4]
    assert torch.allclose(aggregate(p)[0], torch.tensor([odds[0] / sum(odds)], dtype=torch.float64))


def test_permuting_objects_permutes_rows():
    p = torch.rand(3, 7, dtype=torch.float64)
    assert torch.allclose(aggregate(p[[2, 0, 1]])[1:], aggregate(p)[1:][[2, 0, 1]])


@pytest.mark.parametrize(
    ("size", "padding"), [((90, 139), (2, 3, 3, 3)), ((64, 96), (0, 0, 0, 0)), ((71, 96), (0, 0, 4, 5))]
)
def test_padding_is_split_with_the_larger_half_after(size, padding):
    x = torch.rand(2, *size)
    padded, used = pad_to_multiple(x)
    assert used == padding
    assert padded.shape[-1] % 16 == padded.shape[-2] % 16 == 0
    assert torch.equal(unpad(padded, used), x)
    assert padded.sum() == pytest.approx(x.sum().item(), rel=1e-5)
