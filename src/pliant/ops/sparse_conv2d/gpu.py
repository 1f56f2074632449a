"""The Triton kernels of sparse_conv2d: the computed positions are listed on the device, their pixels gathered,
multiplied and written to their places; bias, residual and ReLU happen on the way. The host never waits for the list's
length: blocks beyond it end at once.

The gradient by the input is a sum of atomic additions, whose order is open: two runs can differ in the last bits.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pliant.ops import triton_support
from pliant.ops.arguments import empty_output
from pliant.ops.sparse_conv2d.reference import COMPUTE, REUSE, SKIP
from pliant.ops.triton_support import why_unavailable

__all__ = ["backward", "forward", "forward_in_place", "why_unavailable", "why_unsupported"]

# Positions, channels and outputs of a block, warps, stages of the pipeline; by kernel and bytes of a number.
BLOCKS = {
    ("forward", 2): (64, 64, 128, 4, 4),
    ("forward", 4): (64, 32, 128, 4, 3),
    ("input", 2): (64, 64, 64, 4, 3),
    ("input", 4): (64, 64, 32, 4, 3),
    ("weight", 2): (32, 64, 128, 4, 3),
    ("weight", 4): (32, 64, 64, 4, 3),
}


def why_unsupported(
    input, weight, bias, policy, previous, stride, padding, residual, activation
) -> str | None:
    if input.shape[1] != weight.shape[1]:
        return f"the kernels take one group, not {input.shape[1] // weight.shape[1]}"
    if max(policy.numel(), input.shape[0] * input.shape[2] * input.shape[3]) >= 2**30:
        return f"the kernels count in 31 bits, but there are {policy.numel()} positions of {list(input.shape)}"
    return triton_support.why_not_tensor(input)


@triton.jit
def _listed(order, count, block, BLOCK_P: tl.constexpr):
    """Positions of a block of the list, and which of them exist."""
    entry = block * BLOCK_P + tl.arange(0, BLOCK_P)
    live = entry < count
    return tl.load(order + entry, mask=live, other=0), live


@triton.jit
def _pixel(
    position, live, tap, H, W, out_y, out_x, KERNEL: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr
):
    """Row of the input under a tap at each position, and whether it is inside."""
    y = position // out_x % out_y * STRIDE[0] - PADDING[0] + tap // KERNEL[1]
    x = position % out_x * STRIDE[1] - PADDING[1] + tap % KERNEL[1]
    inside = live & (y >= 0) & (y < H) & (x >= 0) & (x < W)
    return (position // (out_x * out_y) * H + y).to(tl.int64) * W + x, inside


@triton.jit
def _forward(
    rows, weight, bias, residual, order, counts, out, H, W, out_y, out_x,
    C: tl.constexpr, O: tl.constexpr, KERNEL: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr, RELU: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """A block of listed positions times a block of outputs. ``weight`` [K, channels, outputs]."""
    count = tl.load(counts)
    if tl.program_id(0) * BLOCK_P >= count:
        return
    position, live = _listed(order, count, tl.program_id(0), BLOCK_P)
    output = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    real_output = output < O
    total = tl.zeros((BLOCK_P, BLOCK_O), tl.float32)
    for tap in range(KERNEL[0] * KERNEL[1]):
        row, inside = _pixel(position, live, tap, H, W, out_y, out_x, KERNEL, STRIDE, PADDING)
        for first in range(0, C, BLOCK_C):
            channel = first + tl.arange(0, BLOCK_C)
            real = channel < C
            x = tl.load(rows + row[:, None] * C + channel[None, :], mask=inside[:, None] & real[None, :], other=0.0)
            place = (tap * C + channel)[:, None] * O + output[None, :]
            w = tl.load(weight + place, mask=real[:, None] & real_output[None, :], other=0.0)
            total = tl.dot(x, w, total, input_precision=PRECISION)
    place = position.to(tl.int64)[:, None] * O + output[None, :]
    there = live[:, None] & real_output[None, :]
    if HAS_BIAS:
        total += tl.load(bias + output, mask=real_output, other=0.0).to(tl.float32)[None, :]
    if HAS_RESIDUAL:
        total += tl.load(residual + place, mask=there, other=0.0).to(tl.float32)
    if RELU:
        total = tl.where(total < 0.0, 0.0, total)  # keeps what is not a number, as ReLU does
    tl.store(out + place, total.to(out.dtype.element_ty), mask=there)


@triton.jit
def _backward_input(
    gradient, weight, order, counts, d_rows, H, W, out_y, out_x,
    C: tl.constexpr, O: tl.constexpr, KERNEL: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """One tap of a block of listed positions, added to the pixels under it. ``weight`` [K, outputs, channels]."""
    count = tl.load(counts)
    if tl.program_id(0) * BLOCK_P >= count:
        return
    position, live = _listed(order, count, tl.program_id(0), BLOCK_P)
    tap = tl.program_id(1)
    row, inside = _pixel(position, live, tap, H, W, out_y, out_x, KERNEL, STRIDE, PADDING)
    for first in range(0, C, BLOCK_C):
        channel = first + tl.arange(0, BLOCK_C)
        real = channel < C
        total = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
        for start in range(0, O, BLOCK_O):
            output = start + tl.arange(0, BLOCK_O)
            real_output = output < O
            place = position.to(tl.int64)[:, None] * O + output[None, :]
            g = tl.load(gradient + place, mask=live[:, None] & real_output[None, :], other=0.0)
            place = (tap * O + output)[:, None] * C + channel[None, :]
            w = tl.load(weight + place, mask=real_output[:, None] & real[None, :], other=0.0)
            total = tl.dot(g, w, total, input_precision=PRECISION)
        place = row[:, None] * C + channel[None, :]
        tl.atomic_add(d_rows + place, total, mask=inside[:, None] & real[None, :], sem="relaxed")


@triton.jit
def _backward_weight(
    gradient, rows, order, counts, d_weight, H, W, out_y, out_x, parts,
    C: tl.constexpr, O: tl.constexpr, KERNEL: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """One tap, block of channels and block of outputs, over every ``parts``-th block of the list; ``d_weight``
    [parts, K, channels, outputs], to be summed over the parts.
    """
    TAPS: tl.constexpr = KERNEL[0] * KERNEL[1]
    blocks: tl.constexpr = (C + BLOCK_C - 1) // BLOCK_C
    count = tl.load(counts)
    tap, part = tl.program_id(0) // blocks, tl.program_id(2)
    channel = tl.program_id(0) % blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    output = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    real, real_output = channel < C, output < O
    total = tl.zeros((BLOCK_C, BLOCK_O), tl.float32)
    for block in range(part, (count + BLOCK_P - 1) // BLOCK_P, parts):
        position, live = _listed(order, count, block, BLOCK_P)
        row, inside = _pixel(position, live, tap, H, W, out_y, out_x, KERNEL, STRIDE, PADDING)
        x = tl.load(rows + row[:, None] * C + channel[None, :], mask=inside[:, None] & real[None, :], other=0.0)
        place = position.to(tl.int64)[:, None] * O + output[None, :]
        g = tl.load(gradient + place, mask=live[:, None] & real_output[None, :], other=0.0)
        total = tl.dot(tl.trans(x), g, total, input_precision=PRECISION)
    place = ((part * TAPS + tap) * C + channel)[:, None] * O + output[None, :]
    tl.store(d_weight + place, total, mask=real[:, None] & real_output[None, :])


@triton.jit
def _clear(
    policy, out, positions, O: tl.constexpr, SKIPPED: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_O: tl.constexpr
):
    """Zeros where the policy says skip; touches nothing else."""
    position = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    skipped = tl.load(policy + position, mask=position < positions, other=SKIPPED + 1) == SKIPPED
    for first in range(0, O, BLOCK_O):
        output = first + tl.arange(0, BLOCK_O)
        place = position.to(tl.int64)[:, None] * O + output[None, :]
        zeros = tl.zeros((BLOCK_P, BLOCK_O), out.dtype.element_ty)
        tl.store(out + place, zeros, mask=skipped[:, None] & (output < O)[None, :])


def forward(input, weight, bias, policy, previous, stride, padding, residual, activation) -> Tensor:
    out = empty_output(input, [input.shape[0], weight.shape[0], *policy.shape[2:]])
    if previous is None:
        out.zero_()
    else:
        torch.where(policy == REUSE, previous, previous.new_zeros(()), out=out)
    _compute(input, weight, bias, policy, stride, padding, residual, activation, out)
    return out


def forward_in_place(input, weight, bias, policy, previous, stride, padding, residual, activation) -> None:
    rows = previous.movedim(1, -1)
    if rows.is_contiguous() and rows.numel() > 0:
        grid = (triton.cdiv(policy.numel(), 64),)
        with triton_support.on_device_of(input):
            width = triton_support.block(weight.shape[0], 128)
            _clear[grid](policy.contiguous(), rows, policy.numel(), weight.shape[0], SKIP, 64, width)
    else:
        previous.masked_fill_(policy == SKIP, 0)
    _compute(input, weight, bias, policy, stride, padding, residual, activation, previous)


def backward(
    gradient, input, weight, bias, policy, previous, stride, padding, residual, activation, *, needed
) -> list[Tensor]:
    computed = policy == COMPUTE
    if activation == "relu":
        out = empty_output(gradient, gradient.shape).zero_()
        _compute(input, weight, bias, policy, stride, padding, residual, activation, out)
        computed = computed & (out > 0)
    kept = torch.where(computed, gradient, 0)
    needs_input, needs_weight, needs_bias, _, needs_previous, needs_residual = needed
    found = [
        _backward_by_input(kept, input, weight, policy, stride, padding) if needs_input else None,
        _backward_by_weight(kept, input, weight, policy, stride, padding) if needs_weight else None,
        kept.sum((0, 2, 3), dtype=torch.float32).to(weight.dtype) if needs_bias else None,
        None,
        torch.where(policy == REUSE, gradient, 0) if needs_previous else None,
        kept if needs_residual else None,
    ]
    return [g for g, need in zip(found, needed) if need]


def _compute(input, weight, bias, policy, stride, padding, residual, activation, out: Tensor) -> None:
    """Writes the computed positions into ``out`` and leaves the others."""
    if out.numel() == 0:
        return
    rows = out.movedim(1, -1)
    target = rows if rows.is_contiguous() else rows.contiguous()
    order, count = _list(policy)
    shape, launch = _blocks("forward", input, weight, policy)
    grid = triton.cdiv(policy.numel(), shape["BLOCK_P"]), triton.cdiv(weight.shape[0], shape["BLOCK_O"])
    with triton_support.on_device_of(input):
        _forward[grid](
            _rows(input), weight.permute(2, 3, 1, 0).contiguous(), None if bias is None else bias.contiguous(),
            None if residual is None else _rows(residual), order, count, target,
            **_sizes(input, weight, policy, stride, padding), **shape, **launch,
            HAS_BIAS=bias is not None, HAS_RESIDUAL=residual is not None, RELU=activation == "relu",
        )  # fmt: skip
    if target is not rows:
        rows.copy_(target)


def _backward_by_input(kept, input, weight, policy, stride, padding) -> Tensor:
    d_rows = torch.zeros(
        [input.shape[0], *input.shape[2:], input.shape[1]], dtype=torch.float32, device=input.device
    )
    if kept.numel() > 0:
        order, count = _list(policy)
        shape, launch = _blocks("input", input, weight, policy)
        grid = triton.cdiv(policy.numel(), shape["BLOCK_P"]), weight.shape[2] * weight.shape[3]
        with triton_support.on_device_of(input):
            _backward_input[grid](
                _rows(kept), weight.permute(2, 3, 0, 1).contiguous(), order, count, d_rows,
                **_sizes(input, weight, policy, stride, padding), **shape, **launch,
            )  # fmt: skip
    return torch.empty_like(input).copy_(d_rows.movedim(-1, 1))


def _backward_by_weight(kept, input, weight, policy, stride, padding) -> Tensor:
    if kept.numel() == 0:
        return torch.zeros_like(weight)
    outputs, channels, *kernel = weight.shape
    order, count = _list(policy)
    shape, launch = _blocks("weight", input, weight, policy)
    tiles = kernel[0] * kernel[1] * triton.cdiv(channels, shape["BLOCK_C"])
    columns = triton.cdiv(outputs, shape["BLOCK_O"])
    parts = triton.cdiv(4 * triton_support.multiprocessors(input), tiles * columns)
    parts = max(1, min(parts, triton.cdiv(policy.numel(), 8 * shape["BLOCK_P"])))
    found = torch.empty([parts, *kernel, channels, outputs], dtype=torch.float32, device=input.device)
    with triton_support.on_device_of(input):
        _backward_weight[(tiles, columns, parts)](
            _rows(kept), _rows(input), order, count, found, parts=parts,
            **_sizes(input, weight, policy, stride, padding), **shape, **launch,
        )  # fmt: skip
    return torch.empty_like(weight).copy_(found.sum(0).permute(3, 2, 0, 1))


def _list(policy: Tensor) -> tuple[Tensor, Tensor]:
    """Computed positions in order, int32, at the start of a tensor as long as the policy; and how many they are."""
    computed = policy.reshape(-1) == COMPUTE
    rank = computed.cumsum(0, dtype=torch.int32)
    size = computed.numel()
    order = torch.empty(size + 1, dtype=torch.int32, device=policy.device)
    place = torch.where(computed, rank - 1, size)
    order.scatter_(0, place.long(), torch.arange(size, dtype=torch.int32, device=policy.device))
    return order, rank[-1:]


def _sizes(input, weight, policy, stride, padding) -> dict[str, object]:
    return {
        "H": input.shape[2],
        "W": input.shape[3],
        "out_y": policy.shape[2],
        "out_x": policy.shape[3],
        "C": input.shape[1],
        "O": weight.shape[0],
        "KERNEL": tuple(weight.shape[2:]),
        "STRIDE": tuple(stride),
        "PADDING": tuple(padding),
        "PRECISION": triton_support.precision(input),
    }


def _blocks(kernel: str, input, weight, policy) -> tuple[dict[str, int], dict[str, int]]:
    """The row of ``BLOCKS``, cut down to the sizes of the call."""
    positions, channels, outputs, warps, stages = BLOCKS[kernel, input.element_size()]
    shape = {
        "BLOCK_P": triton_support.block(policy.numel(), positions),
        "BLOCK_C": triton_support.block(input.shape[1], channels),
        "BLOCK_O": triton_support.block(weight.shape[0], triton_support.outputs_that_fit(outputs, input)),
    }
    return shape, {"num_warps": warps, "num_stages": stages}


def _rows(tensor: Tensor) -> Tensor:
    """Channels last and dense; no copy where the tensor lies so."""
    return tensor.movedim(1, -1).contiguous()
