"""Deformable attention: parity, where points start, what it must equal, learning to look elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from conftest import shared
from pliant.nn import DeformAttention3d, DeformAttentionLevels, QueryReference
from pliant.nn.deform_attention import grid_reference
from pliant.testing.parity import compare


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_parity_with_the_equations_and_with_deformable_detr(dtype):
    comparisons = list(compare(shared("parity", "st_deform_attn"), dtype))
    assert len(comparisons) == 29
    assert [c for c in comparisons if not c.ok] == []


def test_eight_heads_start_towards_the_eight_neighbours():
    offsets = DeformAttention3d(16, 8, 32).sampling_offsets.bias.view(8, 32, 3)
    around = [[0, 1], [1, 1], [1, 0], [1, -1], [0, -1], [-1, -1], [-1, 0], [-1, 1]]  # (y, x)
    torch.testing.assert_close(
        offsets[:, 0, 1:], torch.tensor(around, dtype=torch.float32), rtol=0, atol=1e-6
    )
    assert offsets[0, :, 2].tolist() == pytest.approx([1, 2, 3, 4] * 8)
    assert offsets[0, ::4, 0].tolist() == [0, 1, -1, 2, -2, 3, -3, 4]


def test_equal_weights_on_a_constant_volume_give_the_projections():
    module = DeformAttention3d(16, 4, 3)
    source = torch.randn(1, 1, 16).expand(1, 5 * 9 * 9, 16)
    reference = torch.full((1, 2, 3), 0.5)
    found = module(torch.randn(1, 2, 16), reference, source, (5, 9, 9))
    expected = module.output_proj(module.value_proj(source[:, :1]))
    torch.testing.assert_close(found, expected.expand(1, 2, 16))


def test_levels_of_equal_frames_are_read_frame_by_frame():
    torch.manual_seed(0)
    module = DeformAttentionLevels(16, 4, 3, 2).double()
    source, query = torch.randn(1, 3 * 20, 16).double(), torch.randn(1, 2, 16).double()
    reference = torch.rand(1, 2, 3, 2).double()
    whole = module(query, reference, source, [(4, 5)] * 3)
    order = torch.tensor([2, 0, 1])
    bias = module.sampling_offsets.bias.view(4, 3, 2, 2)
    assert torch.equal(bias[:, order], bias)
    turned = source.view(1, 3, 20, 16)[:, order].flatten(1, 2)
    torch.testing.assert_close(module(query, reference[:, :, order], turned, [(4, 5)] * 3), whole)


def test_reference_points():
    grid = grid_reference((2, 3, 4))
    assert grid.shape == (24, 3)
    assert grid[-1].tolist() == pytest.approx([0.75, 2.5 / 3, 0.875])
    points = QueryReference(8, frames=3)(torch.randn(6, 8))
    assert points[:, 0].tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 2, 1 / 2, 5 / 6, 5 / 6])
    assert QueryReference(8)(torch.randn(2, 6, 8)).shape == (2, 6, 3)
    with pytest.raises(ValueError, match="7 queries cannot be shared out evenly among 3 frames"):
        QueryReference(8, frames=3)(torch.randn(7, 8))


def test_wrong_levels_are_named():
    module = DeformAttentionLevels(16, 4, 2, 2)
    with pytest.raises(ValueError, match="2 pairs .* of together 24 positions, as source has; 2 have 32"):
        module(torch.randn(1, 2, 16), torch.rand(1, 2, 2, 2), torch.randn(1, 24, 16), [(4, 4), (4, 4)])


def test_learns_to_look_where_the_query_says():
    """The query tells how far the answer lies from the reference, in time and space; only the offsets can use it."""
    torch.manual_seed(0)
    module = DeformAttention3d(8, 1, 1)
    module.value_proj.weight.data.copy_(torch.eye(8))
    module.output_proj.weight.data.copy_(torch.eye(8))
    nn.init.zeros_(module.sampling_offsets.bias)
    optimizer = torch.optim.Adam(module.sampling_offsets.parameters(), lr=0.05)
    ramp = grid_reference((6, 8, 8)) * torch.tensor([6, 8, 8])
    source = torch.cat([ramp, torch.zeros(len(ramp), 5)], 1).expand(16, -1, -1)
    losses = []
    for _ in range(120):
        shift = 2 * torch.rand(16, 1, 3) - 1
        query = torch.cat([shift, torch.randn(16, 1, 5)], 2)
        found = module(query, torch.full((16, 1, 3), 0.5), source, (6, 8, 8))
        wanted = torch.tensor([3.0, 4.0, 4.0]) + 2 * shift
        losses.append((found[..., :3] - wanted).square().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.02 * losses[0]
