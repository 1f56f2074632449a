"""The small tracker with gates: what ties it to the dense one, strategies, streams, training."""

from __future__ import annotations

import copy

import pytest
import torch

import pliant
from pliant.inference.snapshot import load_snapshot, save_snapshot
from pliant.models import spvos
from pliant.models.spvos.aggregation import aggregate
from pliant.models.spvos.gated_stages import StageGate, nearness
from pliant.weights import embedded

TINY = {"blocks": (1, 1, 1), "top_k": 10_000, "memory_frames": 4}
METHODS = pytest.mark.parametrize("method", ["triple", "static", "residual"])
NAMES = [f"spvos_small_{method}{end}" for method in ("triple", "static", "residual") for end in ("", "_fully")]
STAGES = ["layer1", "layer2", "layer3", "start", "block8", "block4"]


@pytest.fixture(scope="module")
def dense():
    torch.manual_seed(0)
    return spvos.build("spvos_small", **TINY).eval()


def sparse(dense, name="spvos_small_triple", *, mixed_gates=True):
    """The network ``name`` with the weights of ``dense``; gates that decide by their input alone, all three ways."""
    torch.manual_seed(1)
    network = spvos.build(name, **TINY).eval()
    network.load_state_dict(dense.state_dict(), strict=False)
    if mixed_gates:
        with torch.no_grad():
            for gate in network.gate.values():
                gate.near.zero_()
                gate.scores.bias.fill_(0.02)  # where nothing changed or all is zero, no decision hangs on rounding
                gate.scores.weight.normal_(std=0.1)
    return network


def decide(network, *biases):
    with torch.no_grad():
        for gate in network.gate.values():
            gate.near.zero_()
            gate.scores.weight.zero_()
            gate.scores.bias.copy_(torch.tensor(biases))
    return network


def clip(count=5, seed=2):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(2, 96, 112)
    masks[0, 10:40, 10:40] = 1
    masks[1, 50:80, 50:80] = 1
    return [torch.randn(1, 3, 96, 112, generator=generator) for _ in range(count)], masks


@torch.no_grad()
def track(network, frames, masks, memory=()):
    state, result = network.start(frames[0], masks), []
    for t, frame in enumerate(frames[1:], 1):
        result.append(network.step(state, frame, memory_frame=t in memory))
        if t in memory:
            network.memorize(state, frame, result[-1])
    return result


@pytest.mark.parametrize("name", NAMES)
def test_training_and_inference_compute_the_same(dense, name):
    network, (frames, masks) = sparse(dense, name), clip(6)
    found = track(network, frames, masks, {1, 3})
    memory = [True, True, False, True, False, False]
    odds, records = network(torch.stack(frames, 1), masks[None], torch.ones(1, 2, dtype=torch.bool), memory)
    for t, probabilities in enumerate(found):
        torch.testing.assert_close(probabilities, odds[0, t].softmax(0), atol=2e-4, rtol=0)
    assert [r.name for r in records[-6:]] == STAGES
    assert len(records) == (6 + 5) * 3 if name.endswith("fully") else 3 * 6


