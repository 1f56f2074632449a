"""Cases of sparse_conv2d: what tests, benchmarks, the GPU check and the docs run."""

from __future__ import annotations

from pliant.ops.case import Case, integers, normal


def _call(x, out, kernel, size, *, groups=1, bias=True, previous=True, residual=True, below=3, **options):
    """Input [N, C, H, W] ``x``, ``out`` channels, extent ``size`` of the output; a policy drawn from 0 ... below - 1."""
    batch, channels = x[:2]
    inner = channels // groups
    full = (batch, out, *size)
    return {
        "input": normal(*x),
        "weight": normal(out, inner, *kernel, scale=(inner * kernel[0] * kernel[1]) ** -0.5),
        "bias": normal(out) if bias else None,
        "policy": integers(batch, 1, *size, below=below),
        "previous": normal(*full) if previous else None,
        "residual": normal(*full) if residual else None,
        **options,
    }


CASES = (
    Case("all three", _call((1, 4, 6, 7), 5, (3, 3), (6, 7), padding=1, activation="relu")),
    Case("tiny", _call((2, 2, 3, 3), 2, (2, 2), (2, 2)), gradcheck=True),
    Case(
        "plain", _call((2, 4, 6, 7), 5, (3, 3), (6, 7), bias=False, previous=False, residual=False, padding=1)
    ),
    Case("skips alone", _call((1, 4, 6, 7), 5, (3, 3), (6, 7), below=1, padding=1)),
    Case("skips and reuses", _call((1, 4, 6, 7), 5, (3, 3), (6, 7), below=2, padding=1)),
    Case("strided", _call((2, 3, 9, 8), 4, (3, 3), (5, 3), stride=(2, 3), padding=(1, 1))),
    Case("pointwise", _call((1, 24, 6, 7), 40, (1, 1), (6, 7), activation="relu")),
    Case("wide kernel", _call((1, 3, 9, 11), 8, (7, 5), (9, 11), padding=(3, 2))),
    Case("groups", _call((1, 8, 6, 7), 12, (3, 3), (6, 7), groups=4, padding=1)),
    Case("depth-wise", _call((1, 8, 6, 7), 8, (3, 3), (6, 7), groups=8, padding=1)),
    Case("empty batch", _call((0, 4, 6, 7), 5, (3, 3), (6, 7), padding=1)),
    Case("whole vectors", _call((2, 64, 9, 11), 64, (3, 3), (9, 11), padding=1, activation="relu")),
    Case("odd channels", _call((2, 37, 9, 11), 45, (3, 3), (9, 11), padding=1)),
    Case("quarter resolution", _call((1, 256, 120, 214), 256, (3, 3), (120, 214), padding=1), benchmark=True),
    Case("sixteenth resolution", _call((1, 256, 30, 54), 256, (3, 3), (30, 54), padding=1), benchmark=True),
)
