"""The specification of :func:`pliant.ops.memory_readout`: the whole affinity, a softmax, a product."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pliant.ops.arguments import layout

AFFINITIES_AT_ONCE = 1 << 22
"""How many similarities exist at a time where PyTorch computes them: 16 MB of float32."""


def memory_affinity_reference(
    memory_key: Tensor, query_key: Tensor, shrinkage: Tensor | None = None, selection: Tensor | None = None
) -> Tensor:
    """Similarities [N, J, I] of J = T*H*W memory positions and I query positions, in float32 at least."""
    work = torch.promote_types(memory_key.dtype, torch.float32)
    k = memory_key.to(work).flatten(2).transpose(1, 2)  # [N, J, C]
    q = query_key.to(work).flatten(2)  # [N, C, I]
    if selection is None:
        similarity = 2 * (k @ q) - k.square().sum(2, keepdim=True)
    else:
        e = selection.to(work).flatten(2)  # [N, C, I]
        similarity = 2 * (k @ (e * q)) - k.square() @ e - (e * q.square()).sum(1, keepdim=True)
    if shrinkage is not None:
        similarity = similarity * shrinkage.to(work).flatten(2).transpose(1, 2)
    return similarity / math.sqrt(memory_key.shape[1])


def memory_readout_reference(
    memory_key: Tensor,
    query_key: Tensor,
    memory_value: Tensor,
    top_k: int | None = None,
    shrinkage: Tensor | None = None,
    selection: Tensor | None = None,
) -> Tensor:
    """See :func:`pliant.ops.memory_readout`. Sums in float32 at least and rounds once."""
    similarity = memory_affinity_reference(memory_key, query_key, shrinkage, selection)
    if top_k is not None and top_k < similarity.shape[1]:
        kept, position = similarity.topk(top_k, dim=1)
        similarity = torch.full_like(similarity, -math.inf).scatter(1, position, kept)
    affinity = similarity.softmax(dim=1)  # [N, J, I]
    value = memory_value.to(affinity.dtype).flatten(2)  # [N, C_v, J]
    return (value @ affinity).to(memory_value.dtype).unflatten(2, query_key.shape[2:])


def by_parts(
    memory_key: Tensor,
    query_key: Tensor,
    memory_value: Tensor,
    top_k: int | None,
    shrinkage: Tensor | None,
    selection: Tensor | None,
) -> Tensor:
    """The reference over a part of the queries at a time; where autograd watches, affinities are computed twice."""
    rows = max(1, AFFINITIES_AT_ONCE // max(1, memory_key.shape[0] * memory_key.shape[2:].numel()))
    size = query_key.shape[2:]
    queries = query_key.flatten(2).unsqueeze(3).split(rows, dim=2)
    selections = (
        [None] * len(queries) if selection is None else selection.flatten(2).unsqueeze(3).split(rows, dim=2)
    )
    parts = []
    for query, chosen in zip(queries, selections):
        arguments = (memory_key, query, memory_value, top_k, shrinkage, chosen)
        if torch.is_grad_enabled() and len(queries) > 1:
            part = checkpoint(
                memory_readout_reference, *arguments, use_reentrant=False, preserve_rng_state=False
            )
        else:
            part = memory_readout_reference(*arguments)
        parts.append(part)
    out = torch.cat(parts, 2).squeeze(3).unflatten(2, size)
    return out.contiguous(memory_format=output_layout(memory_value))


def output_layout(memory_value: Tensor) -> torch.memory_format:
    """Channels-last where the values are."""
    last = layout(memory_value) == torch.channels_last_3d
    return torch.channels_last if last else torch.contiguous_format
