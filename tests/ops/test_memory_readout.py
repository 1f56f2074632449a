"""Reading a memory: the identities that the similarity must obey, bounded memory, errors."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from pliant import ops
from pliant.ops import native
from pliant.ops.memory_readout import reference
from pliant.ops.native import use_instruction_set


def memory(dtype=torch.float64, key=16, value=20, frames=2, height=5, width=6):
    torch.manual_seed(0)
    keys = torch.randn(1, key, frames, height, width, dtype=dtype)
    return (
        keys,
        torch.randn(1, key, height, width, dtype=dtype),
        torch.randn(1, value, frames, height, width, dtype=dtype),
    )


def test_softmax_of_negative_squared_distance():
    keys, query, values = memory()
    distance = (keys.flatten(2).unsqueeze(3) - query.flatten(2).unsqueeze(2)).square().sum(1)
    expected = values.flatten(2) @ (-distance / 4).softmax(1)  # sqrt(16) = 4
    torch.testing.assert_close(ops.memory_readout(keys, query, values).flatten(2), expected)


def test_selection_and_shrinkage_weigh_the_distance():
    keys, query, values = memory()
    shrinkage, selection = 1 + torch.rand_like(keys[:, :1]), torch.rand_like(query)
    difference = keys.flatten(2).unsqueeze(3) - query.flatten(2).unsqueeze(2)
    distance = (selection.flatten(2).unsqueeze(2) * difference.square()).sum(1) * shrinkage.flatten(
        2
    ).transpose(1, 2)
    expected = values.flatten(2) @ (-distance / 4).softmax(1)
    found = ops.memory_readout(keys, query, values, shrinkage=shrinkage, selection=selection)
    torch.testing.assert_close(found.flatten(2), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_a_shift_of_all_keys_changes_nothing(dtype):
    keys, query, values = memory(dtype)
    expected = ops.memory_readout(keys, query, values)
    torch.testing.assert_close(
        ops.memory_readout(keys + 0.5, query + 0.5, values), expected, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16], ids=["float64", "float32", "bfloat16"]
)
def test_top_1_copies_the_nearest_value(dtype):
    keys, query, values = memory(dtype)
    similarity = 2 * keys.flatten(2).transpose(1, 2).double() @ query.flatten(2).double()
    nearest = (similarity - keys.flatten(2).double().square().sum(1).unsqueeze(2)).argmax(1)
    expected = values.flatten(2).gather(2, nearest.unsqueeze(1).expand(-1, values.shape[1], -1))
    assert torch.equal(ops.memory_readout(keys, query, values, top_k=1).flatten(2), expected)


def test_top_of_all_is_the_whole_softmax():
    keys, query, values = memory(torch.float32)
    expected = ops.memory_readout(keys, query, values)
    for top_k in (60, 61, 10_000):
        torch.testing.assert_close(ops.memory_readout(keys, query, values, top_k=top_k), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_similarities_far_from_zero_do_not_overflow(dtype):
    keys, query, values = memory(dtype)
    for scale in (30, 0.01):
        out = ops.memory_readout(keys * scale + 40, query * scale - 40, values, top_k=20)
        assert out.isfinite().all()
        assert out.abs().max() <= values.abs().max() * 1.01


def test_several_objects_in_one_call_equal_each_alone():
    keys, query, values = memory(torch.float32, value=3 * 24)
    together = ops.memory_readout(keys, query, values)
    for part, alone in zip(together.split(24, 1), values.split(24, 1)):
        torch.testing.assert_close(ops.memory_readout(keys, query, alone), part)


def test_channels_last_values_give_a_channels_last_readout():
    keys, query, values = memory(torch.float32)
    last = ops.memory_readout(keys, query, values.to(memory_format=torch.channels_last_3d))
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last.contiguous(), ops.memory_readout(keys, query, values))


def test_parts_of_the_queries_equal_the_whole(monkeypatch):
    arguments = [t.requires_grad_(True) for t in memory()]
    whole = reference.memory_readout_reference(*arguments, 7)
    expected = torch.autograd.grad(whole.square().sum(), arguments)
    monkeypatch.setattr(reference, "AFFINITIES_AT_ONCE", 7 * 60)
    parts = reference.by_parts(*arguments, 7, None, None)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts.square().sum(), arguments), expected)


def test_wrong_arguments_are_named():
    keys, query, values = memory()
    with pytest.raises(ValueError, match=r"query_key must be \[1, 16, 5, 6\].*not \[1, 15, 5, 6\]"):
        ops.memory_readout(keys, query[:, 1:], values)
    with pytest.raises(ValueError, match=r"memory_value must be \[1, 20, 2, 5, 6\].*not \[1, 20, 1, 5, 6\]"):
        ops.memory_readout(keys, query, values[:, :, 1:])
    with pytest.raises(TypeError, match="memory_value is float32, memory_key is float64"):
        ops.memory_readout(keys, query, values.float())
    with pytest.raises(ValueError, match="the memory is empty"):
        ops.memory_readout(keys[:, :, :0], query, values[:, :, :0])
    with pytest.raises(ValueError, match="top_k must be at least 1, or None for all, not 0"):
        ops.memory_readout(keys, query, values, top_k=0)


PEAK = """
import resource, sys, torch
from pliant import ops
torch.set_num_threads(2)
dtype = getattr(torch, sys.argv[1])
tensors = [torch.ones(1, c, t, 30, 54, dtype=dtype) for c, t in ((64, 20), (64, 1), (640, 20))]
tensors[1] = tensors[1][:, :, 0]
ops.memory_readout(tensors[0][:, :, :1], tensors[1], tensors[2][:, :, :1])  # libraries and threads are up
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ops.memory_readout(*tensors)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    native.why_missing() is not None, reason="bounded by the native kernels, which were not built"
)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_memory_of_twenty_frames_and_five_objects_takes_40_megabytes_at_most(dtype):
    """The whole affinity alone would be 100 MB in bfloat16."""
    found = subprocess.run([sys.executable, "-c", PEAK, dtype], capture_output=True, text=True, check=True)
    assert float(found.stdout) <= 40


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("instructions", ["plain", "avx2", "avx512"])
@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_not_a_number_is_among_the_largest(dtype, instructions, sign):
    """Of either sign, as processors make negative ones: a query that matches nothing sensible says so."""
    torch.manual_seed(0)
    key, query = torch.randn(1, 16, 2, 9, 11).to(dtype), torch.randn(1, 16, 5, 7).to(dtype)
    value = torch.randn(1, 20, 2, 9, 11).to(dtype)
    query[0, 3, 2, 4] = torch.copysign(torch.tensor(float("nan")), torch.tensor(float(sign)))
    with use_instruction_set(instructions):
        found = ops.memory_readout(key, query, value, top_k=10)
    assert found[0, :, 2, 4].isnan().all()
    assert found.isnan().sum() == 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("instructions", ["plain", "avx2", "avx512"])
def test_of_equals_as_many_as_are_wanted(dtype, instructions):
    """All similarities equal: any k of the memory are right. The value is one pixel, seen everywhere (strides of 0)."""
    key, query = torch.ones(1, 8, 4, 13, 10, dtype=dtype), torch.ones(1, 8, 3, 5, dtype=dtype)
    value = torch.arange(2, dtype=dtype).view(1, 2, 1, 1, 1).expand(1, 2, 4, 13, 10)
    with use_instruction_set(instructions):
        found = ops.memory_readout(key, query, value, top_k=30)
    torch.testing.assert_close(found, value[:, :, 0, :3, :5], atol=0, rtol=0.01)
