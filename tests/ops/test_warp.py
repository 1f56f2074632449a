"""Backward bilinear warp."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pliant import ops


def grid(offset):
    """The sampling grid of ``grid_sample`` that reads the same places."""
    height, width = offset.shape[2:]
    y = torch.arange(height, dtype=offset.dtype).view(1, -1, 1) + offset[:, 0]
    x = torch.arange(width, dtype=offset.dtype).view(1, 1, -1) + offset[:, 1]
    return torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)


def test_zero_offset_changes_nothing():
    image = torch.randn(2, 3, 5, 7)
    assert torch.equal(ops.warp(image, torch.zeros(2, 2, 5, 7)), image)


def test_first_channel_moves_along_rows():
    image = torch.arange(12.0).view(1, 1, 3, 4)
    offset = torch.zeros(1, 2, 3, 4)
    offset[:, 0] = 1
    expected = torch.cat([image[:, :, 1:], torch.zeros(1, 1, 1, 4)], 2)  # zero outside
    assert torch.equal(ops.warp(image, offset), expected)


def test_equals_grid_sample():
    torch.manual_seed(0)
    image = torch.randn(2, 3, 7, 9, dtype=torch.float64)
    offset = 3 * torch.randn(2, 2, 7, 9, dtype=torch.float64)
    expected = F.grid_sample(image, grid(offset), padding_mode="zeros", align_corners=False)
    torch.testing.assert_close(ops.warp(image, offset), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("offset", [float("nan"), float("inf"), -1e30])
def test_unreadable_offset_reads_outside(offset):
    image = torch.randn(1, 2, 4, 4)
    field = torch.full((1, 2, 4, 4), offset, requires_grad=True)
    out = ops.warp(image, field)
    out.sum().backward()
    assert torch.equal(out, torch.zeros_like(out))
    assert torch.equal(field.grad, torch.zeros_like(field))


def test_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"\[N, 2, H, W\] = \[1, 2, 4, 4\].*not \[1, 3, 4, 4\]"):
        ops.warp(torch.zeros(1, 1, 4, 4), torch.zeros(1, 3, 4, 4))
    with pytest.raises(TypeError, match=r"offset must be one of float32.*not int64"):
        ops.warp(torch.zeros(1, 1, 4, 4), torch.zeros(1, 2, 4, 4, dtype=torch.int64))