@pytest.mark.parametrize(("method", "biases"), [("triple", (0, 0, 9)), ("static", (9,)), ("residual", (9,))])
def test_all_gates_on_compute_give_the_dense_network(dense, method, biases):
    network, (frames, masks) = decide(sparse(dense, f"spvos_small_{method}"), *map(float, biases)), clip()
    for a, b in zip(track(network, frames, masks, {2}), track(dense, frames, masks, {2}), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_reuse_of_a_repeated_frame_is_the_dense_network(dense):
    network, (frames, masks) = decide(sparse(dense), 0.0, 9.0, 0.0), clip(1)
    state = network.start(frames[0], masks)
    before = [x.clone() for x in (*state.features, state.key, *state.shared)]
    network.step(state, frames[0])
    for a, b in zip(before, (*state.features, state.key, *state.shared)):
        assert torch.equal(a, b)


@torch.no_grad()
@METHODS
def test_memory_frames_are_dense_to_the_bit_whatever_came_before(dense, method):
    network, (frames, masks) = sparse(dense, f"spvos_small_{method}"), clip(4)
    expected = dense.start(frames[3], masks)
    for announced in (True, False):  # not announced: computed again
        state = network.start(frames[0], masks)
        network.step(state, frames[1])
        network.step(state, frames[2])
        network.memorize(state, frames[3], network.step(state, frames[3], memory_frame=announced))
        assert torch.equal(state.bank.frames[-1].key, expected.key[0])
        assert torch.equal(state.features[2], expected.features[2])


@torch.no_grad()
def test_remembered_keys_are_not_written_over(dense):
    network, (frames, masks) = sparse(dense), clip()
    state = network.start(frames[0], masks)
    first = state.bank.frames[0].key.clone()
    for frame in frames[1:]:
        network.step(state, frame)
    assert torch.equal(state.bank.frames[0].key, first)


@torch.no_grad()
@METHODS
def test_two_interleaved_streams_are_two_streams(dense, method):
    network = sparse(dense, f"spvos_small_{method}")
    (frames, masks), (others, _) = clip(4), clip(4, seed=7)
    a, b = network.start(frames[0], masks), network.start(others[0], masks[:1])
    found = []
    for t in range(1, 4):
        found.append(network.step(a, frames[t]))
        network.step(b, others[t])
    for one, two in zip(found, track(network, frames, masks)):
        assert torch.equal(one, two)


@torch.no_grad()
@METHODS
def test_a_stored_stream_goes_on_to_the_same_result(dense, method, tmp_path):
    network, (frames, masks) = sparse(dense, f"spvos_small_{method}"), clip(5)
    state = network.start(frames[0], masks)
    for t in (1, 2):
        network.step(state, frames[t])
    copied = copy.deepcopy(state)
    save_snapshot(tmp_path / "state", state, {})
    stored = load_snapshot(tmp_path / "state")[0]
    for one in (state, copied, stored):
        last = [network.step(one, frames[t]) for t in (3, 4)][-1]
        if one is state:
            expected = last
        assert torch.equal(last, expected)


@torch.no_grad()
def test_objects_join_and_leave(dense):
    network, (frames, masks) = sparse(dense), clip(5)
    state = network.start(frames[0], masks[:1])
    network.step(state, frames[1])
    network.memorize(state, frames[1], aggregate(masks), permanent=True)
    assert network.step(state, frames[2]).shape[0] == 3
    assert [r.name for r in state.records] == STAGES[:3], "with an object that has no past the decoder runs dense"
    network.step(state, frames[3])
    kept = {name: x[1:].clone() for name, x in state.decoder.outputs.items()}
    network.forget(state, 0)
    assert all(torch.equal(x, kept[name]) for name, x in state.decoder.outputs.items())
    assert network.step(state, frames[4]).shape[0] == 2
    assert [r.name for r in state.records] == STAGES


@torch.no_grad()
def test_the_state_grows_with_the_memory_alone(dense):
    network, (frames, masks) = sparse(dense), clip(6)
    state, sizes = network.start(frames[0], masks), []
    for frame in frames[1:]:
        network.step(state, frame)
        sizes.append(state.nbytes())
    assert len(set(sizes[1:])) == 1


def test_gates_start_out_computing_near_the_objects():
    last = torch.zeros(1, 20, 20)
    last[0, 9:11, 9:11] = 1
    near = nearness(last)
    assert near[0, 0, 10, 10] == near.max() > 0.5 and near[0, 0, 10, 14] == 0
    for method, elsewhere in (("triple", 1), ("static", 0), ("residual", 0)):
        gate = StageGate(method, 16).eval()
        x = torch.zeros(1, 16, 20, 20).contiguous(memory_format=torch.channels_last)
        policy, masks, _ = gate.decide(x, gate.listen(x) if method == "triple" else None, near)
        assert masks is None
        assert policy[0, 0, 10, 10] == 2 and policy[0, 0, 10, 12] == 2 and policy[0, 0, 10, 15] == elsewhere


@pytest.mark.parametrize("name", NAMES[:5:2])
def test_every_parameter_learns(dense, name):
    network, (frames, masks) = sparse(dense, name, mixed_gates=False).train(), clip(4)
    torch.manual_seed(0)
    valid = torch.ones(1, 2, dtype=torch.bool)
    odds, records = network(torch.stack(frames, 1), masks[None], valid, [True, True, False, False])
    (odds.softmax(2)[:, :, 1:].square().mean() + sum(r.computed for r in records) / 1e4).backward()
    silent = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert silent in ([], ["key.bias"])


def test_it_starts_from_the_dense_weights():
    dense = pliant.load("spvos_small")
    network = pliant.load("spvos_small_triple", weights=embedded("spvos_small", "spvos_small.safetensors"))
    for key, value in dense.state_dict().items():
        assert torch.equal(network.state_dict()[key], value)


def test_a_training_step_counts_what_sparse_frames_compute(tmp_path):
    import numpy as np
    from PIL import Image

    from pliant.datasets.sources import Sources
    from pliant.training import recipe

    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 255, (300, 300, 3), dtype=np.uint8)).save(tmp_path / f"{i}.jpg")
    initial = embedded("spvos_small", "spvos_small.safetensors")
    sources = Sources(photos=(tmp_path,), initial=initial, cache=tmp_path / "cache")
    chosen, settings = recipe("spvos_small_triple", sources)
    assert settings["batch_size"] == 4
    network = chosen.build().train()
    assert torch.equal(network.context.weight, pliant.load("spvos_small").context.weight)
    groups = chosen.parameter_groups(network)
    trained = [p for group in groups for p in group["params"]]
    assert len(trained) == len({id(p) for p in trained}) == sum(p.requires_grad for p in network.parameters())
    sample = chosen.sample(0, 0, 0.0)
    batch = {key: torch.from_numpy(np.asarray(value))[None] for key, value in sample.items()}
    losses = chosen.loss(network, batch, 0.0)
    assert 0.05 < losses["computed"] < 0.9
    losses["sparsity"].backward()
    assert network.gate["layer3"].near.grad[2] != 0


