"""Masks as long integers: a window of an image whose rows lie one after another in one number.

Comparing two contours means dilating them, and that is where evaluators spend their time. Here one pixel is
one bit: moving a whole mask by a row is one shift of a Python integer, joining two masks is one ``|``,
counting is ``bit_count``. A window of 350 x 350 pixels is an integer of 15 kB, and a dilation by a disc of
radius 8 is fifty operations on it. Rows are ``stride`` bits apart, with at least ``radius`` bits of nothing
behind each, so that what is shifted over the end of a row falls between the rows, where it is never counted.

The numbers equal those of :mod:`pliant.metrics.contours` and :mod:`pliant.metrics.regions`, which say what is
computed.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

__all__ = ["Box", "Packed", "Window", "dilate", "f_measure", "pack", "union_box"]


class Box(NamedTuple):
    """Rows ``top`` to ``bottom`` and bytes of columns ``left`` to ``right`` (8 pixels each), ends
    excluded."""

    top: int
    bottom: int
    left: int
    right: int


class Packed(NamedTuple):
    """A mask with 8 pixels in a byte: ``rows`` [H, ceil(W / 8)] uint8, lowest bit leftmost; ``box`` or None
    if empty."""

    rows: np.ndarray
    box: Box | None


def pack(mask: np.ndarray) -> Packed:
    """The mask [H, W] bool with 8 pixels in a byte, and the box that holds it."""
    rows = np.packbits(mask, axis=1, bitorder="little")
    filled_rows = rows.any(axis=1)
    top = int(filled_rows.argmax())
    if not filled_rows[top]:
        return Packed(rows, None)
    bottom = len(filled_rows) - int(filled_rows[::-1].argmax())
    filled_columns = rows[top:bottom].any(axis=0)
    left = int(filled_columns.argmax())
    right = len(filled_columns) - int(filled_columns[::-1].argmax())
    return Packed(rows, Box(top, bottom, left, right))


def union_box(boxes: Iterable[Box | None]) -> Box | None:
    """The smallest box around the given ones; None if all of them are None."""
    boxes = [box for box in boxes if box is not None]
    if not boxes:
        return None
    return Box(
        min(box.top for box in boxes),
        max(box.bottom for box in boxes),
        min(box.left for box in boxes),
        max(box.right for box in boxes),
    )


class Window:
    """A rectangle of an image of ``size`` = (H, W) around ``box``, and the arithmetic of masks in it as
    integers.

    Reaches a pixel further up and left than the box, where contours are drawn too; ``radius`` is the largest
    distance in pixels, at least 1, by which masks will be dilated.
    """

    def __init__(self, box: Box, size: tuple[int, int], radius: int) -> None:
        height, width = size
        self.top, self.bottom = max(box.top - 1, 0), box.bottom
        self.left, self.right = max(box.left - 1, 0), box.right
        self.rows = self.bottom - self.top
        self.columns = min(8 * self.right, width) - 8 * self.left
        self._stride_bytes = (self.columns + radius + 7) // 8
        self.stride = 8 * self._stride_bytes
        self._at_bottom = self.bottom == height
        self._at_right = 8 * self.right >= width
        self._all = self._repeat((1 << self.columns) - 1)

    def _repeat(self, row: int) -> int:
        """The integer whose every row is ``row``."""
        return int.from_bytes(row.to_bytes(self._stride_bytes, "little") * self.rows, "little")

    def bits(self, packed: Packed) -> int:
        """The mask within this window as an integer; what lies outside the window is left out."""
        if packed.box is None:
            return 0
        rows = np.zeros((self.rows, self._stride_bytes), np.uint8)
        rows[:, : self.right - self.left] = packed.rows[self.top : self.bottom, self.left : self.right]
        return int.from_bytes(rows.tobytes(), "little")

    def boundary(self, mask: int) -> int:
        """Pixels that differ from the right, the lower or the lower right neighbour inside the image."""
        # Beyond the right and lower edge of the image the edge is repeated: nothing differs there.
        seen = mask
        if self._at_right:
            seen |= (mask & self._repeat(1 << (self.columns - 1))) << 1
        if self._at_bottom:
            seen |= (seen >> ((self.rows - 1) * self.stride)) << (self.rows * self.stride)
        right, below, diagonal = seen >> 1, seen >> self.stride, seen >> (self.stride + 1)
        return ((mask ^ right) | (mask ^ below) | (mask ^ diagonal)) & self._all


@lru_cache(maxsize=64)
def _disc(radius: int) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """The disc dy^2 + dx^2 <= radius^2 as (half width, the rows dy >= 0 of that half width), narrow to
    wide."""
    rows: dict[int, list[int]] = {}
    for dy in range(radius, -1, -1):
        half_width = max(dx for dx in range(radius + 1) if dx * dx + dy * dy <= radius * radius)
        rows.setdefault(half_width, []).append(dy)
    return tuple((half_width, tuple(dys)) for half_width, dys in sorted(rows.items()))


def dilate(mask: int, stride: int, radius: int) -> int:
    """All pixels within the Euclidean distance ``radius`` of a pixel of the mask (and some between the
    rows)."""
    result, spread, reach = 0, mask, 0  # spread: the mask dilated by reach to the left and right
    for half_width, rows in _disc(radius):
        while reach < half_width:
            step = min(2 * reach, half_width - reach) or 1  # a longer step would leave holes
            spread |= (spread << step) | (spread >> step)
            reach += step
        for dy in rows:
            result |= spread << (dy * stride)
            if dy:
                result |= spread >> (dy * stride)
    return result


def f_measure(prediction: int, truth: int, near_prediction: int, near_truth: int) -> float:
    """F of two boundaries, given also both dilated; see :func:`pliant.metrics.contours.contour_accuracy`."""
    pixels_prediction, pixels_truth = prediction.bit_count(), truth.bit_count()
    if not pixels_prediction or not pixels_truth:
        return 1.0 if pixels_prediction == pixels_truth else 0.0
    precision = (prediction & near_truth).bit_count() / pixels_prediction
    recall = (truth & near_prediction).bit_count() / pixels_truth
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
