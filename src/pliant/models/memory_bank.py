"""What a memory-matching tracker remembers: keys and values of past frames, with a ceiling.

Annotated frames stay for ever. Of the others a bounded number is kept; when it is exceeded the frame goes whose
neighbours in time are closest, the newest ones excepted: the bank thins out towards the past and always spans it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["MemoryBank", "MemoryFrame", "channels_last", "least_useful"]


def channels_last(values: Tensor) -> Tensor:
    """The same values [K, C_v, T, h, w], all K C_v numbers of a position side by side: so they are read fastest."""
    together = values.flatten(0, 1)[None].contiguous(memory_format=torch.channels_last_3d)
    return together[0].unflatten(0, values.shape[:2])


@dataclass(slots=True)
class MemoryFrame:
    """One remembered frame: key [C_k, h, w]; values [K, C_v, h, w] of the objects known at that time."""

    time: int
    permanent: bool
    key: Tensor
    values: Tensor


def least_useful(times: list[int], permanent: list[bool], newest: int = 3) -> int:
    """Position of the frame to drop: not permanent, not among the ``newest``, smallest gap between its neighbours.

    times ascending. Ties go to the oldest. Falls back to the oldest frame that is not permanent.
    """
    candidates = [i for i, keep in enumerate(permanent) if not keep]
    inner = [i for i in candidates[:-newest] if 0 < i < len(times) - 1]
    if not inner:
        return candidates[0]
    return min(inner, key=lambda i: (times[i + 1] - times[i - 1], i))


@dataclass(slots=True)
class MemoryBank:
    """Remembered frames, at most ``capacity`` that are not annotated, and since which frame each object is known."""

    capacity: int
    frames: list[MemoryFrame] = field(default_factory=list)
    since: list[int] = field(default_factory=list)  # per object: time of the first frame that knows it
    _packed: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def objects(self) -> int:
        return len(self.since)

    def add(self, time: int, key: Tensor, values: Tensor, *, permanent: bool) -> None:
        """Remember a frame. key [C_k, h, w]; values [K, C_v, h, w], K at least the number of known objects."""
        self.since += [time] * (len(values) - self.objects)
        self.frames = [frame for frame in self.frames if frame.time != time]
        self.frames.append(MemoryFrame(time, permanent, key, values))
        while sum(not frame.permanent for frame in self.frames) > self.capacity:
            del self.frames[least_useful([f.time for f in self.frames], [f.permanent for f in self.frames])]
        self._packed.clear()

    def forget(self, index: int) -> None:
        """Remove object ``index``; frames that then know no object are dropped."""
        del self.since[index]
        for frame in self.frames:
            if index < len(frame.values):
                frame.values = torch.cat([frame.values[:index], frame.values[index + 1 :]])
        self.frames = [frame for frame in self.frames if len(frame.values)]
        self._packed.clear()

    def groups(self) -> list[tuple[list[int], Tensor, Tensor]]:
        """Objects that share their memory: (indices, key [C_k, T, h, w], values [K_g * C_v, T, h, w]).

        Objects that appeared at the same frame form a group, which sees the frames from then on: an unlabelled
        object in an earlier frame must not count as background.
        """
        result = []
        for start in sorted(set(self.since)):
            indices = [i for i, first in enumerate(self.since) if first == start]
            if start not in self._packed:
                frames = [frame for frame in self.frames if frame.time >= start]
                key = torch.stack([frame.key for frame in frames], 1)
                values = torch.stack([frame.values[indices] for frame in frames], 2)  # [K_g, C_v, T, h, w]
                self._packed[start] = key, channels_last(values).flatten(0, 1)
            result.append((indices, *self._packed[start]))
        return result

    def nbytes(self) -> int:
        """Bytes of all tensors held, packed copies included."""
        tensors = [t for frame in self.frames for t in (frame.key, frame.values)]
        tensors += [t for pair in self._packed.values() for t in pair]
        return sum(t.numel() * t.element_size() for t in tensors)
