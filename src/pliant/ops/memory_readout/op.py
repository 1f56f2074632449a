"""memory_readout: every query position takes a softmax-weighted mean of the values a memory holds."""

from __future__ import annotations

import torch
from torch import Tensor

from pliant.ops.arguments import autocast, check_same_dtype, check_tensors
from pliant.ops.backend import requested_backend
from pliant.ops.memory_readout import cpu
from pliant.ops.memory_readout.reference import by_parts, output_layout
from pliant.ops.registration import register


def memory_readout(
    memory_key: Tensor,
    query_key: Tensor,
    memory_value: Tensor,
    top_k: int | None = None,
    *,
    shrinkage: Tensor | None = None,
    selection: Tensor | None = None,
) -> Tensor:
    """What each query position reads from a memory: values weighted by a softmax of similarities, [N, C_v, H', W'].

    out[i] = sum over j of A[j, i] v[j],  A = softmax over j of S[j, i] / sqrt(C_k),
    S[j, i] = s[j] (2 k[j]·q[i] - |k[j]|²), and with selection
    S[j, i] = s[j] * sum over c of e[i, c] (2 k[j, c] q[i, c] - k[j, c]² - q[i, c]²)

    j runs over the T H W memory positions, i over query positions. Memory is bounded: the whole affinity never exists.
    Objects that share their keys are read in one call, their values joined along C_v.

    memory_key: [N, C_k, T, H, W], float32, float64, bfloat16 or float16.
    query_key: [N, C_k, H', W'], memory_key's dtype. memory_value: [N, C_v, T, H, W], memory_key's dtype.
    top_k: each query reads its ``top_k`` most similar memory positions only (more than there are means all); 1 or
        more, None for all. Among equal ones it is open which are taken.
    shrinkage: s, [N, 1, T, H, W], or None for 1. selection: e, [N, C_k, H', W'], or None (the first form of S).

    The result is channels-last where memory_value is. Differentiable by every tensor (once).
    Raises ValueError or TypeError where shapes, dtypes or devices do not fit, where the memory is empty or top_k is
    below 1.
    Source: STCN (Cheng et al. 2021); shrinkage and selection: XMem (Cheng and Schwing 2022), Eq. 2.

    >>> key, value = torch.randn(1, 64, 3, 30, 54), torch.randn(1, 128, 3, 30, 54)
    >>> memory_readout(key, torch.randn(1, 64, 30, 54), value, top_k=20).shape
    torch.Size([1, 128, 30, 54])
    """
    memory_key, query_key, memory_value = autocast(memory_key, query_key, memory_value)
    _check(memory_key, query_key, memory_value, top_k, shrinkage, selection)
    return torch.ops.pliant.memory_readout(
        memory_key, query_key, memory_value, top_k, shrinkage, selection, requested_backend()
    )


def _check(memory_key, query_key, memory_value, top_k, shrinkage, selection) -> None:
    name = "memory_readout"
    if memory_key.dim() != 5 or query_key.dim() != 4 or memory_value.dim() != 5:
        raise ValueError(
            f"{name}: memory_key, query_key and memory_value must be [N, C_k, T, H, W], [N, C_k, H', W'] and "
            f"[N, C_v, T, H, W], not {list(memory_key.shape)}, {list(query_key.shape)}, {list(memory_value.shape)}"
        )
    batch, channels, *extent = memory_key.shape
    expected = {
        "query_key": (query_key, [batch, channels, *query_key.shape[2:]]),
        "memory_value": (memory_value, [batch, memory_value.shape[1], *extent]),
        "shrinkage": (shrinkage, [batch, 1, *extent]),
        "selection": (selection, list(query_key.shape)),
    }
    for key, (tensor, shape) in expected.items():
        if tensor is not None and list(tensor.shape) != shape:
            raise ValueError(
                f"{name}: {key} must be {shape} beside memory_key {list(memory_key.shape)}, not {list(tensor.shape)}"
            )
    if min(extent) == 0:
        raise ValueError(
            f"{name}: the memory is empty (memory_key is {list(memory_key.shape)}); store a frame first"
        )
    if top_k is not None and top_k < 1:
        raise ValueError(f"{name}: top_k must be at least 1, or None for all, not {top_k}")
    tensors = {"memory_key": memory_key, "query_key": query_key, "memory_value": memory_value}
    check_tensors(name, "memory_key", **tensors, shrinkage=shrinkage, selection=selection)
    check_same_dtype(name, "memory_key", **tensors)


def _fake(memory_key, query_key, memory_value, top_k, shrinkage, selection):
    shape = [query_key.shape[0], memory_value.shape[1], *query_key.shape[2:]]
    options = {"dtype": memory_value.dtype, "device": memory_value.device}
    return torch.empty(shape, memory_format=output_layout(memory_value), **options)


register(
    "memory_readout",
    "Tensor memory_key, Tensor query_key, Tensor memory_value, SymInt? top_k, Tensor? shrinkage, Tensor? selection",
    reference=by_parts,
    fake=_fake,
    cpu=cpu,
)
