"""deform_conv3d: what must hold by its formula, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv3d

from pliant.ops import deform_conv3d, native, use_backend

BACKENDS = ["reference"] + (["cpu"] if native.why_missing() is None else [])


@pytest.fixture(params=BACKENDS)
def backend(request):
    with use_backend(request.param):
        yield request.param


def tensors(groups=1):
    torch.manual_seed(0)
    x = torch.randn(2, 4, 3, 6, 7, dtype=torch.float64)
    return (
        x,
        torch.randn(6, 4 // groups, 3, 3, 3, dtype=torch.float64),
        torch.zeros(2, 81, 3, 6, 7, dtype=torch.float64),
    )


@pytest.mark.parametrize("groups", [1, 2])
def test_zero_offsets_are_the_ordinary_convolution(backend, groups):
    x, w, offset = tensors(groups)
    torch.testing.assert_close(deform_conv3d(x, offset, w, padding=1), conv3d(x, w, padding=1, groups=groups))


@pytest.mark.parametrize("axis, shift", [(0, 1), (1, -2), (2, 1)])
def test_whole_offsets_shift_the_input(backend, axis, shift):
    x, w, offset = tensors()
    offset.view(2, 27, 3, 3, 6, 7)[:, :, axis] = shift
    wide = torch.nn.functional.pad(x, (3,) * 6)
    shifted = wide.roll(-shift, dims=2 + axis)[..., 2:-2, 2:-2, 2:-2]
    torch.testing.assert_close(deform_conv3d(x, offset, w, padding=1), conv3d(shifted, w))


def test_a_value_fades_to_zero_within_a_cell_of_the_border(backend):
    x, w = torch.full((1, 1, 1, 1, 1), 8.0), torch.ones(1, 1, 1, 1, 1)
    read = [deform_conv3d(x, torch.tensor([0.0, 0.0, d]).view(1, 3, 1, 1, 1), w).item() for d in (-1, -0.75, 0.25, 1)]
    assert read == [0.0, 2.0, 6.0, 0.0]


def test_what_lies_outside_is_never_read(backend):
    """An infinite value beside the border must not leak into points that stay away from it."""
    x, w = torch.ones(1, 1, 1, 2, 4), torch.ones(1, 1, 1, 1, 1)
    x[0, 0, 0, 1] = float("inf")
    offset = torch.zeros(1, 3, 1, 2, 4)
    offset[:, 1, :, 1] = -1.5
    assert deform_conv3d(x, offset, w)[0, 0, 0, 1].tolist() == [0.5] * 4


def test_modulation_does_not_touch_the_bias(backend):
    x, w, offset = tensors()
    bias = torch.randn(6, dtype=torch.float64)
    y = deform_conv3d(x, offset, w, bias, padding=1, mask=torch.zeros(2, 27, 3, 6, 7, dtype=torch.float64))
    torch.testing.assert_close(y, bias.view(1, 6, 1, 1, 1).expand_as(y))


def test_offset_groups_move_their_channels_alone(backend):
    x, w, offset = tensors()
    moved = torch.randn_like(offset)
    both = deform_conv3d(x, torch.cat([moved, offset], 1), w, padding=1)
    first, second = x.clone(), x.clone()
    first[:, 2:], second[:, :2] = 0, 0
    torch.testing.assert_close(both, deform_conv3d(first, moved, w, padding=1) + conv3d(second, w, padding=1))


WRONG = [
    ({"input": torch.zeros(2, 4, 6, 7)}, ValueError, r"input must be \[N, C, T, H, W\], but has 4 axes"),
    ({"offset": torch.zeros(2, 80, 3, 6, 7)}, ValueError, r"offset has 80 channels; expected 81 \(3 axes x 27 taps\)"),
    ({"offset": torch.zeros(2, 81, 3, 6, 6)}, ValueError, r"is \[2, 81, 3, 6, 6\], expected \[2, 81, 3, 6, 7\]"),
    ({"mask": torch.zeros(2, 26, 3, 6, 7)}, ValueError, r"mask is \[2, 26, 3, 6, 7\], expected \[2, 27, 3, 6, 7\]"),
    (
        {"weight": torch.zeros(6, 3, 3, 3, 3)},
        ValueError,
        r"weight \[6, 3, 3, 3, 3\] does not fit input \[2, 4, 3, 6, 7\]",
    ),
    ({"bias": torch.zeros(5)}, ValueError, r"bias is \[5\], expected \[6\]"),
    ({"padding": -1}, ValueError, "padding must be an integer or 3 integers, at least 0, not -1"),
    ({"stride": (1, 2)}, ValueError, r"stride must be an integer or 3 integers, at least 1, not \(1, 2\)"),
    ({"padding": 0, "dilation": 3}, ValueError, "the output would be -3x0x1"),
    ({"weight": torch.zeros(6, 4, 3, 3, 3).double()}, TypeError, "weight is float64, input is float32"),
    ({"offset": torch.zeros(2, 81, 3, 6, 7).long()}, TypeError, "offset must be one of float32, .* not int64"),
    ({"bias": torch.zeros(6, device="meta")}, ValueError, "bias is on meta, input on cpu"),
]


@pytest.mark.parametrize("change, error, message", WRONG, ids=[w[2][:30] for w in WRONG])
def test_wrong_arguments_are_refused_with_the_arithmetic(change, error, message):
    right = {
        "input": torch.zeros(2, 4, 3, 6, 7),
        "offset": torch.zeros(2, 81, 3, 6, 7),
        "weight": torch.zeros(6, 4, 3, 3, 3),
        "padding": 1,
    }
    with pytest.raises(error, match=message):
        deform_conv3d(**{**right, **change})
