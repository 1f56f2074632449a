"""Cases of warp: what tests, benchmarks, the GPU check and the docs run."""

from __future__ import annotations

from pliant.ops.case import Case, normal

_FAR = (float("nan"), float("inf"), float("-inf"), 1e30, -1e30, 3e9, -3e9, -1.0, 1.0, 0.0)


def _call(batch, channels, height, width, scale=2.0, special=()):
    offset = normal(batch, 2, height, width, scale=scale, precise=True, special=special)
    return {"input": normal(batch, channels, height, width), "offset": offset}


CASES = (
    Case("small", _call(2, 3, 7, 9)),
    Case("tiny", _call(1, 2, 3, 4, scale=0.7), gradcheck=True),
    Case("on grid points", _call(1, 2, 5, 6, scale=0.0)),
    Case("one row", _call(1, 3, 1, 8)),
    Case("far, infinite and not a number", _call(1, 4, 6, 7, special=_FAR)),
    Case("empty batch", _call(0, 3, 4, 5)),
    Case("whole vectors", _call(1, 64, 9, 11)),
    Case("image", _call(1, 3, 480, 854, scale=8.0), benchmark=True),
)
