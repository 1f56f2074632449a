"""HOTA through the package trackeval where it is installed, else through :mod:`pliant.metrics.hota`."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from pliant.metrics import hota
from pliant.metrics.hota import HotaFrame

__all__ = ["Counts", "count", "scores", "uses_trackeval"]

Counts = Any  # HotaCounts, or TrackEval's dictionary of a sequence
_NAMES = ("HOTA", "DetA", "AssA", "LocA")


def uses_trackeval() -> bool:
    """Whether the numbers come from TrackEval: it is installed, with what it needs."""
    return _metric() is not None


def count(frames: Sequence[HotaFrame]) -> Counts:
    """The counts of one sequence and class; see :func:`pliant.metrics.hota.count_hota`."""
    return _metric().eval_sequence(_data(frames)) if uses_trackeval() else hota.count_hota(frames)


def scores(sequences: Sequence[Counts]) -> dict[str, float]:
    """HOTA, DetA, AssA and LocA of several sequences together."""
    if not uses_trackeval():
        return hota.combine(sequences).scores()
    combined = _metric().combine_sequences(dict(enumerate(sequences)))
    return {name: float(np.mean(combined[name])) for name in _NAMES}


@lru_cache(maxsize=1)
def _metric() -> Any:
    """TrackEval's metric, or None. Importing the package prints about parts of it that need more packages."""
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            from trackeval.metrics.hota import HOTA
        except ImportError:
            return None
        return HOTA()


def _data(frames: Sequence[HotaFrame]) -> dict[str, Any]:
    """The frames in TrackEval's form: ids numbered from 0."""
    truths = {number: place for place, number in enumerate(sorted({n for ids, _, _ in frames for n in ids}))}
    results = {number: place for place, number in enumerate(sorted({n for _, ids, _ in frames for n in ids}))}
    return {
        "num_timesteps": len(frames),
        "num_gt_ids": len(truths),
        "num_tracker_ids": len(results),
        "num_gt_dets": sum(len(ids) for ids, _, _ in frames),
        "num_tracker_dets": sum(len(ids) for _, ids, _ in frames),
        "gt_ids": [np.array([truths[number] for number in ids], int) for ids, _, _ in frames],
        "tracker_ids": [np.array([results[number] for number in ids], int) for _, ids, _ in frames],
        "similarity_scores": [iou for _, _, iou in frames],
    }
