"""Weights in the order a kernel reads them, made once for as long as the weight stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

__all__ = ["packed", "packed_forms"]

_PACKED: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


@dataclass(slots=True)
class _Packed:
    state: tuple[int, int]  # version and address of the weight
    sample: Tensor
    forms: dict[Hashable, Tensor]  # by order


def packed(weight: Tensor, order: Hashable, pack: Callable[[Tensor], Tensor]) -> Tensor:
    """``pack(weight)``, remembered for each order until the weight changes or goes.

    Whether it changed is told by its version and address and, since writing through ``.data`` does not count there,
    by a sample of its numbers. A weight made in inference mode has no version and is packed each time.
    """
    if weight.is_inference():
        return pack(weight)
    sample = _sample(weight.detach())
    state = (weight._version, weight.data_ptr())
    known = _PACKED.get(weight)
    if known is None or known.state != state or not torch.equal(known.sample, sample):
        known = _PACKED[weight] = _Packed(state, sample.clone(), {})
    if order not in known.forms:
        known.forms[order] = pack(weight)
    return known.forms[order]


def _sample(weight: Tensor) -> Tensor:
    """Some 61 of its numbers, a view where it can be: this is asked before every use."""
    step = max(1, weight.numel() // 61)
    if weight.is_contiguous() or (weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last)):
        return weight.as_strided((-(-weight.numel() // step),), (step,))
    # In the order of the memory: a reshape would copy the weight whole.
    order_of_memory = sorted(range(weight.dim()), key=weight.stride, reverse=True)
    return weight.permute(order_of_memory).reshape(-1)[::step]


def packed_forms(weight: Tensor) -> list[Tensor]:
    """What ``packed`` remembers for ``weight``."""
    known = _PACKED.get(weight)
    return [] if known is None else list(known.forms.values())
