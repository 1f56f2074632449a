"""salient_small: U2-NetP's logits to begin with, motion against the camera, frames encoded once, other steering."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pliant
from pliant.inference.salient import SalientStream
from pliant.models.d2conv3d.motion import MotionEncoder, against_the_camera, motion_between, optical_flow
from pliant.models.d2conv3d.presets import Steering


def built(**options):
    """A network whose decoder has something to say."""
    torch.manual_seed(0)
    network = pliant.build("salient_small", **options).eval()
    nn.init.normal_(network.prediction.weight, std=0.3)
    return network


@pytest.fixture(scope="module")
def network():
    return built()


def test_is_small_enough_for_a_package(network):
    """At two bytes a parameter below 25 MB."""
    assert 2 * sum(p.numel() for p in network.parameters()) < 25e6


@pytest.mark.parametrize("frames", [1, 2, 8])
def test_one_logit_a_pixel(network, frames):
    with torch.no_grad():
        assert network(torch.randn(1, 3, frames, 64, 96)).shape == (1, 1, frames, 64, 96)


@torch.no_grad()
def test_frames_encoded_one_by_one_give_the_same(network):
    clip = torch.randn(2, 3, 4, 32, 64)
    features = []
    for sample in clip:
        frames = list(sample.transpose(0, 1)[:, None])
        features.append([network.encode(frame, before) for frame, before in zip(frames, [frames[0], *frames])])
    parts = range(len(features[0][0]))
    stacked = tuple(torch.stack([torch.cat([f[p] for f in clip]) for clip in features]) for p in parts)
    torch.testing.assert_close(network.decode(stacked), network(clip), atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_begins_as_the_image_network():
    network = pliant.build("salient_small").eval()
    clip = torch.randn(1, 3, 3, 64, 64)
    seen = torch.cat([network.encoder(clip[:, :, t])[0] for t in range(3)])
    expected = F.interpolate(4 * (seen / 4).tanh(), scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(network(clip)[0, 0], expected[:, 0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("steering", [None, Steering(axes="yx"), Steering("deform", "tyx"), Steering("aspp")], ids=str)
def test_other_steering(steering):
    network = built(steering=steering, widths=(16, 16, 16)).train()
    logits = network(torch.randn(1, 3, 3, 32, 32))
    logits.mean().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_without_motion_time_is_mixed_by_convolutions_alone():
    network = built(motion=False, widths=(16, 16, 16))
    clip = torch.randn(1, 3, 3, 32, 32)
    changed = clip.clone()
    changed[:, :, 2] = 0
    assert not torch.equal(network(clip)[:, :, 0], network(changed)[:, :, 0])


@torch.no_grad()
def test_a_stream_stretches_frames_and_gives_masks_of_their_size():
    network = built(widths=(16, 16, 16))
    stream = SalientStream(network, size=64)
    frames = [np.repeat(np.roll(texture(), t, 1)[:50, :90, None], 3, 2) for t in range(3)]
    found = [p for frame in frames for p in stream.push(frame)] + stream.finish()
    assert [p.shape for p in found] == [(50, 90)] * 3
    stretched = np.stack([cv2.resize(frame, (64, 64), interpolation=cv2.INTER_LINEAR) for frame in frames])
    mean, deviation = np.float32(network.pixel_mean), np.float32(network.pixel_std)
    clip = torch.from_numpy((np.float32(stretched) / 255 - mean) / deviation).permute(3, 0, 1, 2)[None]
    expected = F.interpolate(network(clip)[0].sigmoid(), (50, 90), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(torch.from_numpy(np.stack(found)), expected, atol=2e-3, rtol=0)


def test_the_network_says_at_which_size_it_looks(network):
    assert SalientStream(network).size == 320
    assert SalientStream(pliant.build("d2conv3d_tiny")).size == 480


# Motion ----------------------------------------------------------------------------------------------------------


def texture(seed: int = 0) -> np.ndarray:
    """Grey, [160, 200] uint8, smooth enough to be followed."""
    noise = np.random.default_rng(seed).random((160, 200)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, None, 2)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def test_flow_points_to_where_a_pixel_has_gone():
    moved = np.roll(texture(), (2, 3), (0, 1))
    flow = optical_flow(texture(), moved)[20:-20, 20:-20]
    np.testing.assert_allclose(flow.reshape(-1, 2).mean(0), [3, 2], atol=0.1)  # dx, dy
    assert not optical_flow(texture()[:8], moved[:8]).any()


def test_what_moves_on_its_own_stands_out_before_a_camera_that_moves_too():
    ground, thing = texture(), texture(1)
    images = np.stack([np.roll(ground, 2 * t, 1) for t in range(2)])
    for t, image in enumerate(images):
        image[60 + 4 * t : 100 + 4 * t, 80:130] = thing[60:100, 80:130]
    frames = torch.from_numpy(images).float()[:, None].expand(-1, 3, -1, -1) / 50
    motion = motion_between(frames[:1], frames[1:])
    assert motion.shape == (1, 6, 80, 100)
    for direction, top in ((motion[0, :3], 34), (motion[0, 3:], 32)):  # of the new frame, of the old one
        inside, outside = direction[0, top : top + 16, 44:62], direction[0, 5:25, 10:-10]
        assert inside.mean() > 1.5 and outside.mean() < 0.5
    since, until = motion[0, 1:3, 36:48, 44:62].mean((1, 2)), motion[0, 4:6, 36:48, 44:62].mean((1, 2))
    assert since[1] < -0.5 and until[1] > 0.5  # it came from above, and goes down
    assert (since + until).abs().max() < 0.2


def test_both_directions_of_a_clip():
    motion = torch.rand(2, 4, 6, 5, 5)
    both = MotionEncoder.both_directions(motion)
    assert both.shape == (2, 4, 7, 5, 5)
    assert not both[:, 0, :3].any() and not both[:, -1, 3:6].any()
    assert torch.equal(both[:, 1:, :3], motion[:, 1:, :3]) and torch.equal(both[:, :-1, 3:6], motion[:, 1:, 3:])
    assert torch.equal(both[:, 1, 6], torch.minimum(motion[:, 1, 0], motion[:, 2, 3]))
    assert torch.equal(both[:, 0, 6], motion[:, 1, 3]) and torch.equal(both[:, -1, 6], motion[:, -1, 0])
    assert not MotionEncoder.both_directions(motion[:, :1]).any()


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
