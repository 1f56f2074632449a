"""Tri-XMem: the paper's parameters, and the identities that tie it to XMem."""

from __future__ import annotations

import pytest
import torch

from pliant.models import xmem
from pliant.models.protocols import TrackNetwork
from pliant.models.spvos.flops import parameter_mib
from pliant.models.spvos.gated_conv import GatedConv2d


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    dense, sparse = xmem.build("xmem").eval(), xmem.build("tri_xmem").eval()
    sparse.load_state_dict(dense.state_dict(), strict=False)
    return dense, sparse


def decide(network, *biases: float) -> None:
    for layer in network.modules():
        if isinstance(layer, GatedConv2d):
            torch.nn.init.zeros_(layer.gate.weight)
            layer.gate.bias.data.copy_(torch.tensor(biases))


@torch.no_grad()
def track(network, frames, memory=()):
    masks = torch.zeros(2, 32, 48)
    masks[0, :, :16] = masks[1, :, 30:] = 1
    state, result = network.start(frames[0], masks), []
    for t, frame in enumerate(frames[1:], 1):
        result.append(network.step(state, frame, memory_frame=t in memory))
        if t in memory:
            network.memorize(state, frame, result[-1])
    return result, state


def clip(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, 3, 32, 48, generator=generator) for _ in range(count)]


def test_has_the_parameters_of_table_6(networks):
    assert sum(p.numel() for p in networks[1].parameters()) == 62_629_671
    assert round(parameter_mib(networks[1], statistics=False), 2) == 238.91
    assert isinstance(networks[1], TrackNetwork)


def test_all_gates_on_compute_give_xmem(networks):
    decide(networks[1], 0, 0, 9)
    for sparse, dense in zip(track(networks[1], clip(5), {2})[0], track(networks[0], clip(5), {2})[0]):
        assert torch.allclose(sparse, dense, atol=1e-5)


def test_memory_frames_are_dense_whatever_came_before(networks):
    decide(networks[1], 9, 0, 0)
    keys = [track(networks[1], clip(3), memory)[1].memory.frames[-1].key for memory in ({2}, {1, 2})]
    assert torch.equal(*keys)


def test_sparse_frames_ask_every_gate(networks):
    decide(networks[1], 0, 9, 0)
    state = track(networks[1], clip(3))[1]
    assert len(state.records) == 39 + 8 + 4
    assert all(record.computed == 0 for record in state.records)
