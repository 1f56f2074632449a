"""What a tracking stream remembers: keys and values of past frames, in one bank per group of objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from pliant.models.memory_bank import channels_last
from pliant.ops import memory_readout

__all__ = ["Bank", "Memory"]

Kind = Literal["permanent", "kept", "temporary"]


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
        self.value = channels_last(torch.cat([self.value, value[:, :, None]], dim=2))
        self.kinds.append(kind)

    def read(self, query_key: Tensor, top_k: int | None) -> Tensor:
        objects, channels = self.value.shape[:2]
        together = self.value.reshape(1, objects * channels, *self.value.shape[2:])
        return memory_readout(self.key, query_key, together, top_k).unflatten(1, (objects, channels))[0]


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
            # Copies: a sparse layer writes its next output into the memory of this one.
            self.banks.append(Bank(key[:, :, None].clone(), value[known:, :, None].clone(), [kind]))

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
