"""The Triton kernels of deform_attention3d: a block of queries of one head, one point after the other.

The gradient by the values is a sum of atomic additions, whose order is open: two runs can differ in the last bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from pliant.ops import triton_support
from pliant.ops.triton_sampling import cell, corner_of
from pliant.ops.triton_support import why_unavailable

__all__ = ["backward", "forward", "why_unavailable", "why_unsupported"]

# Queries of a block and warps, by kernel.
BLOCKS = {"forward": (32, 4), "backward": (16, 4)}


def why_unsupported(
    value: Tensor, shape: Sequence[int], sampling_locations: Tensor, attention_weights: Tensor
) -> str | None:
    if value.shape[1] >= 2**30:
        return f"the kernels count cells in 31 bits, but there are {value.shape[1]}"
    return triton_support.why_not_tensor(value)


@triton.jit
def _point(locations, weights, number, live, point, T, H, W, POINTS: tl.constexpr):
    """Weight, first corner and fraction of one point of each query of the block."""
    place = number * POINTS + point
    weight = tl.load(weights + place, mask=live, other=0.0)
    t0, ft = cell(tl.load(locations + place * 3, mask=live, other=-9.0) * T - 0.5, T)
    y0, fy = cell(tl.load(locations + place * 3 + 1, mask=live, other=-9.0) * H - 0.5, H)
    x0, fx = cell(tl.load(locations + place * 3 + 2, mask=live, other=-9.0) * W - 0.5, W)
    return weight, t0, y0, x0, ft, fy, fx


@triton.jit
def _forward(
    value, locations, weights, out, queries, T, H, W,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, POINTS: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """``out`` [N, Q, M, D]: queries of a block, one head."""
    query = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    head, image = tl.program_id(1), tl.program_id(2).to(tl.int64)
    live = query < queries
    number = (image * queries + query) * HEADS + head
    channel = tl.arange(0, BLOCK_D)
    real = channel < WIDTH
    total = tl.zeros((BLOCK_Q, BLOCK_D), tl.float32)
    for point in range(POINTS):
        weight, t0, y0, x0, ft, fy, fx = _point(locations, weights, number, live, point, T, H, W, POINTS)
        for corner in tl.static_range(8):
            wt = ft if corner // 4 else 1.0 - ft
            row, inside, wy, wx = corner_of(image, t0 + corner // 4, y0, x0, fy, fx, T, H, W, live, corner % 4)
            share = wt * wy * wx * weight
            place = (row * HEADS + head)[:, None] * WIDTH + channel[None, :]
            there = (inside & (share != 0.0))[:, None] & real[None, :]
            total += tl.load(value + place, mask=there, other=0.0).to(tl.float32) * share[:, None]
    own = number[:, None] * WIDTH + channel[None, :]
    tl.store(out + own, total.to(out.dtype.element_ty), mask=live[:, None] & real[None, :])


@triton.jit
def _backward(
    gradient, value, locations, weights, d_value, d_locations, d_weights, queries, T, H, W,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, POINTS: tl.constexpr,
    NEED_VALUE: tl.constexpr, NEED_POINTS: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """All three gradients: by the values with atomic additions, by locations and weights point by point."""
    query = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    head, image = tl.program_id(1), tl.program_id(2).to(tl.int64)
    live = query < queries
    number = (image * queries + query) * HEADS + head
    channel = tl.arange(0, BLOCK_D)
    real = channel < WIDTH
    own = number[:, None] * WIDTH + channel[None, :]
    g = tl.load(gradient + own, mask=live[:, None] & real[None, :], other=0.0).to(tl.float32)
    for point in range(POINTS):
        weight, t0, y0, x0, ft, fy, fx = _point(locations, weights, number, live, point, T, H, W, POINTS)
        by_weight = tl.zeros((BLOCK_Q,), tl.float32)
        by_t = tl.zeros((BLOCK_Q,), tl.float32)
        by_y = tl.zeros((BLOCK_Q,), tl.float32)
        by_x = tl.zeros((BLOCK_Q,), tl.float32)
        for corner in tl.static_range(8):
            wt = ft if corner // 4 else 1.0 - ft
            row, inside, wy, wx = corner_of(image, t0 + corner // 4, y0, x0, fy, fx, T, H, W, live, corner % 4)
            share = wt * wy * wx
            place = (row * HEADS + head)[:, None] * WIDTH + channel[None, :]
            there = inside[:, None] & real[None, :]
            if NEED_VALUE:
                amount = share * weight
                tl.atomic_add(
                    d_value + place, g * amount[:, None], mask=there & (amount != 0.0)[:, None], sem="relaxed"
                )
            if NEED_POINTS:
                product = tl.sum(g * tl.load(value + place, mask=there, other=0.0).to(tl.float32), axis=1)
                by_weight += product * share
                by_t += product * (wy * wx if corner // 4 else -wy * wx)
                by_y += product * (wt * wx if corner // 2 % 2 else -wt * wx)
                by_x += product * (wt * wy if corner % 2 else -wt * wy)
        if NEED_POINTS:
            at = number * POINTS + point
            tl.store(d_weights + at, by_weight, mask=live)
            tl.store(d_locations + at * 3, by_t * weight * T, mask=live)
            tl.store(d_locations + at * 3 + 1, by_y * weight * H, mask=live)
            tl.store(d_locations + at * 3 + 2, by_x * weight * W, mask=live)


def forward(
    value: Tensor, shape: Sequence[int], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    batch, _, heads, width = value.shape
    queries, points = sampling_locations.shape[1], sampling_locations.shape[3]
    out = value.new_empty([batch, queries, heads * width])
    if out.numel() == 0:
        return out
    launch = _launch("forward", queries, width)
    with triton_support.on_device_of(value):
        _forward[(triton.cdiv(queries, launch["BLOCK_Q"]), heads, batch)](
            value.contiguous(), sampling_locations.contiguous(), attention_weights.contiguous(), out, queries, *shape,
            HEADS=heads, WIDTH=width, POINTS=points, **launch,
        )  # fmt: skip
    return out


def backward(
    gradient: Tensor,
    value: Tensor,
    shape: Sequence[int],
    sampling_locations: Tensor,
    attention_weights: Tensor,
    *,
    needed: Sequence[bool],
) -> list[Tensor]:
    batch, _, heads, width = value.shape
    queries, points = sampling_locations.shape[1], sampling_locations.shape[3]
    d_value = torch.zeros(value.shape, dtype=torch.float32, device=value.device)
    found = d_value, sampling_locations.new_zeros(sampling_locations.shape), attention_weights.new_zeros(
        attention_weights.shape
    )
    if gradient.numel() > 0:
        launch = _launch("backward", queries, width)
        with triton_support.on_device_of(value):
            _backward[(triton.cdiv(queries, launch["BLOCK_Q"]), heads, batch)](
                gradient.contiguous(), value.contiguous(), sampling_locations.contiguous(),
                attention_weights.contiguous(), *found, queries, *shape, HEADS=heads, WIDTH=width, POINTS=points,
                NEED_VALUE=needed[0], NEED_POINTS=needed[1] or needed[2], **launch,
            )  # fmt: skip
    found = d_value.to(value.dtype), *found[1:]
    return [g for g, need in zip(found, needed) if need]


def _launch(kernel: str, queries: int, width: int) -> dict[str, int]:
    block, warps = BLOCKS[kernel]
    return {
        "BLOCK_Q": triton_support.block(queries, block),
        "BLOCK_D": triton.next_power_of_2(width),
        "num_warps": warps,
    }
