"""The arithmetic of the benchmarks, on arrays; which frames and objects count is said in
:mod:`pliant.evaluation`."""

from __future__ import annotations

from pliant.metrics.contours import boundary_map, contour_accuracy, contour_radius
from pliant.metrics.frames import frame_scores, mask_scores, pair_scores
from pliant.metrics.regions import region_similarity
from pliant.metrics.statistics import decay, mean, recall

__all__ = [
    "boundary_map",
    "contour_accuracy",
    "contour_radius",
    "decay",
    "frame_scores",
    "mask_scores",
    "mean",
    "pair_scores",
    "recall",
    "region_similarity",
]
