"""Fused convolutions compute what the plain ones do, in every layout and batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pliant.nn.fused_conv import conv2d, conv2d_add, conv2d_relu6, fuses


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["channels_last", "contiguous", "expanded"])
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("relu", [False, True])
def test_fused_equals_plain(dtype, layout, batch, relu):
    torch.manual_seed(0)
    convolution = nn.Conv2d(6, 8, 3, 2, 1).to(dtype).to(memory_format=torch.channels_last)
    x = torch.randn(batch, 6, 9, 11).to(dtype)
    x = {
        "channels_last": x.contiguous(memory_format=torch.channels_last),
        "contiguous": x,
        "expanded": x[:1].expand(batch, -1, -1, -1),
    }[layout]
    residual = torch.randn(batch, 8, 5, 6).to(dtype)
    if layout == "channels_last":
        residual = residual.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        plain = convolution.float()(x.float())
        added = plain + residual.float()
        convolution.to(dtype)
        assert fuses(convolution, x)
        tolerance = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.03, "rtol": 0.02}
        found = conv2d(convolution, x, relu=relu)
        torch.testing.assert_close(found.float(), plain.relu() if relu else plain, **tolerance)
        found = conv2d_add(convolution, x, residual.clone(memory_format=torch.preserve_format), relu=relu)
        torch.testing.assert_close(found.float(), added.relu() if relu else added, **tolerance)


@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
def test_a_cut_at_six_is_fused_too(groups, dtype, tolerance):
    torch.manual_seed(0)
    convolution = nn.Conv2d(6, 6, 3, 2, 1, groups=groups).to(memory_format=torch.channels_last)
    x = (20 * torch.randn(2, 6, 9, 11)).to(dtype).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        plain = convolution(x.float()).clamp(0, 6)
        convolution.to(dtype)
        assert fuses(convolution, x) and plain.max() == 6 and plain.min() == 0
        torch.testing.assert_close(conv2d_relu6(convolution, x).float(), plain, atol=tolerance, rtol=0.03)


def test_gradients_are_those_of_the_plain_form():
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 3, 3, padding=1).double()
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    r = torch.randn(2, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, r: conv2d_add(convolution, x, r, relu=True), (x, r))
    assert torch.autograd.gradcheck(lambda x: conv2d(convolution, x, relu=True), (x,))
    assert torch.autograd.gradcheck(lambda x: conv2d_relu6(convolution, x), (x,))
