"""What the sparse layers of a network keep of one video, and what they decided on its last frame."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Decision", "SparseStream", "current_stream"]

_CURRENT: contextvars.ContextVar[SparseStream | None] = contextvars.ContextVar("sparse_stream", default=None)


def current_stream() -> SparseStream | None:
    """The stream whose frame is being computed, or None."""
    return _CURRENT.get()


@dataclass(slots=True)
class Decision:
    """What one layer did on the last sparse frame.

    layer: who. policy: [N, 1, Ho, Wo] uint8, 0 skip, 1 reuse, 2 compute. computed: how many positions are computed,
    a float32 scalar; in training it carries the straight-through gradient of the gate. cost: multiply-adds of one
    position.
    """

    layer: nn.Module
    policy: Tensor
    computed: Tensor
    cost: int

    @property
    def share(self) -> Tensor:
        """Computed share of the positions, in [0, 1]; differentiable as ``computed`` is."""
        return self.computed / max(1, self.policy.numel())


@dataclass(slots=True)
class Memory:
    """Of one call of one layer a frame: its output, what else it carries on, and the output's version when stored."""

    output: Tensor
    carried: Tensor
    version: int | None


class SparseStream:
    """State of the sparse layers for one video (or one batch of videos or objects, along the batch axis).

    Layers work densely outside of any stream, on frames marked dense, and wherever they remember nothing: on the
    first frame, after a change of size, and for rows that joined the batch since the last frame. A network may be
    shared by any number of streams.

    >>> stream = SparseStream()
    >>> for image in video:
    ...     with stream.frame():
    ...         output = network(image)

    in_place: in evaluation a layer writes into its last output instead of copying the reused positions. Faster with
    few computed positions; only right where nobody, the next layer's gate included, still needs the last output.
    decisions: of the last sparse frame, a ``Decision`` a call, in the order of calls.
    """

    def __init__(self, in_place: bool = False) -> None:
        self.in_place = in_place
        self.decisions: list[Decision] = []
        self.dense = False
        self._memories: dict[tuple[nn.Module, int], Memory] = {}
        self._calls: dict[nn.Module, int] = {}

    @contextlib.contextmanager
    def frame(self, dense: bool = False) -> Iterator[SparseStream]:
        """Layers called in this block belong to the next frame of this stream; ``dense``: they compute everything.

        A dense frame is remembered as any other; no gate is asked.
        """
        self.dense, self.decisions, self._calls = dense, [], {}
        token = _CURRENT.set(self)
        try:
            yield self
        finally:
            _CURRENT.reset(token)

    def begin(self, layer: nn.Module) -> int:
        """The number of this call of ``layer`` within the frame, from 0."""
        call = self._calls.get(layer, 0)
        self._calls[layer] = call + 1
        return call

    def recall(self, layer: nn.Module, call: int) -> Memory | None:
        """What this call left on the last frame. Raises RuntimeError where its output was changed since."""
        memory = self._memories.get((layer, call))
        if memory is not None and memory.version is not None and memory.output._version != memory.version:
            raise RuntimeError(
                f"the last output of {layer} was changed in place, so it cannot be reused; let what follows the layer "
                "make a new tensor (inplace=False)"
            )
        return memory

    def remember(self, layer: nn.Module, call: int, output: Tensor, carried: Tensor) -> None:
        """Keep what the next frame needs."""
        version = None if output.is_inference() else output._version
        self._memories[layer, call] = Memory(output, carried, version)

    def reset(self) -> None:
        """Forget everything: the next frame is dense."""
        self._memories.clear()
        self.decisions = []

    def keep(self, rows: Tensor) -> None:
        """Keep these rows of the batch axis (int64 indices, or a boolean a row), in this order."""
        self._change(lambda tensor: tensor[rows])

    def detach(self) -> SparseStream:
        """Cut the history of gradients, for training on long clips; returns itself."""
        self._change(torch.Tensor.detach)
        return self

    def to(self, *arguments, **options) -> SparseStream:
        """Move or convert all tensors, as ``Tensor.to``; returns itself."""
        self._change(lambda tensor: tensor.to(*arguments, **options))
        return self

    def clone(self) -> SparseStream:
        """An independent copy; layers are shared, tensors are not."""
        copy = SparseStream(self.in_place)
        copy._memories = {
            key: Memory(memory.output, memory.carried, memory.version)
            for key, memory in self._memories.items()
        }
        copy._change(torch.Tensor.clone)
        return copy

    def __deepcopy__(self, memo: dict) -> SparseStream:
        return self.clone()

    def nbytes(self) -> int:
        """Bytes of all tensors held."""
        return sum(t.nbytes for memory in self._memories.values() for t in (memory.output, memory.carried))

    def __repr__(self) -> str:
        return f"SparseStream({len(self._memories)} layers, {self.nbytes() / 2**20:.1f} MiB)"

    def _change(self, change: Callable[[Tensor], Tensor]) -> None:
        for (layer, call), memory in list(self._memories.items()):
            self.remember(layer, call, change(memory.output), change(memory.carried))
