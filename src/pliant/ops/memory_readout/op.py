"""Reading a memory of frames: every query position takes a softmax-weighted mean of the values stored."""

from __future__ import annotations

import torch
from torch import Tensor

from pliant.ops.memory_readout.reference import memory_readout_reference

__all__ = ["memory_readout"]

CHUNK_ELEMENTS = 1 << 22
"""Affinities held at once where PyTorch computes them: 16 MB of float32."""


def memory_readout(
    memory_key: Tensor,
    query_key: Tensor,
    memory_value: Tensor,
    top_k: int | None = None,
    *,
    shrinkage: Tensor | None = None,
    selection: Tensor | None = None,
) -> Tensor:
    """What each query position reads from a memory: values weighted by the softmax of key similarities.

    For query position i and memory position j, ``S_ji = s_j / sqrt(C_k) * sum_c e_ic (2 k_jc q_ic - k_jc^2 - q_ic^2)``;
    without selection (e = 1) the term in q^2 is left out: ``s_j (2 k_j·q_i - |k_j|^2) / sqrt(C_k)``. The softmax runs
    over all j, or over the ``top_k`` largest of them; the result is ``sum_j A_ji v_j``. Memory is bounded: the whole
    affinity never exists. Several objects that share their keys are read in one call, their values joined along C_v.

    Args:
        memory_key: [N, C_k, T, H, W], any float dtype.
        query_key: [N, C_k, H', W'], the dtype of ``memory_key``.
        memory_value: [N, C_v, T, H, W], the dtype of ``memory_key``.
        top_k: how many memory positions a query may read, 1 or more (more than there are means all); None: all.
            Among equal similarities it is not defined which are kept.
        shrinkage: [N, 1, T, H, W], a factor s_j of each memory position; None: 1.
        selection: [N, C_k, H', W'], a weight e_ic of each channel of each query; None: 1, and no term in q^2.

    Returns:
        [N, C_v, H', W'], the dtype of ``memory_value``; sums are made in float32 at least.

    Raises:
        ValueError: shapes or devices do not fit, ``top_k`` is below 1, or the memory is empty.
        TypeError: dtypes differ or are not floats.

    Source: STCN (Cheng et al., NeurIPS 2021); shrinkage and selection: XMem (Cheng and Schwing, ECCV 2022), Eq. 2.
    """
    check(memory_key, query_key, memory_value, top_k, shrinkage, selection)
    rows = max(1, CHUNK_ELEMENTS // max(1, memory_key.shape[0] * memory_key[0, 0].numel()))
    size = query_key.shape[2:]
    query_key = query_key.flatten(2).unsqueeze(3)
    selection = None if selection is None else selection.flatten(2).unsqueeze(3)
    parts = []
    for begin in range(0, max(1, query_key.shape[2]), rows):
        part = slice(begin, begin + rows)
        chosen = None if selection is None else selection[:, :, part]
        parts.append(
            memory_readout_reference(memory_key, query_key[:, :, part], memory_value, top_k, shrinkage, chosen)
        )
    return torch.cat(parts, 2).squeeze(3).unflatten(2, size)


def check(
    memory_key: Tensor,
    query_key: Tensor,
    memory_value: Tensor,
    top_k: int | None,
    shrinkage: Tensor | None,
    selection: Tensor | None,
) -> None:
    if memory_key.dim() != 5 or query_key.dim() != 4 or memory_value.dim() != 5:
        raise ValueError(
            "memory_key, query_key and memory_value must be [N, C_k, T, H, W], [N, C_k, H', W'] and [N, C_v, T, H, W], "
            f"got {list(memory_key.shape)}, {list(query_key.shape)} and {list(memory_value.shape)}."
        )
    batch, channels, *extent = memory_key.shape
    if list(query_key.shape[:2]) != [batch, channels]:
        raise ValueError(
            f"query_key must have the batch and channels of memory_key, {[batch, channels]}, "
            f"got {list(query_key.shape[:2])}."
        )
    wanted = {"memory_value": (memory_value, [batch, memory_value.shape[1], *extent])}
    if shrinkage is not None:
        wanted["shrinkage"] = (shrinkage, [batch, 1, *extent])
    if selection is not None:
        wanted["selection"] = (selection, list(query_key.shape))
    for name, (tensor, shape) in wanted.items():
        if list(tensor.shape) != shape:
            raise ValueError(f"{name} must be {shape}, got {list(tensor.shape)}.")
    if batch and memory_key[0, 0].numel() == 0:
        raise ValueError(f"the memory is empty: memory_key is {list(memory_key.shape)}; store a frame first.")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be 1 or more, or None for all, got {top_k}.")
    tensors = {"memory_key": memory_key, "query_key": query_key, "memory_value": memory_value}
    tensors |= {"shrinkage": shrinkage} if shrinkage is not None else {}
    tensors |= {"selection": selection} if selection is not None else {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must hold floats, got {tensor.dtype}.")
        if tensor.dtype != memory_key.dtype:
            raise TypeError(f"{name} is {tensor.dtype}, memory_key {memory_key.dtype}; give both in one dtype.")
        if tensor.device != memory_key.device:
            raise ValueError(f"{name} is on {tensor.device}, memory_key on {memory_key.device}.")
