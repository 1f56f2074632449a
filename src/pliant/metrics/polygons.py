"""Polygons to masks as the COCO tools draw them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["polygon_mask"]

_FINE = 5  # the outline is walked on a grid five times as fine as the pixels


def polygon_mask(polygons: Sequence[Sequence[float]], height: int, width: int) -> np.ndarray:
    """The union of polygons [x0, y0, x1, y1, ...] in pixels, [H, W] bool.

    Must equal ``pycocotools.mask.decode(merge(frPyObjects(polygons, height, width)))``: the outline is walked
    on a fine grid, and wherever it passes the middle of a pixel column the mask changes from there downwards.
    """
    mask = np.zeros((height, width), bool)
    for polygon in polygons:
        mask |= _filled(np.asarray(polygon, np.float64).reshape(-1, 2), height, width)
    return mask


def _filled(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """One polygon [n, 2] of (x, y)."""
    fine = np.trunc(_FINE * corners + 0.5).astype(np.int64)
    outline = np.concatenate([_walk(start, end) for start, end in zip(fine, np.roll(fine, -1, axis=0))])
    before, after = outline[:-1], outline[1:]
    moved = before[:, 0] != after[:, 0]
    before, after = before[moved], after[moved]
    columns = (np.minimum(before[:, 0], after[:, 0]) + 0.5) / _FINE - 0.5
    rows = np.ceil(np.clip((np.minimum(before[:, 1], after[:, 1]) + 0.5) / _FINE - 0.5, 0, height))
    inside = (columns == np.floor(columns)) & (columns >= 0) & (columns <= width - 1)
    position = (columns[inside] * height + rows[inside]).astype(np.int64)
    changes = np.bincount(position, minlength=height * width + 1)[: height * width]
    return (np.cumsum(changes) % 2 == 1).reshape(width, height).T


def _walk(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The points (x, y) of a straight line on the fine grid, one step at a time along its longer axis."""
    extent = np.abs(end - start)
    along = 0 if extent[0] >= extent[1] else 1
    across, steps = 1 - along, int(extent[along])
    low, high = (end, start) if start[along] > end[along] else (start, end)
    slope = (high[across] - low[across]) / steps if steps else 0.0
    t = np.arange(steps + 1) if low is start else np.arange(steps, -1, -1)
    points = np.empty((steps + 1, 2), np.int64)
    points[:, along] = low[along] + t
    points[:, across] = np.trunc(low[across] + slope * t + 0.5)
    return points
