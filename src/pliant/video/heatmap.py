"""A map of numbers over a frame, as colours from dark to bright."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["draw_heatmap"]


def draw_heatmap(image: np.ndarray, values: np.ndarray, low: float, high: float, *, opacity: float = 0.6) -> np.ndarray:
    """The image in grey under the colours of ``values``, [H, W, 3] uint8 RGB.

    image: [H, W, 3] uint8 RGB. values: [h, w] float, stretched over the image; ``low`` is dark, ``high``
    bright, what lies beyond is cut. opacity: share of the colour, 0 to 1.
    """
    if not high > low:
        raise ValueError(f"high must be above low, got {low} .. {high}")
    height, width = image.shape[:2]
    share = np.clip((values.astype(np.float32) - low) / (high - low), 0, 1)
    share = cv2.resize(share, (width, height), interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap(np.round(255 * share).astype(np.uint8), cv2.COLORMAP_INFERNO)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(grey, 1 - opacity, cv2.cvtColor(colours, cv2.COLOR_BGR2RGB), opacity, 0)
