"""salient_small: motion by correlation, frames encoded once, variants of its steering."""

from __future__ import annotations

import pytest
import torch

import pliant
from pliant.models.d2conv3d.motion import MotionFeatures, against_the_camera, local_correlation
from pliant.models.d2conv3d.presets import Steering


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return pliant.build("salient_small").eval()


def test_is_small_enough_for_a_package(network):
    """At two bytes a parameter below 25 MB."""
    assert 2 * sum(p.numel() for p in network.parameters()) < 25e6


@pytest.mark.parametrize("frames", [1, 2, 8])
def test_one_logit_a_pixel(network, frames):
    with torch.no_grad():
        assert network(torch.randn(1, 3, frames, 48, 80)).shape == (1, 1, frames, 48, 80)


@torch.no_grad()
def test_frames_encoded_one_by_one_give_the_same(network):
    clip = torch.randn(2, 3, 4, 32, 48)
    features = [[network.encode(frame[None]) for frame in sample.transpose(0, 1)] for sample in clip]
    parts = range(len(features[0][0]))
    stacked = tuple(torch.stack([torch.cat([f[p] for f in clip]) for clip in features]) for p in parts)
    torch.testing.assert_close(network.decode(stacked), network(clip), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("steering", [None, Steering(axes="yx"), Steering("deform", "tyx"), Steering("aspp")], ids=str)
def test_other_steering(steering):
    network = pliant.build("salient_small", steering=steering, widths=(16, 16, 16))
    logits = network(torch.randn(1, 3, 3, 32, 32))
    logits.mean().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_without_correlation_time_is_mixed_by_convolutions_alone():
    network = pliant.build("salient_small", correlation_radius=0, widths=(16, 16, 16)).eval()
    clip = torch.randn(1, 3, 3, 32, 32)
    changed = clip.clone()
    changed[:, :, 2] = 0
    assert not torch.equal(network(clip)[:, :, 0], network(changed)[:, :, 0])


@pytest.mark.parametrize("gradients", [True, False])
def test_local_correlation_by_loops(gradients):
    keys, others = torch.randn(2, 3, 4, 5).double(), torch.randn(2, 3, 4, 5).double()
    with torch.set_grad_enabled(gradients):
        found = local_correlation(keys, others, 1)
    for y in range(4):
        for x in range(5):
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    inside = 0 <= y + dy < 4 and 0 <= x + dx < 5
                    expected = torch.zeros(2).double()
                    if inside:
                        expected = (keys[:, :, y, x] * others[:, :, y + dy, x + dx]).sum(1)
                    torch.testing.assert_close(found[:, (dy + 1) * 3 + dx + 1, y, x], expected)


def test_local_correlation_gradient():
    inputs = [torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda a, b: local_correlation(a, b, 1), inputs)


def test_motion_is_zero_where_a_clip_has_no_neighbour():
    motion = MotionFeatures(4, 6, radius=1, steps=(2,))
    keys = torch.randn(1, 3, 4, 5, 5)
    for part in motion._against(keys, -2):
        assert not part[:, :2].any() and part[:, 2].any()
    assert torch.equal(motion._against(keys, -2)[0][:, 2], local_correlation(keys[:, 2], keys[:, 0], 1))
    assert not any(part.any() for part in motion._against(keys, 3))


def test_what_moves_on_its_own_is_left_when_the_camera_s_motion_is_taken_out():
    """An affine field with a tenth of its places moved by (1.5, -1): that remains there, nothing elsewhere."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 15), torch.linspace(-1, 1, 20), indexing="ij")
    flow = torch.stack([0.7 + 0.2 * rows - 0.1 * columns, -1.2 + 0.3 * columns])[None].repeat(2, 1, 1, 1)
    own = torch.zeros(15, 20, dtype=torch.bool)
    own[4:9, 6:12] = True
    moved = flow.clone()
    moved[:, 0, own] += 1.5
    moved[:, 1, own] -= 1.0
    left = against_the_camera(moved, rounds=8)
    assert left[:, :, ~own].abs().max() < 0.02
    torch.testing.assert_close(left[0, :, own].mean(1), torch.tensor([1.5, -1.0]), atol=0.03, rtol=0)
    assert against_the_camera(flow).abs().max() < 1e-2


def test_the_best_match_is_found_to_a_fraction_of_a_cell():
    """Keys that differ everywhere, moved by (1, -2) cells."""
    torch.manual_seed(1)
    motion = MotionFeatures(32, 6, radius=3, steps=(1,))
    picture = torch.nn.functional.normalize(torch.randn(1, 32, 16, 18), dim=1)
    here, there = picture[:, :, 3:13, 3:15], picture[:, :, 2:12, 5:17]
    with torch.no_grad():
        found = motion._motion(local_correlation(here, there, 3))[0]
    inside = found[:, 3:-3, 3:-3]
    torch.testing.assert_close(inside[0], torch.full_like(inside[0], 1.0), atol=0.05, rtol=0)
    torch.testing.assert_close(inside[1], torch.full_like(inside[1], -2.0), atol=0.05, rtol=0)
