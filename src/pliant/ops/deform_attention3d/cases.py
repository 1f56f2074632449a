"""Cases of deform_attention3d: what tests, benchmarks, the GPU check and the docs run."""

from __future__ import annotations

from pliant.ops.case import Case, normal, uniform

_FAR = (float("nan"), float("inf"), float("-inf"), 1e30, -1e30, 3e9, -3e9, -1.0, 1.0, 0.0)


def _call(batch, shape, heads, width, queries, points, *, spread=1.4, special=()):
    """``spread``: share of the volume's extent over which locations are drawn, around its middle."""
    cells = shape[0] * shape[1] * shape[2]
    shift = (1 - spread) / 2
    return {
        "value": normal(batch, cells, heads, width),
        "shape": shape,
        "sampling_locations": uniform(
            batch, queries, heads, points, 3, scale=spread, shift=shift, precise=True, special=special
        ),
        "attention_weights": uniform(batch, queries, heads, points, scale=2 / points, precise=True),
    }


CASES = (
    Case("small", _call(2, (3, 4, 5), 4, 6, 7, 5)),
    Case("tiny", _call(1, (2, 3, 2), 2, 3, 2, 2, spread=1.1), gradcheck=True),
    Case("one frame", _call(1, (1, 6, 7), 2, 16, 9, 4)),
    Case("one cell", _call(1, (1, 1, 1), 2, 5, 3, 3, spread=2.0)),
    Case("whole vectors", _call(1, (2, 5, 6), 8, 48, 11, 16)),
    Case("wide heads", _call(1, (2, 5, 6), 1, 80, 5, 3)),
    Case("narrow heads", _call(2, (2, 5, 6), 3, 1, 5, 20)),
    Case("far, infinite and not a number", _call(1, (3, 4, 5), 2, 8, 7, 5, special=_FAR)),
    Case("empty batch", _call(0, (3, 4, 5), 2, 8, 7, 5)),
    Case("no queries", _call(1, (3, 4, 5), 2, 8, 0, 5)),
    Case("12 frames", _call(1, (12, 10, 24), 8, 48, 2880, 32, spread=1.0), benchmark=True),
    Case("36 frames", _call(1, (36, 10, 24), 8, 48, 8640, 32, spread=1.0), benchmark=True),
)
