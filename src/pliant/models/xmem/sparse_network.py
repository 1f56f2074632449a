"""Tri-XMem: XMem with triple sparse convolutions in key encoder and decoder, mixed processing (SpVOS, Table VI)."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from pliant.models.spvos.aggregation import aggregate
from pliant.models.spvos.gated_conv import Cache, Record
from pliant.models.spvos.layers import gated_layers
from pliant.models.spvos.sparse_network import GatedTracking, drop_object, sparsify
from pliant.models.xmem.network import XMem, XMemState

__all__ = ["TriXMem", "TriXMemState"]

# Beside the residual blocks of key encoder and decoder: the paper's parameters are met with these gated, too.
_HIDDEN_UPDATE = tuple(f"decoder.hidden_update.{name}" for name in ("g16_conv", "g8_conv", "g4_conv", "transform"))


@dataclass(slots=True)
class TriXMemState(XMemState):
    """An XMem state with what gated layers keep of the previous frame."""

    query: dict[str, Cache] = field(default_factory=dict)  # one set a stream
    decoder: dict[str, Cache] = field(default_factory=dict)  # rows are objects
    sparse_features: bool = False  # whether ``features`` come from a sparse pass
    records: list[Record] = field(default_factory=list)  # of the last frame
    keep_policies: bool = False  # whether records hold the maps of decisions

    def nbytes(self) -> int:
        caches = (*self.query.values(), *self.decoder.values())
        return XMemState.nbytes(self) + sum(cache.nbytes() for cache in caches)


class TriXMem(GatedTracking, XMem):
    """XMem whose frames between memorised ones are sparse.

    temperature: of the Gumbel softmax, in training. target: the share of positions that training aims to compute.
    """

    def __init__(self, *, temperature: float = 1.0, target: float | None = 0.1, **dense) -> None:
        super().__init__(**dense)
        self.target = target
        hidden = _HIDDEN_UPDATE if self.hidden_channels else ()
        sparsify(self, [*gated_layers(self, "QD"), *hidden], "triple", temperature)

    def start(self, image: Tensor, masks: Tensor) -> TriXMemState:
        """As ``XMem.start``, densely."""
        state = TriXMemState(*self._empty(image))
        self.memorize(state, image, aggregate(masks), permanent=True)
        return state

    def step(self, state: TriXMemState, image: Tensor, *, memory_frame: bool = False) -> Tensor:
        """As ``XMem.step``. ``memory_frame``: the frame will be memorised, so it is computed densely."""
        state.records = []
        if len(state.hidden):
            self._look(state, image, sparse=not memory_frame)
        with self._pass(state.decoder, not memory_frame, state):
            return super().step(state, image, memory_frame=memory_frame)

    def memorize(self, state: TriXMemState, image: Tensor, probabilities: Tensor, *, permanent: bool = False) -> None:
        """As ``XMem.memorize``; a frame that was computed sparsely is computed again, densely."""
        if state.image is not image or state.sparse_features:
            self._look(state, image, sparse=False)
        super().memorize(state, image, probabilities, permanent=permanent)

    def forget(self, state: TriXMemState, index: int) -> None:
        """Remove object ``index`` (0-based) from the state; the caches of the others stay."""
        super().forget(state, index)
        drop_object(state.decoder, index)
