"""dynamic_dilated_conv3d: what must hold by its formula, on the reference and on the native kernels."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv1d, conv2d, conv3d

from pliant.ops import deform_conv3d, dynamic_dilated_conv3d, native, use_backend
from pliant.ops.dynamic_dilated_conv3d.reference import offsets

BACKENDS = ["reference"] + (["cpu"] if native.why_missing() is None else [])
GEOMETRIES = [
    pytest.param((3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1), 1, id="cube"),
    pytest.param((3, 5, 1), (2, 1, 3), (0, 2, 1), (1, 2, 1), 2, id="strides and groups"),
    pytest.param((1, 7, 1), (1, 1, 1), (0, 3, 0), (1, 1, 1), 1, id="column"),
    pytest.param((2, 4, 3), (1, 2, 1), (1, 1, 1), (2, 1, 1), 1, id="even"),
]


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request):
    with use_backend(request.param):
        yield request.param


def tensors(kernel, stride, padding, dilation, groups, extent=(4, 9, 8)):
    """Input, weight, bias in float64 and the extent of the output."""
    torch.manual_seed(0)
    x = torch.randn(2, 4, *extent, dtype=torch.float64)
    w = torch.randn(6, 4 // groups, *kernel, dtype=torch.float64)
    b = torch.randn(6, dtype=torch.float64)
    out = conv3d(x, w, b, stride, padding, dilation, groups).shape[2:]
    return x, w, b, out


def rates(out, *values):
    """A constant dilation map."""
    values = torch.tensor(values if len(values) == 3 else values * 3, dtype=torch.float64)
    return values.view(1, 3, 1, 1, 1).expand(2, 3, *out)


@pytest.mark.parametrize("kernel, stride, padding, dilation, groups", GEOMETRIES)
def test_rate_one_is_the_ordinary_convolution(kernel, stride, padding, dilation, groups):
    x, w, b, out = tensors(kernel, stride, padding, dilation, groups)
    y = dynamic_dilated_conv3d(x, rates(out, 1.0), w, b, stride, padding, dilation)
    torch.testing.assert_close(y, conv3d(x, w, b, stride, padding, dilation, groups))
    half = torch.full((2, w[0, 0].numel(), *out), 0.5, dtype=torch.float64)
    y = dynamic_dilated_conv3d(x, rates(out, 1.0), w, b, stride, padding, dilation, half)
    torch.testing.assert_close(y, conv3d(x, w, None, stride, padding, dilation, groups) / 2 + b.view(-1, 1, 1, 1))


@pytest.mark.parametrize("rate", [(2, 2, 2), (1, 2, 3), (3, 1, 2)], ids=str)
def test_whole_rates_are_static_dilations(rate):
    x, w, b, out = tensors((3, 5, 3), 1, (1, 2, 1), 1, 1)
    padding = [p + (m - 1) * (k - 1) // 2 for p, m, k in zip((1, 2, 1), rate, (3, 5, 3))]
    y = dynamic_dilated_conv3d(x, rates(out, *map(float, rate)), w, b, 1, (1, 2, 1))
    torch.testing.assert_close(y, conv3d(x, w, b, 1, padding, rate))


def test_rate_zero_reads_the_centre_with_the_summed_kernel():
    x, w, b, out = tensors((3, 3, 3), 1, 1, 1, 1)
    y = dynamic_dilated_conv3d(x, rates(out, 0.0), w, b, 1, 1)
    torch.testing.assert_close(y, conv3d(x, w.sum((2, 3, 4), keepdim=True), b))


def test_rate_zero_in_time_is_a_convolution_of_each_frame():
    x, w, b, out = tensors((3, 3, 3), 1, 1, 1, 1)
    y = dynamic_dilated_conv3d(x, rates(out, 0.0, 1.0, 1.0), w, b, 1, 1)
    for t in range(4):
        torch.testing.assert_close(y[:, :, t], conv2d(x[:, :, t], w.sum(2), b, padding=1))


def test_rate_zero_in_space_is_a_convolution_along_time():
    x, w, b, out = tensors((3, 3, 3), 1, 1, 1, 1)
    y = dynamic_dilated_conv3d(x, rates(out, 1.0, 0.0, 0.0), w, b, 1, 1)
    torch.testing.assert_close(y[..., 5, 3], conv1d(x[..., 5, 3], w.sum((3, 4)), b, padding=1))


def test_a_single_frame_fades_its_neighbours():
    x, w, b, out = tensors((3, 3, 3), 1, 1, 1, 1, extent=(1, 6, 7))
    middle, outer = w[:, :, 1], w[:, :, 0] + w[:, :, 2]
    for rate, share in ((1.5, 0.0), (1.0, 0.0), (0.25, 0.75)):
        y = dynamic_dilated_conv3d(x, rates(out, rate, 1.0, 1.0), w, b, 1, 1)
        torch.testing.assert_close(y[:, :, 0], conv2d(x[:, :, 0], middle + share * outer, b, padding=1))


def test_a_negative_rate_flips_the_kernel():
    x, w, b, out = tensors((3, 3, 3), 1, 1, 1, 1)
    y = dynamic_dilated_conv3d(x, rates(out, 1.0, -1.0, 1.0), w, b, 1, 1)
    torch.testing.assert_close(y, conv3d(x, w.flip(3), b, 1, 1))


def test_half_way_between_two_rates_is_their_mean():
    x, w, b, out = tensors((3, 3, 3), 1, 1, 1, 1)
    one, between, two = (dynamic_dilated_conv3d(x, rates(out, 1.0, 1.0, r), w, b, 1, 1) for r in (1.0, 1.5, 2.0))
    torch.testing.assert_close(between, (one + two) / 2)


def test_far_away_is_nothing_but_the_bias():
    x, w, b, out = tensors((3, 3, 3), 1, 1, 1, 1)
    w[:, :, 1, 1, 1] = 0
    for rate in (1e6, 1e30, float("inf"), float("nan")):
        y = dynamic_dilated_conv3d(x, rates(out, rate), w, b, 1, 1)
        torch.testing.assert_close(y, b.view(1, -1, 1, 1, 1).expand_as(y))


def test_it_is_deform_conv3d_at_the_offsets_of_the_map():
    x, w, b, out = tensors((3, 3, 3), 1, 1, 1, 1)
    d = torch.rand(2, 3, *out, dtype=torch.float64) * 3
    mask = torch.rand(2, 27, *out, dtype=torch.float64)
    expected = deform_conv3d(x, offsets(d, (3, 3, 3), (1, 1, 1)), w, b, 1, 1, 1, mask)
    torch.testing.assert_close(dynamic_dilated_conv3d(x, d, w, b, 1, 1, 1, mask), expected)


def test_flipping_everything_flips_the_result():
    x, w, b, out = tensors((3, 3, 3), 1, 1, 1, 1)
    d = torch.rand(2, 3, *out, dtype=torch.float64) * 3
    flipped = dynamic_dilated_conv3d(x.flip(4), d.flip(4), w.flip(4), b, 1, 1)
    torch.testing.assert_close(flipped, dynamic_dilated_conv3d(x, d, w, b, 1, 1).flip(4))


def test_an_affine_field_is_read_exactly():
    *_, out = tensors((3, 3, 3), 1, 0, 1, 1)
    t, y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (4, 9, 8)), indexing="ij")
    field = (0.3 * t - 0.7 * y + 0.2 * x + 5)[None, None]
    w = torch.randn(1, 1, 3, 3, 3, dtype=torch.float64)
    d = torch.rand(1, 3, *out, dtype=torch.float64)
    result = dynamic_dilated_conv3d(field, d, w)
    step = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    i = torch.stack(torch.meshgrid(step, step, step, indexing="ij"))
    slope = torch.tensor([0.3, -0.7, 0.2], dtype=torch.float64)
    moved = torch.einsum("akji,a,natyx,kji->ntyx", i, slope, d, w[0, 0])
    torch.testing.assert_close(result[:, 0], w.sum() * field[:, 0, 1:-1, 1:-1, 1:-1] + moved)


def test_the_derivative_at_a_grid_point_is_the_one_from_the_right():
    x = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64).view(1, 1, 1, 1, 4)
    w = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).view(1, 1, 1, 1, 3)
    d = torch.ones(1, 3, 1, 1, 4, dtype=torch.float64, requires_grad=True)
    dynamic_dilated_conv3d(x, d, w, padding=(0, 0, 1)).sum().backward()
    assert d.grad[0, 2, 0, 0].tolist() == [2.0, 4.0, -8.0, 0.0]


def test_a_map_of_another_extent_is_refused_with_both_shapes():
    x, w, b, _ = tensors((3, 3, 3), 1, 1, 1, 1)
    with pytest.raises(ValueError, match=r"dilation_map is \[2, 3, 4, 9, 7\], expected \[2, 3, 4, 9, 8\]"):
        dynamic_dilated_conv3d(x, rates((4, 9, 7), 1.0), w, b, 1, 1)
