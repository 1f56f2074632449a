"""SpVOS: the memory-matching network with gated convolutions, dense and sparse frames taking turns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from pliant.models.spvos.aggregation import aggregate
from pliant.models.spvos.gated_conv import Cache, GatedConv2d, Method, Pass, Record, running
from pliant.models.spvos.layers import gated_layers
from pliant.models.spvos.network import STCN, ClipRun, Features, TrackingState
from pliant.models.spvos.readout import Readout

__all__ = ["GatedTracking", "SparseSTCN", "SparseTrackingState", "drop_object", "sparsify"]

Strategy = Literal["fully", "semi-mixed", "mixed"]


def sparsify(network: nn.Module, names: list[str], method: Method, temperature: float = 1.0) -> None:
    """Replace the convolutions ``names`` of ``network`` by gated ones that keep their weights, in place."""
    for name in names:
        parent, _, last = name.rpartition(".")
        conv = network.get_submodule(name)
        setattr(network.get_submodule(parent), last, GatedConv2d(conv, name, method, temperature))


class GatedTracking:
    """What trackers with gated convolutions share: passes over the caches of a stream. States hold ``query``,
    ``decoder``, ``sparse_features``, ``records`` and ``keep_policies`` (see ``SparseTrackingState``).
    """

    strategy: Strategy = "mixed"

    def _look(self, state: Any, image: Tensor, sparse: bool) -> None:
        """Encode a frame that is about to be used, sparsely or densely."""
        with self._pass(state.query, sparse, state):
            state.image, state.features, state.sparse_features = image, self.encode_key(image), sparse

    @contextmanager
    def _pass(self, caches: dict[str, Cache], sparse: bool, state: Any) -> Iterator[None]:
        cold = "zero" if self.strategy == "fully" else "dense"
        with running(Pass(caches, sparse, cold, getattr(state, "keep_policies", False))) as current:
            yield
        state.records.extend(current.records)


def drop_object(caches: dict[str, Cache], index: int) -> None:
    """Remove row ``index`` of every cache; the others stay."""
    for name, cache in caches.items():
        if index < len(cache.output):
            caches[name] = cache.without(index)


@dataclass(slots=True)
class SparseTrackingState(TrackingState):
    """A tracking state with what gated layers keep of the previous frame."""

    query: dict[str, Cache] = field(default_factory=dict)  # one set a stream
    decoder: dict[str, Cache] = field(default_factory=dict)  # rows are objects
    value: dict[str, Cache] = field(default_factory=dict)  # rows are objects; of the previous memorised frame
    readout: Readout = field(default_factory=Readout)
    sparse_features: bool = False  # whether ``features`` come from a sparse pass
    records: list[Record] = field(default_factory=list)  # of the last frame
    keep_policies: bool = False  # whether records hold the maps of decisions

    def nbytes(self) -> int:
        caches = (*self.query.values(), *self.decoder.values(), *self.value.values())
        return TrackingState.nbytes(self) + self.readout.nbytes() + sum(cache.nbytes() for cache in caches)


class SparseSTCN(GatedTracking, STCN):
    """SpVOS and the methods it is compared with.

    method: what a gate decides ("triple", "static", "residual"). modules: which of Q, M, D are sparse. every: also
    their shortcuts, projections, skip convolutions and prediction (the dagger rows). strategy: "fully", all frames are
    sparse; "semi-mixed", all but annotated ones; "mixed", all but memory frames. temperature: of the Gumbel softmax,
    in training. target: the share of positions that training aims to compute; None: no aim.
    """

    def __init__(
        self,
        *,
        method: Method = "triple",
        modules: str = "QD",
        every: bool = False,
        strategy: Strategy = "mixed",
        temperature: float = 1.0,
        target: float | None = 0.1,
        **dense,
    ) -> None:
        super().__init__(**dense)
        if "M" in modules and strategy == "mixed":
            raise ValueError("a mixed network runs the memory encoder on dense frames only: leave M out of modules")
        self.method, self.modules_sparse, self.strategy, self.target = method, modules, strategy, target
        sparsify(self, gated_layers(self, modules, every), method, temperature)

    # One stream

    def start(self, image: Tensor, masks: Tensor) -> SparseTrackingState:
        """As ``STCN.start``. The annotated frame is dense, but for the strategy "fully"."""
        state = SparseTrackingState(self._empty_memory())
        self._look(state, image, sparse=self.strategy == "fully")
        self.memorize(state, image, aggregate(masks), permanent=True)
        return state

    def step(self, state: SparseTrackingState, image: Tensor, *, memory_frame: bool = False) -> Tensor:
        """As ``STCN.step``. ``memory_frame``: the frame will be memorised, so a mixed network computes it densely."""
        sparse = not (memory_frame and self.strategy == "mixed")
        state.records = []
        if state.memory.objects:
            self._look(state, image, sparse)
        if not sparse:  # a dense frame is dense to the bit
            state.readout.clear()
        with self._pass(state.decoder, sparse, state):
            return super().step(state, image)

    def memorize(
        self,
        state: SparseTrackingState,
        image: Tensor,
        probabilities: Tensor,
        *,
        permanent: bool = False,
        temporary: bool = False,
    ) -> None:
        """As ``STCN.memorize``. A mixed network computes a frame again, densely, that it had computed sparsely."""
        if state.image is not image or (state.sparse_features and self.strategy == "mixed"):
            self._look(state, image, sparse=self.strategy != "mixed" and state.memory.objects > 0)
        sparse = self.strategy == "fully" or (self.strategy == "semi-mixed" and state.memory.objects > 0)
        with self._pass(state.value, sparse, state):
            super().memorize(state, image, probabilities, permanent=permanent, temporary=temporary)
        state.readout.clear()

    def forget(self, state: SparseTrackingState, index: int) -> None:
        """Remove object ``index`` (0-based) from the state; the caches of the others stay."""
        super().forget(state, index)
        drop_object(state.decoder, index)
        drop_object(state.value, index)
        state.readout.clear()

    def _read(self, state: SparseTrackingState, query: Tensor) -> Tensor:
        return state.readout.read(query, lambda changed: STCN._read(self, state, changed))

    # Training

    def forward(self, images: Tensor, masks: Tensor, valid: Tensor, memory) -> tuple[Tensor, list[Record]]:
        """As ``STCN.forward``, with what the gates of sparse frames decided, for the sparse losses."""
        self._records: list[Record] = []
        odds = super().forward(images, masks, valid, memory)
        records, self._records = self._records, []
        return odds, records

    def _see(self, clip: ClipRun, t: int) -> Features:
        with self._pass(clip.caches["Q"], self._is_sparse(clip, t), clip):
            return super()._see(clip, t)

    def _decide(self, clip: ClipRun, t: int, readout: Tensor, features: Features) -> Tensor:
        with self._pass(clip.caches["D"], self._is_sparse(clip, t), clip):
            return super()._decide(clip, t, readout, features)

    def _remember(self, clip: ClipRun, t: int, features: Features, masks: Tensor) -> Tensor:
        with self._pass(clip.caches["M"], self.strategy != "mixed" and self._is_sparse(clip, t), clip):
            return super()._remember(clip, t, features, masks)

    def _finish(self, clip: ClipRun) -> None:
        self._records = clip.records

    def _is_sparse(self, clip: ClipRun, t: int) -> bool:
        """Frame 0 and, for "mixed", all memory frames are dense; with "fully" none."""
        if self.strategy == "fully":
            return True
        return t > 0 and not (self.strategy == "mixed" and clip.memory[t])
