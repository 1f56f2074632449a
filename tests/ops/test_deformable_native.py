"""The native kernels' own promises: no copy where none is needed, packed weights that are never stale."""

from __future__ import annotations

import pytest
import torch

from pliant.ops import deform_conv3d, deformable_native, dynamic_dilated_conv3d, native

pytestmark = pytest.mark.skipif(native.why_missing() is not None, reason="needs the native kernels (make build)")


def call(weight, x=None):
    x = torch.ones(1, 16, 1, 3, 3) if x is None else x
    return deform_conv3d(x, torch.zeros(1, 3, 1, 3, 3, dtype=torch.float32), weight)


@pytest.mark.parametrize(
    "change",
    [lambda w: w.mul_(2), lambda w: w.data.copy_(w * 2), lambda w: w.data.mul_(2)],
    ids=["in place", "copied into .data", "in place on .data"],
)
def test_a_weight_that_changes_is_packed_again(change):
    weight = torch.rand(16, 16, 1, 1, 1)
    with torch.no_grad():
        before = call(weight)
        change(weight)
        torch.testing.assert_close(call(weight), before * 2)


def test_a_packed_weight_is_kept_for_inference_and_goes_with_its_weight():
    deformable_native._kept.clear()
    weight = torch.rand(16, 16, 1, 1, 1)
    with torch.no_grad():
        call(weight)
        kept = deformable_native._kept[id(weight)]
        call(weight)
        assert deformable_native._kept[id(weight)] is kept
    del weight, kept
    assert not deformable_native._kept


def test_nothing_is_kept_while_gradients_are_recorded():
    deformable_native._kept.clear()
    call(torch.rand(16, 16, 1, 1, 1, requires_grad=True))
    assert not deformable_native._kept


def test_channels_last_comes_out_as_it_went_in():
    x = torch.randn(2, 16, 2, 5, 6).contiguous(memory_format=torch.channels_last_3d)
    d, w = torch.ones(2, 3, 2, 5, 6), torch.randn(16, 16, 3, 3, 3)
    y = dynamic_dilated_conv3d(x, d, w, padding=1)
    assert y.is_contiguous(memory_format=torch.channels_last_3d) and not y.is_contiguous()
    assert dynamic_dilated_conv3d(x.contiguous(), d, w, padding=1).is_contiguous()


def test_poisoned_memory_does_not_matter():
    """What an earlier call left in scratch memory must not show."""
    w, d = torch.randn(37, 21, 3, 3, 3), torch.rand(1, 3, 2, 5, 7) * 2
    x = torch.randn(1, 21, 2, 5, 7)
    for dtype in (torch.float32, torch.bfloat16):
        args = x.to(dtype), d, w.to(dtype)
        clean = dynamic_dilated_conv3d(*args, padding=1)
        dynamic_dilated_conv3d(torch.full_like(args[0], float("nan")), d, args[2], padding=1)
        assert torch.equal(dynamic_dilated_conv3d(*args, padding=1), clean)
