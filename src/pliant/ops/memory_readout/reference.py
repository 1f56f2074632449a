"""The specification of :func:`pliant.ops.memory_readout`: the whole affinity, a softmax, a product."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["memory_affinity_reference", "memory_readout_reference"]


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
