"""Statistics of a score over the frames of an object: mean, recall, decay."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["DECAY_LIMIT", "decay", "mean", "recall"]

# The Python tools of DAVIS keep frame numbers in 8 bits; up to this many counted frames nothing happens.
DECAY_LIMIT = 256


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; NaN if there are no values or one of them is NaN."""
    return math.fsum(values) / len(values) if len(values) else math.nan


def recall(values: Sequence[float], threshold: float = 0.5) -> float:
    """Share of the values above the threshold (not at it)."""
    return sum(value > threshold for value in values) / len(values) if len(values) else math.nan


def decay(values: Sequence[float], eight_bit: bool = False) -> float:
    """Mean of the first quarter of the values less the mean of the last: positive where it gets worse.

    The quarters share their end frames: edges e_k = floor((k (n - 1) + 2) / 4) for k = 0..4, quarter k is
    ``values[e_k .. e_(k+1)]`` with both ends.

    Parameters
    ----------
    values:
        One number a counted frame, in order.
    eight_bit:
        Take the edges modulo 256, as the official Python tools do. With more than 256 values the result is
        NaN or wrong, as theirs is.
    """
    edges = [(k * (len(values) - 1) + 2) // 4 for k in range(5)]
    if eight_bit:
        edges = [edge % 256 for edge in edges]
    first, last = values[edges[0] : edges[1] + 1], values[edges[3] : edges[4] + 1]
    return mean(first) - mean(last)
