"""3DC-Seg and D²Conv3D: sizes, exact parameter counts, the official networks."""

from __future__ import annotations

import pytest
import torch

import pliant
from conftest import shared
from pliant.losses.lovasz import lovasz_hinge
from pliant.models import MODELS
from pliant.models.d2conv3d import PRESETS
from pliant.nn import SteeringMaps
from pliant.testing import parity

COUNTS = {
    "threedc_seg": 74_168_194,
    "threedc_seg_r2plus1d": 94_082_585,
    "threedc_seg_revised": 74_168_961,
    "d2conv3d": 77_072_301,
    "d2conv3d_i": 76_878_745,
    "d2conv3d_ii": 76_975_523,
    "d2conv3d_iii": 74_459_295,
    "d2conv3d_dcnv1": 82_007_979,
    "d2conv3d_dcnv2": 84_620_985,
    "d2conv3d_aspp": 96_324_737,
    "d2conv3d_aspp_all": 127_276_161,
    "d2conv3d_none": 77_072_301,
    "d2conv3d_one_plus_relu": 77_072_301,
    "d2conv3d_relu": 77_072_301,
    "d2conv3d_i_unmodulated": 74_265_739,
    "d2conv3d_ii_unmodulated": 74_362_517,
    "d2conv3d_shared_xy": 76_975_523,
    "d2conv3d_shared_xy_unmodulated": 74_362_517,
    "d2conv3d_spatial_dcnv1": 82_007_979,
    "d2conv3d_spatial_dcnv2": 84_620_985,
    "d2conv3d_temporal_dcnv1": 82_007_979,
    "d2conv3d_temporal_dcnv2": 84_620_985,
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters(name):
    with torch.device("meta"):
        network = pliant.build(name)
    assert sum(p.numel() for p in network.parameters()) == COUNTS[name]


def test_every_preset_is_counted_and_in_the_table():
    assert COUNTS.keys() | {"d2conv3d_csn50", "d2conv3d_tiny", "salient_small", "salient_small_plain"} == set(PRESETS)
    assert set(PRESETS) <= {name for name, model in MODELS.items() if model.family == "d2conv3d"}


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return pliant.build("d2conv3d_tiny").eval()


@pytest.mark.parametrize("frames", [1, 3, 8])
def test_one_logit_a_pixel(tiny, frames):
    assert tiny(torch.randn(2, 3, frames, 32, 64)).shape == (2, 1, frames, 32, 64)


def test_clips_of_a_batch_do_not_see_each_other(tiny):
    clips = torch.randn(2, 3, 8, 32, 32)
    torch.testing.assert_close(tiny(clips)[1:], tiny(clips[1:]), atol=1e-5, rtol=1e-4)


def test_two_classes_give_the_logit_of_their_softmax():
    network = pliant.build("d2conv3d_tiny", classes=2).eval()
    clip = torch.randn(1, 3, 2, 32, 32)
    expected = network.class_logits(clip).softmax(dim=1)[:, 1:]
    torch.testing.assert_close(network(clip).sigmoid(), expected)


def test_a_new_network_does_not_move_its_taps(tiny):
    with SteeringMaps(tiny) as steering:
        tiny(torch.randn(1, 3, 8, 32, 32))
    assert len(steering.maps) == 10
    for maps in steering.maps.values():
        assert torch.equal(maps.dilation, torch.ones_like(maps.dilation))
        assert torch.equal(maps.modulation, torch.full_like(maps.modulation, 0.5))


def test_recomputing_blocks_changes_no_gradient():
    def gradients(recompute):
        torch.manual_seed(0)
        network = pliant.build("d2conv3d_tiny").train()
        network.encoder.checkpoint_blocks = recompute
        network(torch.randn(1, 3, 4, 32, 32)).square().mean().backward()
        return [p.grad for p in network.parameters()]

    for kept, recomputed in zip(gradients(False), gradients(True)):
        torch.testing.assert_close(kept, recomputed)


def test_a_few_steps_learn_one_clip():
    torch.manual_seed(0)
    network = pliant.build("d2conv3d_tiny").train()
    clip, mask = torch.randn(1, 3, 4, 32, 32), torch.zeros(1, 1, 4, 32, 32)
    mask[..., 8:24, 12:28] = 1
    clip += 2 * mask
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = lovasz_hinge(network(clip), mask)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.25 * losses[0]


def test_unknown_options_are_named():
    with pytest.raises(TypeError, match="wdith"):
        pliant.build("d2conv3d", wdith=128)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("fixture", [name for name, module in parity.FIXTURES.items() if module == "clip_segmenters"])
def test_official_network(fixture, dtype):
    results = list(parity.compare(shared("parity", fixture), dtype))
    assert len(results) >= 11
    assert [r for r in results if not r.ok] == []
