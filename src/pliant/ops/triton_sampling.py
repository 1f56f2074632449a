"""The interpolation rule of pliant/ops/sampling.py for Triton kernels: trilinear, zero outside, corner by corner."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def cell(position, extent):
    """First corner and fraction along an axis; a position outside, infinite or not a number has no corner inside."""
    position = tl.where((position >= -1.0) & (position < extent), position, -3.0)
    start = tl.floor(position)
    return start.to(tl.int32), position - start


@triton.jit
def corner_of(image, t, y0, x0, fy, fx, T, H, W, live, corner: tl.constexpr):
    """Row of the input, whether it is inside, and the shares along y and x, of one of four corners in frame t."""
    y, x = y0 + corner // 2, x0 + corner % 2
    wy = fy if corner // 2 else 1.0 - fy
    wx = fx if corner % 2 else 1.0 - fx
    inside = live & (t >= 0) & (t < T) & (y >= 0) & (y < H) & (x >= 0) & (x < W)
    row = image * (T * H * W) + ((t * H + y) * W + x)
    return row, inside, wy, wx