def test_embedded_weights_follow_the_object_and_skip_most_of_the_rest():
    """On a plain scene: a textured square that moves over another texture."""
    from pliant.inference.layer_times import scene

    tracker = pliant.Tracker(pliant.load("spvos_small_triple"), size=240)
    frames = list(scene(6, 1, 240, 426))
    tracker.add_objects(*frames[0])
    for t, (image, truth) in enumerate(frames[1:], 1):
        labels = tracker.step(image)
        assert ((labels == 1) & (truth == 1)).sum() / ((labels == 1) | (truth == 1)).sum() > 0.8
        records = tracker.state.network.records
        if t % tracker.memory_every == 0:
            assert not records, "remembered frames are dense"
        elif t > 1:
            assert [r.name for r in records] == STAGES
            assert sum(r.computed * r.cost for r in records) < 0.6 * sum(r.positions * r.cost for r in records)


@pytest.mark.parametrize("name", NAMES)
def test_the_sparse_network_is_the_masked_dense_one(dense, name):
    """Training computes every position and chooses by masks; without its noise inference must say the same."""
    network, (frames, masks) = sparse(dense, name), clip(5)
    found = track(network, frames, masks, {1})
    for gate in network.gate.values():
        gate.scores.noise = False
    valid = torch.ones(1, 2, dtype=torch.bool)
    odds, records = network.train()(torch.stack(frames, 1), masks[None], valid, [True, True, False, False, False])
    assert all(r.policy.requires_grad is False and r.computed.requires_grad for r in records)
    for t, probabilities in enumerate(found):
        torch.testing.assert_close(probabilities, odds[0, t].detach().softmax(0), atol=1e-5, rtol=0)
