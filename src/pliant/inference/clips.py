"""Clip-wise prediction of a stream: overlapping clips, averaged, with the latency of one clip and bounded
memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

__all__ = ["Average", "ClipStream", "Tail", "predict_stream"]

Average = Literal["probabilities", "logits"]
Tail = Literal["shift", "short", "repeat_last", "repeat_first"]
# Logits [N, T, H, W] of N clips, each a sequence of T items as they were pushed.
Predict = Callable[[Sequence[Sequence[Any]]], Tensor]


class ClipStream:
    """Takes items one by one and returns probabilities of each, as soon as no later clip can reach it.

    Clips start at 0, g, 2g, ... with g = length - overlap; a frame's value is the mean over the clips that
    hold it. An item is whatever ``predict`` understands: a frame, or the features of one, which then are
    computed once.

    predict: logits [N, T, H, W] of a list of N clips, each a list of T items.

    length: items of a clip; overlap: 0 .. length - 1 items that neighbouring clips share.

    average: over "probabilities" (as the papers say) or over "logits" before the sigmoid (as d2conv3d's
    code does).

    tail: what becomes of the last items, which fill no whole clip. "shift": the last clip moves back to end
    at the last item; it says nothing about items already returned; a stream shorter than a clip is
    continued by its own mirror image, whose predictions are dropped. "short": the same, but such a stream is one
    short clip, for networks that take clips of any length. "repeat_last", d2conv3d's rule: clips
    go on starting at every g as long as items are left; they are filled with the last item, and every
    repeat counts as a prediction of it. "repeat_first", 3DC-Seg's rule: the same, filled in front with the
    first item of that clip.

    batch: clips that are given to ``predict`` at once; more than 1 adds g items of latency each. No result
    changes.

    Raises ``ValueError`` for numbers out of range and unknown words.
    """

    def __init__(
        self,
        predict: Predict,
        *,
        length: int = 8,
        overlap: int = 3,
        average: Average = "probabilities",
        tail: Tail = "shift",
        batch: int = 1,
    ) -> None:
        if length < 1 or not 0 <= overlap < length:
            raise ValueError(f"overlap must be in 0 .. length - 1, got overlap {overlap}, length {length}")
        if batch < 1:
            raise ValueError(f"batch must be 1 or more, got {batch}")
        if average not in get_args(Average):
            raise ValueError(f"average must be one of {', '.join(get_args(Average))}, got {average!r}")
        if tail not in get_args(Tail):
            raise ValueError(f"tail must be one of {', '.join(get_args(Tail))}, got {tail!r}")
        self.predict, self.length, self.gap, self.batch = predict, length, length - overlap, batch
        self.average, self.tail = average, tail
        self._items: dict[int, Any] = {}  # the last ones pushed, by index
        self._pushed = 0
        self._start = 0  # of the next regular clip
        self._returned = 0
        self._waiting: list[_Clip] = []
        self._sums: dict[int, Tensor] = {}
        self._counts: dict[int, int] = {}

    def push(self, item: Any) -> list[Tensor]:
        """Probabilities [H, W], float32, of the items that are finished now, in order; often none."""
        self._items[self._pushed] = item
        self._pushed += 1
        if self._pushed == self._start + self.length:
            self._waiting.append(_Clip(range(self._start, self._pushed)))
            self._start += self.gap
            if len(self._waiting) == self.batch:
                self._run()
        return self._finished(self._start if not self._waiting else self._waiting[0].indices[0])

    def finish(self) -> list[Tensor]:
        """Probabilities of all items that are left; the stream is over."""
        self._waiting.extend(self._last_clips())
        while self._waiting:
            self._run()
        return self._finished(self._pushed)

    def _last_clips(self) -> list[_Clip]:
        count, length, start = self._pushed, self.length, self._start
        if self.tail in ("shift", "short"):
            covered = start - self.gap + length if start else 0
            if covered >= count:
                return []
            first = max(0, count - length)
            if self.tail == "short":
                return [_Clip(range(first, count), range(start, count))]
            return [_Clip([_mirrored(first + i, count) for i in range(length)], range(start, count))]
        starts = range(start, count, self.gap)
        if self.tail == "repeat_last":
            return [_Clip([min(first + i, count - 1) for i in range(length)]) for first in starts]
        return [_Clip([max(first, count - length + i) for i in range(length)]) for first in starts]

    def _run(self) -> None:
        clips, self._waiting = self._waiting[: self.batch], self._waiting[self.batch :]
        values = self.predict([[self._items[index] for index in clip.indices] for clip in clips]).float()
        if self.average == "probabilities":
            values = values.sigmoid()
        for clip, clip_values in zip(clips, values):
            for index, value in clip.predictions(clip_values):
                self._sums[index] = self._sums[index] + value if index in self._sums else value
                self._counts[index] = self._counts.get(index, 0) + 1

    def _finished(self, end: int) -> list[Tensor]:
        """Averages of items before ``end``; forgets them and what no clip can ask for any more."""
        ready = []
        for index in range(self._returned, end):
            mean = self._sums.pop(index) / self._counts.pop(index)
            ready.append(mean.sigmoid() if self.average == "logits" else mean)
        self._returned = max(end, self._returned)
        needed = min([end, self._pushed - self.length, *(clip.indices[0] for clip in self._waiting)])
        for index in [index for index in self._items if index < needed]:
            del self._items[index]
        return ready


@dataclass(frozen=True)
class _Clip:
    """Indices of a clip's items; ``once``: indices that it predicts, each at its first place (None: every
    place).
    """

    indices: Sequence[int]
    once: range | None = None

    def predictions(self, values: Tensor) -> Iterator[tuple[int, Tensor]]:
        """(index, values [T, H, W] at its place) of everything that counts."""
        for place, (index, value) in enumerate(zip(self.indices, values)):
            if self.once is None or (index in self.once and index not in self.indices[:place]):
                yield index, value


def _mirrored(index: int, count: int) -> int:
    """0 1 2 -> 0 1 2 1 0 1 2 ...: an index of a stream that is continued by its mirror image."""
    if count == 1:
        return 0
    index %= 2 * (count - 1)
    return min(index, 2 * (count - 1) - index)


@torch.inference_mode()
def predict_stream(items: Iterable[Any], stream: ClipStream) -> Iterator[Tensor]:
    """Probabilities [H, W] of every item in order, as ``stream`` finishes them."""
    for item in items:
        yield from stream.push(item)
    yield from stream.finish()
