"""What a tracking stream remembers: keys and values of past frames, in one bank per group of objects."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Bank", "Memory"]

Kind = Literal["permanent", "kept", "temporary"]


def _readout(memory_key: Tensor, query_key: Tensor, memory_value: Tensor, top_k: int | None) -> Tensor:
    """STCN's read: softmax over (the top k) memory tokens of (2 k_M k_Q - |k_M|^2) / sqrt(C_k)."""
    keys = memory_key.flatten(2)  # [1, C_k, T h w]
    similarity = 2 * keys.transpose(1, 2) @ query_key.flatten(2) - keys.square().sum(1)[:, :, None]
    similarity = similarity / math.sqrt(keys.shape[1])  # [1, T h w, h w]
    if top_k is not None and top_k < similarity.shape[1]:
        kept, index = similarity.topk(top_k, dim=1)
        affinity = torch.zeros_like(similarity).scatter_(1, index, kept.softmax(dim=1))
    else:
        affinity = similarity.softmax(dim=1)
    return (memory_value.flatten(2) @ affinity).unflatten(2, query_key.shape[-2:])


@dataclass(slots=True)
class Bank:
    """Frames remembered for the objects that joined at one frame; they share keys, hence one affinity."""

    key: Tensor  # [1, C_k, T, h, w]
    value: Tensor  # [K, C_v, T, h, w]
    kinds: list[Kind]

    def append(self, key: Tensor, value: Tensor, kind: Kind, capacity: int | None) -> None:
        keep = [i for i, past in enumerate(self.kinds) if past != "temporary"]
        droppable = [i for i in keep if self.kinds[i] == "kept"]
        while capacity is not None and len(keep) >= capacity and droppable:
            keep.remove(droppable.pop(0))
        if len(keep) < len(self.kinds):
            self.key, self.value = self.key[:, :, keep], self.value[:, :, keep]
            self.kinds = [self.kinds[i] for i in keep]
        self.key = torch.cat([self.key, key[:, :, None]], dim=2)
        self.value = torch.cat([self.value, value[:, :, None]], dim=2)
        self.kinds.append(kind)

    def read(self, query_key: Tensor, top_k: int | None) -> Tensor:
        objects, channels = self.value.shape[:2]
        together = self.value.reshape(1, objects * channels, *self.value.shape[2:])
        return _readout(self.key, query_key, together, top_k).unflatten(1, (objects, channels))[0]


@dataclass(slots=True)
class Memory:
    """Banks in the order in which their objects appeared.

    capacity: frames a bank may hold; beyond it the oldest that is not permanent goes. None: no bound.
    """

    capacity: int | None = None
    banks: list[Bank] = field(default_factory=list)

    @property
    def objects(self) -> int:
        return sum(len(bank.value) for bank in self.banks)

    def add(self, key: Tensor, value: Tensor, kind: Kind = "kept") -> None:
        """Remember a frame. key [1, C_k, h, w]; value [K, C_v, h, w], K at least the objects known.

        Further objects start a bank of their own with this frame. A temporary frame goes when the next is
        added.
        """
        known = 0
        for bank in self.banks:
            count = len(bank.value)
            bank.append(key, value[known : known + count], kind, self.capacity)
            known += count
        if len(value) > known:
            self.banks.append(Bank(key[:, :, None], value[known:, :, None], [kind]))

    def read(self, query_key: Tensor, top_k: int | None) -> Tensor:
        """Values [K, C_v, h, w] for a query key [1, C_k, h, w], softmax over ``top_k`` tokens (None: all)."""
        return torch.cat([bank.read(query_key, top_k) for bank in self.banks])

    def forget(self, index: int) -> None:
        """Remove object ``index`` (0-based)."""
        for bank in self.banks:
            if index < len(bank.value):
                bank.value = torch.cat([bank.value[:index], bank.value[index + 1 :]])
                break
            index -= len(bank.value)
        self.banks = [bank for bank in self.banks if len(bank.value)]

    def nbytes(self) -> int:
        return sum(bank.key.nbytes + bank.value.nbytes for bank in self.banks)
