"""Cases of memory_readout: what tests, benchmarks, the GPU check and the docs run."""

from __future__ import annotations

import torch

from pliant.ops.case import Case, normal, uniform


def _call(batch, key, value, memory, query, *, top_k=None, shrinkage=False, selection=False):
    """Channels of keys and values, extent (T, H, W) of the memory and (H, W) of the queries."""
    return {
        "memory_key": normal(batch, key, *memory),
        "query_key": normal(batch, key, *query),
        "memory_value": normal(batch, value, *memory),
        "top_k": top_k,
        "shrinkage": uniform(batch, 1, *memory, shift=1.0) if shrinkage else None,
        "selection": uniform(batch, key, *query) if selection else None,
    }


CASES = (
    Case("one frame", _call(2, 8, 5, (1, 5, 6), (5, 6))),
    Case("tiny", _call(1, 3, 2, (2, 2, 2), (2, 2)), gradcheck=True),
    Case(
        "tiny, everything",
        _call(1, 3, 2, (2, 2, 2), (2, 2), top_k=5, shrinkage=True, selection=True),
        gradcheck=True,
    ),
    Case("three frames", _call(1, 64, 32, (3, 11, 13), (11, 13))),
    Case("odd channels", _call(2, 33, 37, (2, 7, 9), (7, 9))),
    Case("other extent", _call(1, 16, 40, (2, 12, 11), (5, 9))),
    Case("top 1", _call(1, 16, 20, (2, 6, 7), (6, 7), top_k=1)),
    Case("top 20", _call(1, 64, 128, (3, 11, 13), (11, 13), top_k=20)),
    Case("top 60", _call(2, 64, 33, (3, 11, 13), (11, 13), top_k=60)),
    Case("top of more than there are", _call(1, 8, 5, (1, 2, 3), (2, 3), top_k=7)),
    Case("shrinkage", _call(1, 16, 20, (2, 6, 7), (6, 7), shrinkage=True)),
    Case("selection", _call(1, 16, 20, (2, 6, 7), (6, 7), selection=True)),
    Case(
        "top 30, shrinkage and selection",
        _call(2, 64, 24, (2, 8, 9), (8, 9), top_k=30, shrinkage=True, selection=True),
    ),
    Case("empty batch", _call(0, 8, 5, (1, 3, 3), (3, 3))),
    Case("T6", _call(1, 64, 128, (6, 30, 54), (30, 54)), benchmark=True),
    Case("T6, 5 objects", _call(1, 64, 640, (6, 30, 54), (30, 54)), benchmark=True),
    Case("T20", _call(1, 64, 128, (20, 30, 54), (30, 54)), benchmark=True),
    Case("T20, 5 objects", _call(1, 64, 640, (20, 30, 54), (30, 54)), benchmark=True),
    Case("T6, top 20", _call(1, 64, 128, (6, 30, 54), (30, 54), top_k=20), benchmark=True),
    Case("T6, 5 objects, top 20", _call(1, 64, 640, (6, 30, 54), (30, 54), top_k=20), benchmark=True),
)


def baseline(memory_key, query_key, memory_value, top_k=None, shrinkage=None, selection=None):
    """What people write without the operator: the whole affinity in the tensors' dtype (no selection)."""
    key = memory_key.flatten(2)
    similarity = 2 * (key.transpose(1, 2) @ query_key.flatten(2)) - key.square().sum(1).unsqueeze(2)
    similarity = similarity / key.shape[1] ** 0.5
    if top_k is None:
        affinity = similarity.softmax(1)
    else:
        kept, position = similarity.topk(top_k, 1)
        affinity = torch.zeros_like(similarity).scatter_(1, position, kept.softmax(1))
    return (memory_value.flatten(2) @ affinity).unflatten(2, query_key.shape[2:])
