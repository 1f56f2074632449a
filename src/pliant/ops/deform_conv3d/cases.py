"""Cases of deform_conv3d: what tests, benchmarks, the GPU check and the docs run."""

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
    taps = kernel[0] * kernel[1] * kernel[2]
    return {
        "input": normal(*x),
        "offset": normal(
            batch, 3 * offset_groups * taps, *extent, scale=scale, precise=True, special=special
        ),
        "weight": normal(out, channels // groups, *kernel, scale=(channels // groups * taps) ** -0.5),
        "bias": normal(out) if bias else None,
        "mask": uniform(batch, offset_groups * taps, *extent, precise=True) if mask else None,
        **options,
    }


CASES = (
    Case("modulated", _call((1, 4, 3, 6, 7), 5, (3, 3, 3), (3, 6, 7), padding=1)),
    Case("tiny", _call((2, 2, 2, 3, 3), 2, (2, 2, 2), (1, 2, 2)), gradcheck=True),
    Case("plain", _call((1, 4, 3, 6, 7), 5, (3, 3, 3), (3, 6, 7), padding=1, mask=False, bias=False)),
    Case("on grid points", _call((1, 4, 3, 6, 7), 5, (3, 3, 3), (3, 6, 7), padding=1, scale=0.0)),
    Case(
        "strided",
        _call(
            (2, 2, 4, 9, 8), 3, (3, 3, 3), (4, 4, 3), stride=(1, 2, 2), padding=(1, 1, 0), dilation=(1, 2, 1)
        ),
    ),
    Case("groups", _call((1, 4, 2, 5, 5), 4, (3, 3, 3), (2, 5, 5), padding=1, groups=2, offset_groups=2)),
    Case(
        "groups that cross",
        _call((1, 12, 2, 5, 5), 8, (1, 3, 3), (2, 5, 5), padding=(0, 1, 1), groups=2, offset_groups=3),
    ),
    Case("one frame", _call((1, 3, 1, 5, 6), 4, (3, 3, 3), (1, 5, 6), padding=1)),
    Case("even kernel", _call((1, 3, 3, 5, 5), 2, (2, 2, 3), (4, 4, 5), padding=(1, 0, 1))),
    Case("pointwise", _call((1, 4, 3, 6, 7), 5, (1, 1, 1), (3, 6, 7))),
    Case(
        "far, infinite and not a number",
        _call((1, 4, 3, 6, 7), 5, (3, 3, 3), (3, 6, 7), padding=1, special=_FAR),
    ),
    Case("empty batch", _call((0, 4, 3, 6, 7), 5, (3, 3, 3), (3, 6, 7), padding=1)),
    Case("whole vectors", _call((2, 64, 2, 9, 11), 64, (3, 3, 3), (2, 9, 11), padding=1)),
    Case("odd channels", _call((2, 37, 2, 9, 11), 45, (3, 3, 3), (2, 9, 11), padding=1)),
    Case(
        "A", _call((1, 256, 4, 60, 107), 256, (3, 3, 3), (4, 60, 107), padding=1, scale=1.0), benchmark=True
    ),
    Case("B", _call((1, 256, 2, 30, 54), 256, (3, 3, 3), (2, 30, 54), padding=1, scale=1.0), benchmark=True),
    Case("C", _call((1, 64, 8, 60, 107), 64, (3, 3, 3), (8, 60, 107), padding=1, scale=1.0), benchmark=True),
)
