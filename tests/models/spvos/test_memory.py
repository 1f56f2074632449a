"""The memory of a stream: capacity, temporary frames, late objects, top-k."""

from __future__ import annotations

import torch

from pliant.models.spvos.memory import Memory


def frame(objects: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(1, 4, 3, 5, generator=generator, dtype=torch.float64),
        torch.randn(objects, 6, 3, 5, generator=generator, dtype=torch.float64),
    )


def test_one_frame_is_read_as_the_formula_says():
    memory, (key, value), (query, _) = Memory(), frame(2, 0), frame(1, 1)
    memory.add(key, value)
    distance = (key.flatten(2)[0, :, :, None] - query.flatten(2)[0, :, None, :]).square().sum(0)
    affinity = torch.softmax(-distance / 2, dim=0)  # sqrt(C_k) = 2
    expected = (value.flatten(2) @ affinity).unflatten(2, (3, 5))
    assert torch.allclose(memory.read(query, None), expected)


def test_top_k_of_at_least_all_tokens_reads_them_all():
    memory, (query, _) = Memory(), frame(1, 1)
    memory.add(*frame(2, 0))
    assert torch.allclose(memory.read(query, 15), memory.read(query, None))
    assert torch.allclose(memory.read(query, 10_000), memory.read(query, None))
    assert not torch.allclose(memory.read(query, 3), memory.read(query, None))


def test_a_constant_added_to_all_keys_changes_nothing():
    memory, shifted, (query, _) = Memory(), Memory(), frame(1, 1)
    key, value = frame(2, 0)
    memory.add(key, value)
    shifted.add(key + 3, value)
    assert torch.allclose(memory.read(query, 5), shifted.read(query + 3, 5))


def test_keys_of_any_length_do_not_overflow():
    memory, (key, value) = Memory(), frame(1, 0)
    memory.add(key.float() * 100, value.float())
    assert memory.read(key.float() * 100, 5).isfinite().all()


def test_the_oldest_goes_but_never_a_permanent_one():
    memory = Memory(capacity=3)
    for t in range(6):
        memory.add(*frame(1, t), kind="permanent" if t == 0 else "kept")
    kept = memory.banks[0]
    assert kept.kinds == ["permanent", "kept", "kept"]
    assert [torch.equal(kept.key[:, :, i], frame(1, t)[0]) for i, t in enumerate((0, 4, 5))] == [True] * 3


def test_a_temporary_frame_lasts_until_the_next():
    memory = Memory()
    memory.add(*frame(1, 0), kind="permanent")
    memory.add(*frame(1, 1), kind="temporary")
    memory.add(*frame(1, 2))
    assert memory.banks[0].kinds == ["permanent", "kept"]
    assert torch.equal(memory.banks[0].key[:, :, 1], frame(1, 2)[0])


def test_a_late_object_reads_only_frames_it_was_in():
    memory, alone, (query, _) = Memory(), Memory(), frame(1, 9)
    memory.add(*frame(1, 0))
    key, value = frame(2, 1)
    memory.add(key, value)
    alone.add(key, value[1:])
    assert memory.objects == 2
    assert torch.allclose(memory.read(query, 4)[1:], alone.read(query, 4))
    memory.forget(0)
    assert len(memory.banks) == 1
    assert torch.allclose(memory.read(query, 4), alone.read(query, 4))
