"""XMem: the published sizes, the sensory memory's rules, and what a tracking network promises."""

from __future__ import annotations

import json

import pytest
import torch

from conftest import shared
from pliant.models import spvos, xmem
from pliant.models.protocols import TrackNetwork, TrackState
from pliant.models.xmem.checkpoint import options_in


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return xmem.build("xmem").eval()


@pytest.fixture
def frames():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, 3, 32, 48, generator=generator) for _ in range(5)]


def halves(count: int = 2) -> torch.Tensor:
    masks = torch.zeros(count, 32, 48)
    for i in range(count):
        masks[i, :, 16 * i : 16 * i + 12] = 1
    return masks


def test_has_the_published_number_of_parameters(network):
    count = {name: sum(p.numel() for p in module.parameters()) for name, module in network.named_children()}
    assert count == {
        "key_encoder": 8_543_296,
        "value_encoder": 22_694_915,
        "key_proj": 1_188_993,
        "decoder": 29_758_020,
    }
    assert sum(count.values()) == 62_185_224


def test_without_sensory_memory_it_has_the_parameters_of_the_published_file():
    plain = xmem.build("xmem", hidden_channels=0)
    assert sum(p.numel() for p in plain.parameters()) == 59_783_560
    assert options_in(plain.state_dict()) == {
        "key_channels": 64,
        "value_channels": 512,
        "hidden_channels": 0,
    }


@torch.no_grad()
def test_without_sensory_memory_it_still_tracks(frames):
    plain = xmem.build("xmem", hidden_channels=0).eval()
    state = plain.start(frames[0], halves())
    plain.memorize(state, frames[1], plain.step(state, frames[1]))
    assert plain.step(state, frames[2]).shape == (3, 32, 48)


def test_keys_and_shapes_are_those_of_official_checkpoints(network):
    expected = json.loads(shared("parity", "xmem.manifest.json").read_text())["state_dict"]
    own = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert own == {key: entry["shape"] for key, entry in expected.items()}


@pytest.mark.slow
@torch.no_grad()
def test_memories_have_the_official_sizes_after_every_frame():
    from pliant.testing.fill import load_filled
    from pliant.testing.fixtures.tracking import clip
    from pliant.testing.fixtures.xmem import propagate
    from pliant.testing.parity import read_manifest

    manifest = read_manifest(shared("parity", "xmem"))
    filled = load_filled(xmem.build("xmem"), manifest["state_dict"], manifest["fill"], torch.float32)
    for run in manifest["runs"]:
        frames, masks = clip(run, manifest["fill"]["salt"], torch.float32)
        sizes = propagate(filled, frames, masks, run)[2]
        assert [list(s) for s in sizes] == manifest["memory_sizes"]["sizes"][run["name"]], run["name"]


def test_keeps_the_protocol(network, frames):
    assert isinstance(network, TrackNetwork)
    with torch.no_grad():
        state = network.start(frames[0], halves())
        assert isinstance(state, TrackState)
        before = state.nbytes()
        probabilities = network.step(state, frames[1])
        network.memorize(state, frames[1], probabilities)
    assert probabilities.dtype == torch.float32
    assert torch.allclose(probabilities.sum(0), torch.ones(32, 48))
    assert state.nbytes() > before


@torch.no_grad()
def test_a_memorised_frame_takes_the_deep_update_alone(network, frames):
    state = network.start(frames[0], halves())
    before = state.hidden
    probabilities = network.step(state, frames[1])
    features = state.features
    network.memorize(state, frames[1], probabilities)
    value = network.encode_value(frames[1], features.f16, probabilities[1:, None])
    assert torch.equal(state.hidden, network.deep_update(value, before))


@torch.no_grad()
def test_a_frame_that_is_not_memorised_takes_the_normal_update(network, frames):
    state = network.start(frames[0], halves())
    network.step(state, frames[1])
    update = state.pending
    network.step(state, frames[2])
    assert torch.equal(state.hidden, update)


@torch.no_grad()
def test_the_hint_of_a_memory_frame_changes_no_result(network, frames):
    states = [network.start(frames[0], halves()) for _ in range(2)]
    for state, hint in zip(states, (False, True)):
        network.memorize(state, frames[1], network.step(state, frames[1], memory_frame=hint))
    assert torch.equal(network.step(states[0], frames[2]), network.step(states[1], frames[2]))


@torch.no_grad()
def test_objects_may_join_and_leave(network, frames):
    state = network.start(frames[0], halves(1))
    network.step(state, frames[1])
    network.memorize(state, frames[1], spvos.aggregate(halves(2)), permanent=True)
    assert network.step(state, frames[2]).shape[0] == 3
    network.forget(state, 0)
    assert network.step(state, frames[3]).shape[0] == 2
    network.forget(state, 0)
    assert torch.equal(network.step(state, frames[4]), torch.ones(1, 32, 48))
    with pytest.raises(ValueError, match="no object 0: the state has 0"):
        network.forget(state, 0)


@torch.no_grad()
def test_two_interleaved_streams_are_two_streams(network, frames):
    a, b = network.start(frames[0], halves(1)), network.start(frames[2], halves(2))
    mixed = [network.step(a, frames[1]), network.step(b, frames[3]), network.step(a, frames[2])]
    alone = network.start(frames[0], halves(1))
    assert torch.equal(network.step(alone, frames[1]), mixed[0])
    assert torch.equal(network.step(alone, frames[2]), mixed[2])
