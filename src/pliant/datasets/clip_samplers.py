"""Which frames of a video make a training clip: the rules of the papers and of their code."""

from __future__ import annotations

import numpy as np

__all__ = ["consecutive", "following", "window"]


def consecutive(count: int, length: int, rng: np.random.Generator) -> list[int]:
    """``length`` frames on end, the first drawn evenly; the last one repeated where the video is shorter.

    The D²Conv3D paper: "8-frame clips sampled at random".
    """
    start = int(rng.integers(max(1, count - length + 1)))
    return [min(start + i, count - 1) for i in range(length)]


def window(count: int, centre: int, length: int, rng: np.random.Generator) -> list[int]:
    """``length`` draws with replacement, sorted, from frames [centre - length / 2, centre + length / 2).

    The rule of d2conv3d's code; the window is cut at the ends of the video.
    """
    first, end = max(0, centre - length // 2), min(count, centre + length // 2)
    return sorted(int(i) for i in rng.integers(first, max(end, first + 1), length))


def following(count: int, start: int, length: int, rng: np.random.Generator, span: int = 12) -> list[int]:
    """``length`` of the ``span`` frames that begin with ``start``, drawn without replacement, sorted.

    The rule of 3DC-Seg's code; where fewer frames are left, ``start`` is repeated.
    """
    frames = range(start, min(count, start + span))
    chosen = rng.choice(len(frames), min(length, len(frames)), replace=False)
    return [start] * (length - len(chosen)) + sorted(frames[int(i)] for i in chosen)
