"""The faster pooling gives the same bits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pliant.nn.pooling import halve_rectified, max_pool_rectified


@pytest.mark.parametrize("size", [(2, 2), (2, 8), (10, 6), (7, 10), (8, 9), (240, 432)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_same_bits_as_pytorch(size, dtype, layout):
    torch.manual_seed(0)
    x = torch.randn(2, 5, *size).relu().to(dtype).contiguous(memory_format=layout)
    x[0, 0, 0, 0] = float("inf")
    with torch.no_grad():
        ours, halves = max_pool_rectified(x), halve_rectified(x)
    assert torch.equal(ours, F.max_pool2d(x, 3, 2, 1))
    assert torch.equal(halves, F.max_pool2d(x, 2, 2, ceil_mode=True))
    assert ours.is_contiguous(memory_format=layout) and halves.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("pool", [max_pool_rectified, halve_rectified])
def test_gradients_are_pytorch_s(pool):
    x = torch.rand(1, 4, 6, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pool, x)
