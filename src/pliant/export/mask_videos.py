"""The masks of one video between two formats: opened a frame at a time, so that a data set never lies in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

__all__ = ["MaskVideo"]


@dataclass(frozen=True)
class MaskVideo:
    """The masks of a video.

    Attributes
    ----------
    name:
        Of its folder or file; ``id`` its number where the format has numbers.
    size:
        Height and width.
    frames:
        Names of the frames, without suffix.
    read:
        Index of a frame -> labels [H, W] uint8.
    categories, scores:
        Object -> number of its category, and how sure the result is; objects that are not named have category 1 and
        score 1.
    """

    name: str
    size: tuple[int, int]
    frames: tuple[str, ...]
    read: Callable[[int], np.ndarray] = field(repr=False)
    categories: dict[int, int] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)
    id: int | None = None
