"""Cases of deform_conv2d: what tests, benchmarks, the GPU check and the docs run."""

from __future__ import annotations

from pliant.ops.case import Case, normal, uniform

_FAR = (float("nan"), float("inf"), float("-inf"), 1e30, -1e30, 3e9, -3e9, -1.0, 1.0, 0.0)


def _call(
    x,
    out,
    kernel,
    extent,
    *,
    offset_groups=1,
    groups=1,
    mask=True,
    bias=True,
    scale=1.5,
    special=(),
    **options,
):
    """The arguments of one call: input extent and channels ``x``, ``out`` channels, ``extent`` of the
    output.
    """
    batch, channels = x[:2]
    taps = kernel[0] * kernel[1]
    return {
        "input": normal(*x),
        "offset": normal(
            batch, 2 * offset_groups * taps, *extent, scale=scale, precise=True, special=special
        ),
        "weight": normal(out, channels // groups, *kernel, scale=(channels // groups * taps) ** -0.5),
        "bias": normal(out) if bias else None,
        "mask": uniform(batch, offset_groups * taps, *extent, precise=True) if mask else None,
        **options,
    }


CASES = (
    Case("modulated", _call((2, 4, 6, 7), 5, (3, 3), (6, 7), padding=1)),
    Case("tiny", _call((2, 2, 3, 3), 2, (2, 2), (2, 2)), gradcheck=True),
    Case("plain", _call((1, 4, 6, 7), 5, (3, 3), (6, 7), padding=1, mask=False, bias=False)),
    Case("on grid points", _call((1, 4, 6, 7), 5, (3, 3), (6, 7), padding=1, scale=0.0)),
    Case("strided", _call((2, 2, 9, 8), 3, (3, 3), (4, 3), stride=2, padding=(1, 0), dilation=(2, 1))),
    Case("groups", _call((1, 4, 5, 5), 4, (3, 3), (5, 5), padding=1, groups=2, offset_groups=2)),
    Case("depth-wise", _call((1, 6, 5, 5), 6, (3, 3), (5, 5), padding=1, groups=6, offset_groups=3)),
    Case("far, infinite and not a number", _call((1, 4, 6, 7), 5, (3, 3), (6, 7), padding=1, special=_FAR)),
    Case("empty batch", _call((0, 4, 6, 7), 5, (3, 3), (6, 7), padding=1)),
    Case("whole vectors", _call((1, 64, 19, 21), 64, (3, 3), (19, 21), padding=1)),
    Case("odd channels", _call((1, 37, 19, 21), 45, (3, 3), (19, 21), padding=1)),
    Case(
        "256 channels, 120x214",
        _call((1, 256, 120, 214), 256, (3, 3), (120, 214), padding=1, scale=1.0),
        benchmark=True,
    ),
    Case(
        "64 channels, 120x214",
        _call((1, 64, 120, 214), 64, (3, 3), (120, 214), padding=1, scale=1.0),
        benchmark=True,
    ),
)
