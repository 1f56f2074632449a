"""What a source gives: frames, and what is known about the whole before they come."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

__all__ = ["Frame", "SourceInfo"]


@dataclass(slots=True)
class Frame:
    """One picture of a source, as players show it.

    Attributes:
        image: [H, W, 3] uint8 RGB; turned upright, what is transparent on black. All frames have one size.
        time_seconds: when it is shown, from the beginning of the source.
        name: the file's name without suffix for images, else the index in five digits.
        index: number of the frame in the source, from 0.
        damaged: it could not be decoded, or not completely; ``image`` is then the best there is, often the
            last good one.
    """

    image: np.ndarray
    time_seconds: float
    name: str
    index: int
    damaged: bool = False


@dataclass(slots=True)
class SourceInfo:
    """What is known of a source before its frames are read.

    Attributes:
        source: the path, pattern or address, as it was given.
        kind: ``"video"`` (a file), ``"images"`` (a folder or pattern) or ``"stream"`` (a camera or address).
        width, height: size of the frames in pixels, turned upright.
        frame_rate: frames a second, on average; ``None`` where a stream does not say.
        frame_count: number of frames; ``None`` where it is not known.
        frame_count_is_exact: whether the count was written in the file, else it follows from the duration.
        has_audio: whether sound comes with it.
        codec: name of the coding, ``"h264"`` or ``"jpeg"``.
        names: the frames' names, for images only.
        pixel_aspect: width over height of a pixel where they are not square.
        start_seconds: time in the file at which its ``time_seconds`` 0 lies.
    """

    source: str
    kind: str
    width: int
    height: int
    frame_rate: float | None
    frame_count: int | None
    frame_count_is_exact: bool
    has_audio: bool
    codec: str
    names: tuple[str, ...] | None = None
    pixel_aspect: Fraction | None = None
    start_seconds: float = 0.0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), the shape of a mask."""
        return self.height, self.width
