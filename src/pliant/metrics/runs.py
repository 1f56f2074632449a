"""Masks as runs of pixels in column order, as COCO's run-length codes have them, and what two of them share.

Pixels are numbered down the columns: (y, x) is x * H + y. Counting the pixels that two masks share takes one
sorted search of the ends of one's runs among those of the other, without drawing either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pliant.video import rle

__all__ = ["Runs", "disjoint_overlaps", "from_code", "from_mask", "overlap", "paint"]


class Runs(NamedTuple):
    """``starts`` and ``ends`` [n] of the runs, rising, ends excluded; ``before`` [n + 1]: pixels before each
    run."""

    starts: np.ndarray
    ends: np.ndarray
    before: np.ndarray

    @property
    def area(self) -> int:
        """Pixels in all."""
        return int(self.before[-1])


def _runs(edges: np.ndarray) -> Runs:
    """From positions at which the mask begins and ends in turn."""
    starts, ends = edges[0::2], edges[1::2]
    return Runs(starts, ends, np.concatenate([[0], np.cumsum(ends - starts)]))


def from_code(code: Mapping[str, Any]) -> Runs:
    """The runs of a run-length code ``{"size": [H, W], "counts": text or list}``. Raises MaskError if it is
    damaged."""
    counts = rle.read(code)[2]
    edges = np.cumsum(counts[: len(counts) // 2 * 2])
    return _runs(edges[np.repeat(edges[1::2] > edges[0::2], 2)])


def from_mask(mask: np.ndarray) -> Runs:
    """The runs of a mask [H, W] bool."""
    columns = np.concatenate([[False], mask.T.ravel(), [False]])
    return _runs(np.flatnonzero(columns[1:] != columns[:-1]))


def overlap(a: Runs, b: Runs) -> int:
    """Pixels that both masks have."""
    if not len(a.starts) or not len(b.starts) or a.ends[-1] <= b.starts[0] or b.ends[-1] <= a.starts[0]:
        return 0
    return int((_pixels_before(b, a.ends) - _pixels_before(b, a.starts)).sum())


def _pixels_before(runs: Runs, positions: np.ndarray) -> np.ndarray:
    """Pixels of the mask at lower positions than each of the given ones."""
    index = np.searchsorted(runs.starts, positions, side="right")
    beyond = np.maximum(runs.ends[index - 1] - positions, 0)  # of the run that the position lies in
    return runs.before[index] - np.where(index > 0, beyond, 0)


def disjoint_overlaps(rows: Sequence[Runs], columns: Sequence[Runs]) -> np.ndarray:
    """Pixels that each of ``rows`` shares with each of ``columns``, [rows, columns] int64, in one pass.

    The masks of each side must not overlap one another.
    """
    shape = len(rows) + 1, len(columns) + 1
    if not rows or not columns:
        return np.zeros((len(rows), len(columns)), np.int64)
    row_edges, row_labels = _label_line(rows)
    column_edges, column_labels = _label_line(columns)
    edges = np.union1d(row_edges, column_edges)
    of_row = row_labels[np.searchsorted(row_edges, edges[:-1], side="right")]
    of_column = column_labels[np.searchsorted(column_edges, edges[:-1], side="right")]
    shared = np.zeros(shape, np.int64)
    np.add.at(shared, (of_row, of_column), np.diff(edges))
    return shared[:-1, :-1]


def _label_line(masks: Sequence[Runs]) -> tuple[np.ndarray, np.ndarray]:
    """Positions at which the label changes, and the label before, between and after them; -1 is none."""
    starts = np.concatenate([mask.starts for mask in masks])
    ends = np.concatenate([mask.ends for mask in masks])
    owner = np.repeat(np.arange(len(masks)), [len(mask.starts) for mask in masks])
    order = np.argsort(starts, kind="stable")
    edges = np.stack([starts[order], ends[order]], axis=1).ravel()
    labels = np.full(len(edges) + 1, -1)
    labels[1::2] = owner[order]
    return edges, labels


def paint(masks: Sequence[Runs], numbers: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """A label map [H, W] uint8 with each mask in its number; of masks that overlap the later one lies on top."""
    height, width = size
    values = np.zeros(height * width, np.uint8)
    for mask, number in zip(masks, numbers, strict=True):
        for start, end in zip(mask.starts.tolist(), mask.ends.tolist(), strict=True):
            values[start:end] = number
    return np.ascontiguousarray(values.reshape(width, height).T)
