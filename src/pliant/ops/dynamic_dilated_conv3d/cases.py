"""Cases of dynamic_dilated_conv3d: what tests, benchmarks, the GPU check and the docs run."""

from __future__ import annotations

from pliant.ops.case import Case, normal, uniform

_FAR = (float("nan"), float("inf"), float("-inf"), 1e30, -1e30, 3e9, -3e9, -1.0, 0.0)


def _call(
    x, out, kernel, extent, *, groups=1, mask=True, bias=True, scale=2.0, shift=0.0, special=(), **options
):
    """The arguments of one call: input extent and channels ``x``, ``out`` channels, ``extent`` of the
    output.
    """
    batch, channels = x[:2]
    taps = kernel[0] * kernel[1] * kernel[2]
    return {
        "input": normal(*x),
        "dilation_map": uniform(batch, 3, *extent, scale=scale, shift=shift, precise=True, special=special),
        "weight": normal(out, channels // groups, *kernel, scale=(channels // groups * taps) ** -0.5),
        "bias": normal(out) if bias else None,
        "mask": uniform(batch, taps, *extent, precise=True) if mask else None,
        **options,
    }


_A, _B, _C = ((1, 256, 4, 60, 107), 256), ((1, 256, 2, 30, 54), 256), ((1, 64, 8, 60, 107), 64)
_CUBE = (3, 3, 3)

CASES = (
    Case("modulated", _call((1, 4, 3, 6, 7), 5, _CUBE, (3, 6, 7), padding=1)),
    Case("tiny", _call((2, 2, 2, 3, 3), 2, (2, 3, 1), (1, 1, 3)), gradcheck=True),
    Case("plain", _call((1, 4, 3, 6, 7), 5, _CUBE, (3, 6, 7), padding=1, mask=False, bias=False)),
    Case("one", _call((1, 4, 3, 6, 7), 5, _CUBE, (3, 6, 7), padding=1, scale=0.0, shift=1.0)),
    Case("zero", _call((1, 4, 3, 6, 7), 5, _CUBE, (3, 6, 7), padding=1, scale=0.0)),
    Case("negative", _call((1, 4, 3, 6, 7), 5, _CUBE, (3, 6, 7), padding=1, shift=-2.0)),
    Case("wide", _call((1, 4, 3, 6, 7), 5, _CUBE, (3, 6, 7), padding=1, scale=8.0)),
    Case(
        "strided",
        _call((2, 2, 4, 9, 8), 3, _CUBE, (4, 4, 3), stride=(1, 2, 2), padding=(1, 1, 0), dilation=(1, 2, 1)),
    ),
    Case("groups", _call((1, 4, 3, 6, 7), 6, _CUBE, (3, 6, 7), padding=1, groups=2)),
    Case("one frame", _call((1, 4, 1, 6, 7), 5, _CUBE, (1, 6, 7), padding=1)),
    Case("two pixels", _call((3, 4, 1, 1, 2), 5, _CUBE, (1, 1, 2), padding=1)),
    Case("row kernel", _call((1, 4, 3, 6, 7), 5, (1, 1, 7), (3, 6, 7), padding=(0, 0, 3))),
    Case("column kernel", _call((1, 4, 3, 6, 7), 5, (1, 7, 1), (3, 6, 7), padding=(0, 3, 0))),
    Case("five frames deep", _call((1, 4, 3, 6, 7), 5, (5, 3, 3), (3, 6, 7), padding=(2, 1, 1))),
    Case("even kernel", _call((1, 3, 3, 5, 5), 2, (2, 4, 2), (4, 4, 4), padding=(1, 1, 0))),
    Case(
        "far, infinite and not a number", _call((1, 4, 3, 6, 7), 5, _CUBE, (3, 6, 7), padding=1, special=_FAR)
    ),
    Case("empty batch", _call((0, 4, 3, 6, 7), 5, _CUBE, (3, 6, 7), padding=1)),
    Case("whole vectors", _call((2, 64, 2, 9, 11), 64, _CUBE, (2, 9, 11), padding=1)),
    Case("odd channels", _call((2, 37, 2, 9, 11), 45, _CUBE, (2, 9, 11), padding=1)),
    Case("A, D = 1", _call(*_A, _CUBE, (4, 60, 107), padding=1, scale=0.0, shift=1.0), benchmark=True),
    Case("A, random D", _call(*_A, _CUBE, (4, 60, 107), padding=1), benchmark=True),
    Case("B, D = 1", _call(*_B, _CUBE, (2, 30, 54), padding=1, scale=0.0, shift=1.0), benchmark=True),
    Case("B, random D", _call(*_B, _CUBE, (2, 30, 54), padding=1), benchmark=True),
    Case("C, D = 1", _call(*_C, _CUBE, (8, 60, 107), padding=1, scale=0.0, shift=1.0), benchmark=True),
    Case("C, random D", _call(*_C, _CUBE, (8, 60, 107), padding=1), benchmark=True),
)
