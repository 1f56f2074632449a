"""deform_attention3d: what it must equal, where points lie, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from pliant.ops import deform_attention3d


def centres(shape):
    """The centres of all cells, [T H W, 3], in units of the extent."""
    axes = [(torch.arange(n, dtype=torch.float64) + 0.5) / n for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).view(-1, 3)


def test_as_many_points_as_cells_is_dense_attention():
    torch.manual_seed(0)
    shape, heads, width, queries = (2, 3, 4), 2, 5, 7
    query, key, value = torch.randn(3, 1, heads, 24, width, dtype=torch.float64)
    query = query[:, :, :queries]
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)  # [N, M, Q, D]
    weights = (query @ key.transpose(2, 3) / width**0.5).softmax(3).transpose(1, 2)  # [N, Q, M, K]
    locations = centres(shape).expand(1, queries, heads, 24, 3)
    found = deform_attention3d(value.transpose(1, 2), shape, locations, weights)
    torch.testing.assert_close(found, expected.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_zero_and_one_are_the_outer_edges_of_the_volume(axis):
    """Half of a cell inside, half outside: half of its value. The centre of the volume's last cell: all of it."""
    shape = (2, 4, 5)
    value = torch.ones(1, 40, 1, 1)
    for place, expected in ((0.0, 0.5), (1.0, 0.5), (1 - 0.5 / shape[axis], 1.0), (-0.5 / shape[axis], 0.0)):
        location = torch.full((1, 1, 1, 1, 3), 0.5)
        location[..., axis] = place
        found = deform_attention3d(value, shape, location, torch.ones(1, 1, 1, 1))
        assert found.item() == pytest.approx(expected, abs=1e-6)


RIGHT = {
    "value": torch.zeros(2, 24, 4, 8),
    "shape": (2, 3, 4),
    "sampling_locations": torch.zeros(2, 7, 4, 5, 3),
    "attention_weights": torch.zeros(2, 7, 4, 5),
}
WRONG = [
    ({"shape": (2, 3, 5)}, ValueError, r"value has 24 positions, but shape \[2, 3, 5\] has 30"),
    ({"sampling_locations": torch.zeros(2, 7, 3, 5, 3)}, ValueError, r"must be \[2, 7, 4, 5, 3\] .* not \[2, 7, 3, 5"),
    ({"attention_weights": torch.zeros(2, 7, 4, 6)}, ValueError, r"attention_weights must be \[2, 7, 4, 5\]"),
    ({"value": torch.zeros(2, 24, 32)}, ValueError, r"value must be \[N, T H W, M, D\]"),
    ({"value": torch.zeros(2, 24, 4, 8).int()}, TypeError, "value must be one of float32, .* not int32"),
    ({"attention_weights": torch.zeros(2, 7, 4, 5, device="meta")}, ValueError, "is on meta, value on cpu; move one"),
]


@pytest.mark.parametrize("change, error, message", WRONG, ids=[w[2][:30] for w in WRONG])
def test_wrong_arguments_are_refused_with_the_arithmetic(change, error, message):
    with pytest.raises(error, match=message):
        deform_attention3d(**{**RIGHT, **change})
