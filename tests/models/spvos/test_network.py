"""STCN: the published sizes, and what a tracking network promises."""

from __future__ import annotations

import json

import pytest
import torch

import pliant
from conftest import shared
from pliant.models import spvos
from pliant.models.protocols import TrackNetwork, TrackState


@pytest.fixture(scope="module")
def stcn():
    torch.manual_seed(0)
    return spvos.build("stcn").eval()


@pytest.fixture
def frames():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, 3, 32, 48, generator=generator) for _ in range(4)]


def halves(count: int = 2) -> torch.Tensor:
    masks = torch.zeros(count, 32, 48)
    for i in range(count):
        masks[i, :, 16 * i : 16 * i + 12] = 1
    return masks


def test_has_the_published_number_of_parameters(stcn):
    count = {name: sum(p.numel() for p in module.parameters()) for name, module in stcn.named_children()}
    assert count == {
        "key_encoder": 8_543_296,
        "value_encoder": 21_701_635,
        "key_proj": 589_888,
        "key_comp": 4_719_104,
        "decoder": 18_880_257,
    }
    assert sum(count.values()) == 54_434_180


def test_single_object_network_sees_no_others():
    network = pliant.build("stcn", others=False)
    assert sum(p.numel() for p in network.parameters()) == 54_431_044
    value = network.eval().encode_value(torch.zeros(1, 3, 32, 32), torch.zeros(1, 1024, 2, 2), torch.ones(1, 1, 32, 32))
    assert value.shape == (1, 512, 2, 2)


def test_keys_and_shapes_are_those_of_official_checkpoints(stcn):
    manifest = json.loads(shared("parity", "stcn.manifest.json").read_text())["state_dict"]
    assert {k: list(v.shape) for k, v in stcn.state_dict().items()} == {k: v["shape"] for k, v in manifest.items()}


def test_keeps_the_protocol(stcn, frames):
    assert isinstance(stcn, TrackNetwork)
    with torch.no_grad():
        state = stcn.start(frames[0], halves())
        assert isinstance(state, TrackState)
        before = state.nbytes()
        probabilities = stcn.step(state, frames[1])
        stcn.memorize(state, frames[1], probabilities)
    assert probabilities.shape == (3, 32, 48)
    assert probabilities.dtype == torch.float32
    assert torch.allclose(probabilities.sum(0), torch.ones(32, 48))
    assert state.nbytes() > before


@torch.no_grad()
def test_features_of_a_frame_are_computed_once(stcn, frames, monkeypatch):
    calls = []
    monkeypatch.setattr(stcn.key_encoder, "forward", lambda x, f=stcn.key_encoder.forward: calls.append(1) or f(x))
    state = stcn.start(frames[0], halves())
    stcn.memorize(state, frames[1], stcn.step(state, frames[1]))
    assert len(calls) == 2


@torch.no_grad()
def test_forgetting_an_object_leaves_the_others_alone(stcn, frames):
    state = stcn.start(frames[0], halves(3))
    features = stcn.encode_key(frames[1])
    whole = state.memory.read(features.key, 20)
    stcn.forget(state, 1)
    assert torch.equal(state.memory.read(features.key, 20), whole[[0, 2]])
    with pytest.raises(ValueError, match="no object 2: the state has 2"):
        stcn.forget(state, 2)


@torch.no_grad()
def test_objects_may_join_and_only_join(stcn, frames):
    state = stcn.start(frames[0], halves(1))
    stcn.memorize(state, frames[1], spvos.aggregate(halves(2)), permanent=True)
    assert stcn.step(state, frames[2]).shape[0] == 3
    with pytest.raises(ValueError, match="2 rows, expected at least 3"):
        stcn.memorize(state, frames[2], spvos.aggregate(halves(1)))


@torch.no_grad()
def test_order_of_objects_does_not_matter(stcn, frames):
    order = torch.tensor([2, 0, 1])
    masks = halves(3)
    straight = stcn.step(stcn.start(frames[0], masks), frames[1])
    permuted = stcn.step(stcn.start(frames[0], masks[order]), frames[1])
    assert torch.allclose(permuted[1:], straight[1:][order], atol=1e-5)


@torch.no_grad()
def test_two_interleaved_streams_are_two_streams(stcn, frames):
    a, b = stcn.start(frames[0], halves(1)), stcn.start(frames[2], halves(2))
    mixed = [stcn.step(a, frames[1]), stcn.step(b, frames[3]), stcn.step(a, frames[2])]
    alone = stcn.start(frames[0], halves(1))
    assert torch.equal(stcn.step(alone, frames[1]), mixed[0])
    assert torch.equal(stcn.step(alone, frames[2]), mixed[2])


def test_sides_off_the_stride_are_refused(stcn):
    with pytest.raises(ValueError, match="multiples of 16, got 30 x 48"):
        stcn.encode_key(torch.zeros(1, 3, 30, 48))


def test_batch_norms_stay_frozen_in_training(stcn):
    network = spvos.build("stcn").train()
    assert network.training
    assert not any(m.training for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
