"""Working and long-term memory: what is read, what becomes a prototype, what is kept."""

from __future__ import annotations

import pytest
import torch

from pliant.models.xmem.memory import MemoryOptions, XMemMemory, similarity

SIZE = (3, 4)


def frame(objects: int, seed: int) -> tuple[torch.Tensor, ...]:
    """key, shrinkage, selection, value."""
    generator = torch.Generator().manual_seed(seed)
    key = torch.randn(1, 4, *SIZE, generator=generator, dtype=torch.float64)
    shrinkage = 1 + torch.rand(1, 1, *SIZE, generator=generator, dtype=torch.float64)
    selection = torch.rand(1, 4, *SIZE, generator=generator, dtype=torch.float64)
    value = torch.randn(objects, 6, *SIZE, generator=generator, dtype=torch.float64)
    return key, shrinkage, selection, value


def test_similarity_is_the_weighted_distance():
    key, shrinkage, selection, _ = frame(1, 0)
    k, s = key[0].flatten(1).T, shrinkage[0].flatten(1).T
    q, e = frame(1, 1)[0][0].flatten(1).T, selection[0].flatten(1).T
    distance = (e[None] * (k[:, None] - q[None]).square()).sum(2)
    assert torch.allclose(similarity(k, s, q, e), -distance * s / 2)


def test_read_is_the_softmax_over_all_tokens_of_all_frames():
    memory = XMemMemory(MemoryOptions(long_term=False, top_k=None))
    frames = [frame(2, t) for t in range(3)]
    for each in frames:
        memory.add(*each)
    key, shrinkage = (torch.cat([f[i][0].flatten(1).T for f in frames]) for i in (0, 1))
    value = torch.cat([f[3].flatten(2) for f in frames], dim=2)
    query, _, selection, _ = frame(1, 9)
    scores = similarity(key, shrinkage, query[0].flatten(1).T, selection[0].flatten(1).T)
    expected = (value @ scores.softmax(0)).unflatten(2, SIZE)
    assert torch.allclose(memory.read(query, selection), expected)


OPTIONS = MemoryOptions(max_frames=4, min_frames=2, prototypes=3, max_long_term=8, top_k=5)


def filled(frames: int, late: int | None = None, **permanent: bool) -> XMemMemory:
    """A memory of ``frames`` frames, the first permanent; a second object joins at frame ``late``."""
    memory = XMemMemory(OPTIONS)
    for t in range(frames):
        objects = 2 if late is not None and t >= late else 1
        memory.add(*frame(objects, t), permanent=t in (0, late))
        memory.read(frame(1, 100 + t)[0], frame(1, 100 + t)[2])
    return memory


def test_memory_is_bounded_whatever_the_length():
    sizes = [filled(n).sizes() for n in (4, 40)]
    assert sizes[0] == (2 * 12, 3)
    assert all(work <= 3 * 12 and long <= 8 for work, long in sizes)
    assert filled(41).nbytes() == pytest.approx(filled(39).nbytes(), rel=0.01)


def test_prototypes_are_the_most_used_tokens():
    memory = XMemMemory(OPTIONS)
    for t in range(3):
        memory.add(*frame(1, t), permanent=t == 0)
    memory.read(frame(1, 9)[0], frame(1, 9)[2])
    candidates = memory.frames[1:3]
    usage = torch.cat([f.use / f.life for f in candidates])
    keys = torch.cat([f.key for f in candidates])
    memory.add(*frame(1, 3))
    assert torch.equal(memory.long_key, keys[usage.topk(3).indices])


def test_the_least_used_prototypes_go_first():
    memory = filled(8)
    usage = memory.long_use / memory.long_life
    surplus = len(usage) - (OPTIONS.max_long_term - OPTIONS.prototypes)
    assert surplus > 0
    kept = memory.long_key[usage > usage.sort().values[surplus - 1]]
    memory._remove_obsolete()
    assert torch.equal(memory.long_key, kept)


def test_permanent_frames_are_never_consolidated():
    memory = filled(20, late=7)
    permanent = [f for f in memory.frames if f.permanent]
    assert [torch.equal(f.key, frame(1, t)[0][0].flatten(1).T) for f, t in zip(permanent, (0, 7))] == [
        True,
        True,
    ]


def test_values_of_a_late_object_stay_with_the_keys_of_their_frames():
    memory = filled(20, late=7)
    late = memory.groups[1]
    assert len(late.frames) == len(late.values)
    assert torch.equal(late.frames[0].key, frame(2, 7)[0][0].flatten(1).T)
    assert torch.equal(late.values[0], frame(2, 7)[3][1].flatten(1).T)
    assert (late.long_index < memory.sizes()[1]).all()
    assert len(late.long_index) == len(late.long_values)


def test_forgetting_an_object_leaves_the_others_alone():
    memory, query = filled(9, late=3), frame(1, 50)
    whole = memory.read(query[0], query[2])
    memory.forget(0)
    assert torch.allclose(memory.read(query[0], query[2]), whole[1:])


def test_far_keys_give_no_nan():
    key, shrinkage, selection, value = frame(1, 0)
    memory = XMemMemory(OPTIONS)
    memory.add(key * 1000, shrinkage, selection, value)
    assert memory.read(frame(1, 1)[0], selection).isfinite().all()


def test_sizes_that_leave_nothing_to_consolidate_are_refused():
    with pytest.raises(ValueError, match="min_frames 1 and max_frames 10: expected 2 <= min < max"):
        MemoryOptions(min_frames=1)
