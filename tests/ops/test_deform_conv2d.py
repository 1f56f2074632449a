"""deform_conv2d: the convolution at zero offsets, torchvision's numbers, one frame of deform_conv3d."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv2d

from pliant.ops import deform_conv2d, deform_conv3d


def tensors():
    torch.manual_seed(0)
    x, w, b = torch.randn(2, 6, 9, 8), torch.randn(4, 3, 3, 3), torch.randn(4)
    return x, torch.randn(2, 2 * 2 * 9, 5, 4) * 2, w, b, torch.rand(2, 2 * 9, 5, 4)


def test_zero_offsets_are_the_ordinary_convolution():
    x, offset, w, b, _ = tensors()
    y = deform_conv2d(x, offset * 0, w, b, 2, (2, 1), (2, 1))
    torch.testing.assert_close(y, conv2d(x, w, b, 2, (2, 1), (2, 1), groups=2))


def test_it_gives_the_numbers_of_torchvision():
    ops = pytest.importorskip("torchvision.ops", reason="compares with torchvision (pip install torchvision)")
    x, offset, w, b, mask = tensors()
    expected = ops.deform_conv2d(x, offset, w, b, 2, (2, 1), (2, 1), mask)
    torch.testing.assert_close(deform_conv2d(x, offset, w, b, 2, (2, 1), (2, 1), mask), expected)


def test_it_is_one_frame_of_deform_conv3d():
    x, offset, w, b, mask = tensors()
    flat = torch.zeros(2, 2 * 9, 3, 5, 4)
    flat[:, :, 1:] = offset.view(2, 18, 2, 5, 4)
    deep = deform_conv3d(
        x.unsqueeze(2), flat.view(2, 54, 1, 5, 4), w.unsqueeze(2), b, (1, 2, 2), (0, 2, 1), (1, 2, 1), mask.unsqueeze(2)
    )
    torch.testing.assert_close(deform_conv2d(x, offset, w, b, 2, (2, 1), (2, 1), mask), deep.squeeze(2))
