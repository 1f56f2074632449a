"""Fused convolutions compute what the plain ones do, in every layout and batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pliant import ops
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


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("padding", [0, 1, (2, 0)])
@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_three_by_three_of_stride_one_by_tiles(layout, padding, value):
    torch.manual_seed(0)
    convolution = nn.Conv2d(48, 20, 3, padding=padding)
    x = torch.randn(3, 48, 9, 11).contiguous(memory_format=layout)
    x[1, 5, 4, 4] = value
    with torch.no_grad():
        weight, bias = convolution.weight.double(), convolution.bias.double()
        expected = nn.functional.conv2d(x.double(), weight, bias, padding=padding)
        residual = torch.randn(expected.shape)
        with ops.use_backend("reference"):
            plain = conv2d(convolution, x)
        for relu, found in ((True, conv2d(convolution, x, relu=True)), (False, conv2d(convolution, x)), (False, plain)):
            exact = expected.relu() if relu else expected
            torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=0, equal_nan=True)
        found = conv2d_add(convolution, x, residual.clone(), relu=True)
    torch.testing.assert_close(found.double(), (expected + residual).relu(), atol=1e-5, rtol=0, equal_nan=True)


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
