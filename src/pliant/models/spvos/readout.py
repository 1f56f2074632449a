"""What a sparse tracker read from its memory one frame before, so that only what changed is read again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Readout"]

_READ_ALL_FROM = 0.7  # share of changed positions from which picking them out does not pay


@dataclass(slots=True)
class Readout:
    """The last query and what the memory gave for it; as long as the memory stays the same.

    A position whose query is what it was on the frame before reads what it read then: that is exact, and on sparse
    frames most queries are (their layers reused them).
    """

    query: Tensor | None = None  # [1, C_k, h, w]
    values: Tensor | None = None  # [K, C_v, h, w]

    def read(self, query: Tensor, look_up: Callable[[Tensor], Tensor]) -> Tensor:
        """Values [K, C_v, h, w] for ``query`` [1, C_k, h, w]; written over by the next call.

        look_up: gives [K, C_v, a, b] for queries [1, C_k, a, b].
        """
        if self.query is None or self.query.shape != query.shape or self.query.dtype != query.dtype:
            return self._keep(query, look_up(query))
        rows, columns = (self.query != query).any(1)[0].nonzero(as_tuple=True)
        if len(rows) > _READ_ALL_FROM * query[0, 0].numel():
            return self._keep(query, look_up(query))
        if len(rows):
            self.values[:, :, rows, columns] = look_up(query[:, :, rows, columns][:, :, None])[:, :, 0]
            self.query.copy_(query)
        return self.values

    def clear(self) -> None:
        """The memory changed: nothing read so far holds."""
        self.query = self.values = None

    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in (self.query, self.values) if tensor is not None)

    def _keep(self, query: Tensor, values: Tensor) -> Tensor:
        self.query, self.values = query.clone(), values  # a copy: a layer may write its next output over the query
        return values
