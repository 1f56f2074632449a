"""F, contour accuracy: how well two outlines follow each other."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["boundary_map", "contour_accuracy", "contour_radius"]


def contour_radius(height: int, width: int) -> int:
    """The tolerance in pixels for an image of this size: 0.8 % of its diagonal, rounded up (480 x 854 gives
    8)."""
    return math.ceil(0.008 * math.sqrt(height * height + width * width))


def boundary_map(mask: np.ndarray) -> np.ndarray:
    """Where a mask [H, W] differs from its right, lower or lower right neighbour, [H, W] bool.

    Nothing outside the image is compared: in the last row only the right neighbour counts, in the last column
    only the lower one, and a mask that fills the image has no boundary.
    """
    padded = np.pad(np.asarray(mask) != 0, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    return (here != padded[:-1, 1:]) | (here != padded[1:, :-1]) | (here != padded[1:, 1:])


def contour_accuracy(prediction: np.ndarray, truth: np.ndarray, radius: int | None = None) -> float:
    """F of two masks, 0 to 1: harmonic mean of the shares of each boundary that lie near the other.

    Parameters
    ----------
    prediction, truth:
        [H, W], bool (or anything whose non-zero values are the object).
    radius:
        Largest Euclidean distance in pixels that counts as near; default :func:`contour_radius` of the image.

    1 if neither has a boundary (empty, or filling the image), 0 if one has none. Raises ValueError where
    sizes differ. This is the plain formula, distances between all pairs of boundary pixels; evaluations run
    on :func:`pliant.metrics.frames.frame_scores`, which gives the same numbers. Source: Perazzi et al., CVPR
    2016, section 4; the DAVIS evaluators.
    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction is {prediction.shape}, truth is {truth.shape}; sizes must agree")
    radius = contour_radius(*truth.shape) if radius is None else radius
    of_prediction, of_truth = np.argwhere(boundary_map(prediction)), np.argwhere(boundary_map(truth))
    if not len(of_prediction) or not len(of_truth):
        return 1.0 if len(of_prediction) == len(of_truth) else 0.0
    precision = _share_near(of_prediction, of_truth, radius)
    recall = _share_near(of_truth, of_prediction, radius)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _share_near(points: np.ndarray, others: np.ndarray, radius: int) -> float:
    """Share of the points [n, 2] that have one of the others [m, 2] within the radius."""
    near = sum(bool((((others - point) ** 2).sum(axis=1) <= radius * radius).any()) for point in points)
    return near / len(points)
