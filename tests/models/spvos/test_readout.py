"""Reading a memory again only where the query changed."""

from __future__ import annotations

import pytest
import torch

from pliant.models import spvos
from pliant.models.spvos.readout import Readout


class Memory:
    """Doubles every query, and remembers how many positions it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, query):
        self.asked.append(query[0, 0].numel())
        return torch.cat([2 * query, 3 * query])


def query(seed=0):
    return torch.randn(1, 4, 5, 6, generator=torch.Generator().manual_seed(seed))


def test_only_changed_positions_are_looked_up():
    readout, memory, first = Readout(), Memory(), query()
    readout.read(first, memory)
    second = first.clone()
    second[0, 1, 2, 3] += 1
    second[0, 0, 4, 0] += 1
    found = readout.read(second, memory)
    assert torch.equal(found, torch.cat([2 * second, 3 * second]))
    assert torch.equal(readout.read(second, memory), found)
    assert memory.asked == [30, 2]


@pytest.mark.parametrize("change", ["everything", "size", "dtype", "cleared"])
def test_where_little_is_known_everything_is_looked_up(change):
    readout, memory, first = Readout(), Memory(), query()
    readout.read(first, memory)
    second = {"everything": query(1), "size": query(1)[..., :5], "dtype": first.double(), "cleared": first}[change]
    if change == "cleared":
        readout.clear()
    assert torch.equal(readout.read(second, memory), torch.cat([2 * second, 3 * second]))
    assert memory.asked == [30, second[0, 0].numel()]


def test_a_query_that_is_written_over_later_is_kept_as_it_was():
    readout, memory, first = Readout(), Memory(), query()
    readout.read(first, memory)
    first[0, :, 0, 0] += 1
    assert torch.equal(readout.read(first, memory), torch.cat([2 * first, 3 * first]))


@torch.no_grad()
@pytest.mark.parametrize("name", ["spvos_small_triple", "spvos_triple"])
def test_a_tracker_finds_what_it_finds_when_it_reads_everything(name, monkeypatch):
    options = {"blocks": (1, 1, 1)} if "small" in name else {}
    torch.manual_seed(0)
    network = spvos.build(name, **options).eval()
    generator = torch.Generator().manual_seed(1)
    frames = [torch.randn(1, 3, 64, 80, generator=generator)] * 2
    for _ in range(4):
        frames.append(frames[-1].clone())
        frames[-1][:, :, :16, :16] = torch.randn(1, 3, 16, 16, generator=generator)
    masks = torch.zeros(2, 64, 80)
    masks[0, 8:30, 8:30] = masks[1, 40:60, 50:70] = 1

    def follow():
        state, found = network.start(frames[0], masks), []
        for t, frame in enumerate(frames[1:], 1):
            found.append(network.step(state, frame, memory_frame=t == 2))
            if t == 2:
                network.memorize(state, frame, found[-1])
        return found

    sparing = follow()
    monkeypatch.setattr(Readout, "read", lambda self, query, look_up: look_up(query))
    for one, other in zip(sparing, follow()):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
