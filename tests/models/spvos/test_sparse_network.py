"""SpVOS whole: the identities that tie it to its dense self, streams, objects, strategies."""

from __future__ import annotations

import copy

import pytest
import torch

from pliant.models import spvos
from pliant.models.backbones.convolve import fold_batch_norms
from pliant.models.protocols import TrackNetwork
from pliant.models.spvos.gated_conv import GatedConv2d


@pytest.fixture(scope="module")
def networks():
    """A dense network and triple, static and residual ones with its weights and gates that decide everything."""
    torch.manual_seed(0)
    dense = spvos.build("stcn").eval()
    with torch.no_grad():  # batch norms that are not the identity
        for module in dense.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.1)
    result = {"dense": dense}
    for method in ("triple", "static", "residual"):
        network = spvos.build(f"spvos_{method}").eval()
        network.load_state_dict(dense.state_dict(), strict=False)
        result[method] = network
    return result


def set_gates(network, *biases: float, spread: float = 0.0) -> None:
    torch.manual_seed(5)
    for layer in network.modules():
        if isinstance(layer, GatedConv2d):
            torch.nn.init.normal_(layer.gate.weight, std=spread)
            layer.gate.bias.data.copy_(torch.tensor(biases))


def clip(count: int, seed: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 3, 32, 48, generator=generator) for _ in range(count)]


def halves(count: int = 2) -> torch.Tensor:
    masks = torch.zeros(count, 32, 48)
    for i in range(count):
        masks[i, :, 16 * i : 16 * i + 12] = 1
    return masks


@torch.no_grad()
def track(network, frames, memory=(), masks=None, state=None):
    state = state or network.start(frames[0], halves() if masks is None else masks)
    result = []
    for t, frame in enumerate(frames[1:], 1):
        result.append(network.step(state, frame, memory_frame=t in memory))
        if t in memory:
            network.memorize(state, frame, result[-1])
    return result


@pytest.mark.parametrize(("method", "biases"), [("triple", (0, 0, 9)), ("static", (9,)), ("residual", (9,))])
def test_all_gates_on_compute_give_the_dense_network(networks, method, biases):
    set_gates(networks[method], *biases)
    for sparse, dense in zip(
        track(networks[method], clip(4), {2}), track(networks["dense"], clip(4), {2}), strict=True
    ):
        assert torch.allclose(sparse, dense, atol=1e-5)


def test_reuse_of_a_repeated_frame_is_the_dense_network(networks):
    set_gates(networks["triple"], 0, 9, 0)
    frames = clip(1) * 3
    sparse, dense = track(networks["triple"], frames), track(networks["dense"], frames)
    assert torch.allclose(sparse[-1], dense[-1], atol=1e-5)


def test_with_every_frame_memorised_mixed_is_dense(networks):
    set_gates(networks["triple"], 0.1, 0.2, 0, spread=0.05)
    frames, every = clip(4), {1, 2, 3}
    for sparse, dense in zip(track(networks["triple"], frames, every), track(networks["dense"], frames, every)):
        assert torch.allclose(sparse, dense, atol=1e-5)


@torch.no_grad()
def test_memory_frames_are_dense_to_the_bit_whatever_came_before(networks):
    network, frames = networks["triple"], clip(3)
    set_gates(network, 9, 0, 0)
    states = [network.start(frames[0], halves()) for _ in range(3)]
    for state, (first, second) in zip(states, ((False, True), (True, True), (False, False))):
        network.step(state, frames[1], memory_frame=first)
        network.memorize(state, frames[2], network.step(state, frames[2], memory_frame=second))
    keys = [state.memory.banks[0].key[:, :, 1] for state in states]
    assert torch.equal(keys[0], keys[1])
    assert torch.equal(keys[2], keys[1])  # not announced: computed again
    assert torch.allclose(keys[0], networks["dense"].encode_key(frames[2]).key, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("method", "biases"), [("triple", (0.1, 0.2, 0.1)), ("static", (0.1,)), ("residual", (0.1,))])
def test_folded_batch_norms_give_the_same_result(networks, method, biases):
    network = copy.deepcopy(networks[method])
    set_gates(network, *biases, spread=0.02)
    plain = track(network, clip(5), {3})
    folded = track(fold_batch_norms(network), clip(5), {3})
    for a, b in zip(plain, folded):
        assert torch.allclose(a, b, atol=1e-4)


@torch.no_grad()
def test_folding_leaves_a_dense_network_as_it_is(networks):
    network = copy.deepcopy(networks["dense"])
    plain = track(network, clip(3), {1})
    for a, b in zip(plain, track(fold_batch_norms(network), clip(3), {1})):
        assert torch.allclose(a, b, atol=1e-5)


