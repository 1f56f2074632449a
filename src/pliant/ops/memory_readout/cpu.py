"""The native kernels of memory_readout: float32 over vectors, bfloat16 on AMX or AVX512_BF16, else through float32."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pliant.ops import native
from pliant.ops.memory_readout.reference import by_parts, output_layout


def why_unavailable() -> str | None:
    return native.why_missing()


def why_unsupported(memory_key, query_key, memory_value, top_k, shrinkage, selection) -> str | None:
    if memory_key.dtype == torch.float64:
        return "the kernels compute in float32 and bfloat16, not in float64"
    return None


def forward(
    memory_key: Tensor,
    query_key: Tensor,
    memory_value: Tensor,
    top_k: int | None,
    shrinkage: Tensor | None,
    selection: Tensor | None,
) -> Tensor:
    scale = 1 / math.sqrt(memory_key.shape[1])
    shape = [query_key.shape[0], memory_value.shape[1], *query_key.shape[2:]]
    out = torch.empty(shape, dtype=memory_value.dtype, memory_format=output_layout(memory_value))
    key, query = memory_key.flatten(2), query_key.flatten(2)
    low = memory_key.dtype == torch.bfloat16 and native.bfloat16_products() and selection is None
    work = torch.bfloat16 if low else torch.float32
    key, query, value = key.to(work), query.to(work), memory_value.flatten(2).to(work)
    dot_scale, norm_scale = 2 * scale, scale
    if selection is not None:
        key, query = _with_selection(key, query, selection.flatten(2).to(work))
        dot_scale, norm_scale = scale, 0.0
    if shrinkage is not None:
        shrinkage = shrinkage.flatten(1).to(torch.float32).contiguous()
    found = out.flatten(2) if out.dtype == work else torch.empty_like(out.flatten(2), dtype=work)
    if top_k and value.stride(2) != 1 and not value.stride(1) == found.stride(1) == 1:
        value = value.contiguous()  # places are picked out of a channel's line, or channels out of a place's
    torch.ops.pliant_native.memory_readout(
        key, query, value, shrinkage, dot_scale, norm_scale, top_k or 0, found
    )
    return out if out.dtype == work else found.to(out.dtype).view_as(out)


def backward(
    gradient, memory_key, query_key, memory_value, top_k, shrinkage, selection, *, needed
) -> list[Tensor]:
    values = [memory_key, query_key, memory_value, shrinkage, selection]
    values = [v if v is None else v.detach().requires_grad_(need) for v, need in zip(values, needed)]
    wanted = [v for v, need in zip(values, needed) if need]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # PyTorch's products round differently for another number of threads
    try:
        with torch.enable_grad():
            out = by_parts(*values[:3], top_k, *values[3:])
        return list(torch.autograd.grad(out, wanted, gradient))
    finally:
        torch.set_num_threads(threads)


def _with_selection(key: Tensor, query: Tensor, selection: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and queries whose product is sum over c of e (2 k q - k² - q²): [k², k, 1] and [-e, 2 e q, -sum e q²]."""
    weighted = selection * query
    last = -(weighted * query).sum(1, keepdim=True)
    return torch.cat([key.square(), key, torch.ones_like(key[:, :1])], 1), torch.cat(
        [-selection, 2 * weighted, last], 1
    )
