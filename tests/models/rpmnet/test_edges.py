"""Enlarging maps along edges of the image."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from pliant.models.rpmnet.edges import enlarge_along_edges


def half(width: int, height: int, edge: int) -> torch.Tensor:
    """1 right of ``edge``: [height, width]."""
    return (torch.arange(width) >= edge).float().expand(height, width)


def test_the_edge_of_the_mask_goes_to_that_of_the_image():
    image = (2 * half(80, 64, 42) - 1).expand(1, 3, 64, 80)
    coarse = F.adaptive_avg_pool2d(half(80, 64, 40)[None], (16, 20))[0]  # two pixels beside it
    maps = enlarge_along_edges(torch.stack((1 - coarse, coarse)), image)
    assert torch.equal(maps[1] > 0.5, half(80, 64, 42) > 0.5)


def test_maps_stay_in_0_to_1_and_sum_to_1():
    maps = torch.randn(4, 17, 21).softmax(0)
    large = enlarge_along_edges(maps, torch.randn(1, 3, 66, 81))
    assert large.shape == (4, 66, 81) and large.min() >= 0 and large.max() <= 1
    torch.testing.assert_close(large.sum(0), torch.ones(66, 81))


def test_an_image_without_edges_leaves_smooth_maps():
    maps = torch.randn(3, 16, 20).softmax(0)
    large = enlarge_along_edges(maps, torch.zeros(1, 3, 64, 80))
    assert (large.amax((1, 2)) <= maps.amax((1, 2)) + 1e-5).all()