def test_two_interleaved_streams_are_two_streams(networks):
    network = networks["triple"]
    set_gates(network, 0.1, 0.2, 0.1, spread=0.02)
    frames, others = clip(4), clip(4, seed=2)
    with torch.no_grad():
        a, b = network.start(frames[0], halves(1)), network.start(others[0], halves(2))
        mixed = []
        for t in range(1, 4):
            mixed.append(network.step(a, frames[t]))
            network.step(b, others[t])
    for one, two in zip(mixed, track(network, frames, masks=halves(1))):
        assert torch.equal(one, two)


def test_a_copied_state_goes_on_to_the_same_result(networks):
    network = networks["triple"]
    set_gates(network, 0.1, 0.2, 0.1, spread=0.02)
    frames = clip(4)
    with torch.no_grad():
        state = network.start(frames[0], halves())
        network.step(state, frames[1])
        copied = copy.deepcopy(state)
        for t in (2, 3):
            expected = network.step(state, frames[t])
        for t in (2, 3):
            result = network.step(copied, frames[t])
    assert torch.equal(result, expected)


@torch.no_grad()
def test_an_object_that_leaves_keeps_the_caches_of_the_others(networks):
    network, frames = networks["triple"], clip(4)
    set_gates(network, 0.1, 0.2, 0.1, spread=0.02)
    state = network.start(frames[0], halves(3))
    network.step(state, frames[1])
    kept = {name: cache.output[[0, 2]].clone() for name, cache in state.decoder.items()}
    network.forget(state, 1)
    assert all(torch.equal(cache.output, kept[name]) for name, cache in state.decoder.items())
    assert network.step(state, frames[2]).shape[0] == 3


@torch.no_grad()
def test_an_object_may_join_mid_video(networks):
    network, frames = networks["triple"], clip(4)
    set_gates(network, 0.1, 0.2, 0.1, spread=0.02)
    state = network.start(frames[0], halves(1))
    network.step(state, frames[1])
    network.memorize(state, frames[1], spvos.aggregate(halves(2)), permanent=True)
    assert network.step(state, frames[2]).shape[0] == 3
    assert all(len(cache.output) == 2 for cache in state.decoder.values())


@torch.no_grad()
def test_the_state_grows_with_the_memory_alone(networks):
    network, frames = networks["triple"], clip(6)
    state = network.start(frames[0], halves())
    sizes = []
    for frame in frames[1:]:
        network.step(state, frame)
        sizes.append(state.nbytes())
    assert len(set(sizes[1:])) == 1


def test_decisions_are_recorded_on_sparse_frames_alone(networks):
    network, frames = networks["triple"], clip(3)
    assert isinstance(network, TrackNetwork)
    with torch.no_grad():
        state = network.start(frames[0], halves())
        network.step(state, frames[1])
        assert len(state.records) == 39  # the decoder had no past and ran dense
        network.step(state, frames[2])
        assert len(state.records) == 45
        network.step(state, frames[1], memory_frame=True)
        assert state.records == []


@pytest.mark.parametrize(
    ("name", "gated"),
    [
        ("spvos_triple", 39 + 6),  # the third frame alone
        ("spvos_triple_semi_m", 2 * 39 + 6 + 16),  # frames 2 and 3; D has no past at frame 2, M runs at it first
        ("spvos_triple_fully_m", 3 * 39 + 2 * 6 + 2 * 16),
    ],
)
def test_strategies_decide_which_frames_are_sparse(name, gated):
    torch.manual_seed(0)
    network = spvos.build(name).train()
    images, valid = torch.randn(1, 3, 3, 32, 32), torch.ones(1, 1, dtype=torch.bool)
    odds, records = network(images, torch.ones(1, 1, 32, 32), valid, [True, True, False])
    assert odds.shape == (1, 2, 2, 32, 32)
    assert len(records) == gated


def test_a_training_step_reaches_filters_and_gates():
    torch.manual_seed(0)
    network = spvos.build("spvos_triple").train()
    images, valid = torch.randn(2, 3, 3, 32, 32), torch.tensor([[True, True], [True, False]])
    masks = torch.stack([halves()[:, :, :32]] * 2)
    odds, records = network(images, masks, valid, [True, True, False])
    absent = torch.softmax(odds[1], dim=1)[:, 2]
    assert (absent < 1e-6).all()
    (odds.square().mean() + sum(r.computed for r in records)).backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    assert all(g is not None and g.isfinite().all() for name, g in gradients.items() if ".gate." in name)
    assert gradients["key_encoder.layer2.1.conv2.weight"].any()


def test_a_sparse_memory_encoder_needs_another_strategy():
    with pytest.raises(ValueError, match="leave M out of modules"):
        spvos.build("spvos_triple", modules="QMD")


def test_options_replace_those_of_a_preset():
    network = spvos.build("spvos_triple", modules="D", temperature=5.0)
    gated = [m for m in network.modules() if isinstance(m, GatedConv2d)]
    assert len(gated) == 6
    assert {m.gate.temperature for m in gated} == {5.0}
