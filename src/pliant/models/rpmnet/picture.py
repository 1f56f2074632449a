"""Offsets as a picture: where things came from, as colours."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["offset_picture"]


def offset_picture(offset: np.ndarray, largest: float | None = None) -> np.ndarray:
    """[H, W, 3] uint8 RGB: hue is the direction, saturation the length; white is no motion.

    A point that came from the right is red, from below yellow-green, from the left cyan, from above violet.

    offset: [2, H, W], (dy, dx). largest: the length that is fully saturated; None: the 99th percentile of this
    picture, at least 1e-3.
    """
    if offset.ndim != 3 or len(offset) != 2:
        raise ValueError(f"offset {list(offset.shape)}: expected [2, H, W].")
    dy, dx = np.nan_to_num(np.asarray(offset, np.float32))
    length = np.hypot(dy, dx)
    if largest is None:
        largest = max(float(np.percentile(length, 99)), 1e-3)
    hue = np.degrees(np.arctan2(dy, dx)) % 360
    saturation = np.minimum(length / largest, 1)
    hsv = np.stack((hue, saturation, np.ones_like(hue)), -1).astype(np.float32)
    return np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).astype(np.uint8)
