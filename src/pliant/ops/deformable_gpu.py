"""The deformable convolutions on a GPU: layouts, block sizes, calls of the kernels in deformable_triton.py.

The gradient by the input is a sum of atomic additions, whose order is open: two runs can differ in the last bits.
Every other result is the same each time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from pliant.ops import deformable_triton as kernels
from pliant.ops import triton_support
from pliant.ops.arguments import empty_output

# Positions, channels and outputs of a block, warps, stages of the pipeline; by kernel and bytes of a number.
BLOCKS = {
    ("forward", 2): (64, 64, 256, 8, 2),
    ("forward", 4): (64, 32, 128, 8, 2),
    ("positions", 2): (64, 32, 64, 8, 2),
    ("positions", 4): (64, 32, 32, 8, 2),
    ("weight", 2): (32, 64, 256, 8, 2),
    ("weight", 4): (32, 64, 128, 8, 2),
}

Sizes = dict[str, object]


def why_unsupported(input: Tensor, moves: Tensor, *rest: object) -> str | None:
    """The kernels take halves and float32; positions are counted in 31 bits."""
    cells, positions = math.prod(input.shape[2:]), moves.shape[0] * math.prod(moves.shape[2:])
    if max(cells, positions) >= 2**30:
        return f"the kernels count in 31 bits, but there are {cells} cells and {positions} output positions"
    return triton_support.why_not_tensor(input)


def forward(
    dynamic: bool,
    input: Tensor,
    moves: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    output = empty_output(input, [input.shape[0], weight.shape[0], *moves.shape[2:]])
    if output.numel() == 0:
        return output
    rows = output.movedim(1, -1)
    target = rows if rows.is_contiguous() else torch.empty(rows.shape, dtype=rows.dtype, device=rows.device)
    sizes = _sizes(dynamic, input, moves, weight, mask, stride, padding, dilation)
    shape, launch = _blocks("forward", input, sizes)
    positions, outputs = moves.shape[0] * sizes["positions"], sizes["OUTPUTS"]
    grid = triton.cdiv(positions, shape["BLOCK_P"]), weight.shape[0] // outputs * triton.cdiv(outputs, shape["BLOCK_O"])
    with triton_support.on_device_of(input):
        kernels.forward[grid](
            _rows(input), moves.contiguous(), _by_segment(weight, sizes).transpose(2, 3).contiguous(),
            None if bias is None else bias.contiguous(), None if mask is None else mask.contiguous(), target,
            **sizes, **shape, **launch, HAS_BIAS=bias is not None,
        )  # fmt: skip
    return output if target is rows else output.copy_(target.movedim(-1, 1))


def backward(
    dynamic: bool,
    gradient: Tensor,
    input: Tensor,
    moves: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    *,
    needed: Sequence[bool],
) -> list[Tensor]:
    arguments = (input, moves, weight, bias, mask)
    if gradient.numel() == 0:
        return [torch.zeros_like(tensor) for tensor, need in zip(arguments, needed) if need]
    sizes = _sizes(dynamic, input, moves, weight, mask, stride, padding, dilation)
    rows, gradient = _rows(input), _rows(gradient)
    found: dict[int, Tensor | None] = {}
    with triton_support.on_device_of(input):
        if needed[0] or needed[1] or needed[4]:
            found |= _backward_positions(gradient, rows, input, moves, weight, mask, sizes, needed)
        if needed[2]:
            found[2] = _backward_weight(gradient, rows, moves, weight, mask, sizes)
    if needed[3]:
        found[3] = gradient.flatten(0, -2).sum(0, dtype=torch.float32).to(bias.dtype)
    return [found[i] for i, need in enumerate(needed) if need]


def _backward_positions(gradient, rows, input, moves, weight, mask, sizes, needed) -> dict[int, Tensor | None]:
    shape, launch = _blocks("positions", input, sizes)
    moves = moves.contiguous()
    blocks = triton.cdiv(moves.shape[0] * sizes["positions"], shape["BLOCK_P"])
    taps = math.prod(sizes["KERNEL"])
    parts = min(taps, triton.cdiv(4 * triton_support.multiprocessors(input), blocks))
    taps_a_part = triton.cdiv(taps, parts)
    parts = triton.cdiv(taps, taps_a_part)
    d_rows = torch.zeros(rows.shape, dtype=torch.float32, device=rows.device) if needed[0] else None
    lead = (parts,) if sizes["DYNAMIC"] else ()
    d_moves = moves.new_empty(*lead, *moves.shape) if needed[1] else None
    d_mask = None if mask is None or not needed[4] else torch.empty(mask.shape, device=mask.device)
    kernels.backward_positions[(blocks, parts)](
        gradient, rows, moves, _by_segment(weight, sizes).contiguous(), None if mask is None else mask.contiguous(),
        d_rows, d_moves, d_mask, taps_a_part=taps_a_part,
        **sizes, **shape, **launch, NEED_ROWS=needed[0], NEED_MOVES=needed[1], NEED_MASK=needed[4],
    )  # fmt: skip
    found = {1: d_moves.sum(0) if needed[1] and sizes["DYNAMIC"] else d_moves, 4: d_mask}
    if needed[0]:
        found[0] = torch.empty_like(input).copy_(d_rows.movedim(-1, 1))
    return found


def _backward_weight(gradient, rows, moves, weight, mask, sizes) -> Tensor:
    shape, launch = _blocks("weight", rows, sizes)
    positions = moves.shape[0] * sizes["positions"]
    taps, segments = math.prod(sizes["KERNEL"]), sizes["SEGMENTS"]
    tiles = segments * taps * triton.cdiv(sizes["CHANNELS"], shape["BLOCK_C"])
    columns = triton.cdiv(sizes["OUTPUTS"], shape["BLOCK_O"])
    # A part for every idle multiprocessor, but none of less than eight blocks: each costs a weight's worth of memory.
    parts = triton.cdiv(4 * triton_support.multiprocessors(rows), tiles * columns)
    parts = max(1, min(parts, triton.cdiv(positions, 8 * shape["BLOCK_P"])))
    a_part = triton.cdiv(triton.cdiv(positions, parts), shape["BLOCK_P"]) * shape["BLOCK_P"]
    size = (parts, segments, taps, sizes["CHANNELS"], sizes["OUTPUTS"])
    found = torch.empty(size, dtype=torch.float32, device=rows.device)
    kernels.backward_weight[(tiles, columns, parts)](
        gradient, rows, moves.contiguous(), None if mask is None else mask.contiguous(), found,
        positions_a_part=a_part, **sizes, **shape, **launch,
    )  # fmt: skip
    # [segments, K, channels, outputs] -> [groups, outputs, segments of the group, channels, K]
    summed = found.sum(0).unflatten(0, (-1, sizes["SEGMENTS_A_GROUP"])).permute(0, 4, 1, 3, 2)
    return torch.empty_like(weight).copy_(summed.reshape(weight.shape))


def _sizes(dynamic, input, moves, weight, mask, stride, padding, dilation) -> Sizes:
    """What all kernels are told of a call."""
    axes = input.dim() - 2

    def triple(values: Sequence[int], first: int) -> tuple[int, ...]:
        return (*([first] * (3 - axes)), *values)

    _, out_y, out_x = triple(moves.shape[2:], 1)
    kernel, extent = triple(weight.shape[2:], 1), triple(input.shape[2:], 1)
    groups = input.shape[1] // weight.shape[1]
    offset_groups = 1 if dynamic else moves.shape[1] // (axes * math.prod(kernel))
    segments = math.lcm(groups, offset_groups)
    return {
        "batch": input.shape[0],
        "positions": math.prod(moves.shape[2:]),
        "out_y": out_y,
        "out_x": out_x,
        **dict(zip("THW", extent)),
        "C": input.shape[1],
        "O": weight.shape[0],
        "CHANNELS": input.shape[1] // segments,
        "OUTPUTS": weight.shape[0] // groups,
        "SEGMENTS": segments,
        "SEGMENTS_A_GROUP": segments // groups,
        "KERNEL": kernel,
        "STRIDE": triple(stride, 1),
        "PADDING": triple(padding, 0),
        "DILATION": triple(dilation, 1),
        "GROUPS": offset_groups,
        "AXES": axes,
        "DYNAMIC": dynamic,
        "HAS_MASK": mask is not None,
        "PRECISION": triton_support.precision(input),
    }


def _blocks(kernel: str, input: Tensor, sizes: Sizes) -> tuple[dict[str, int], dict[str, int]]:
    """The row of ``BLOCKS``, cut down to the sizes of the call."""
    positions, channels, outputs, warps, stages = BLOCKS[kernel, input.element_size()]
    shape = {
        "BLOCK_P": triton_support.block(sizes["batch"] * sizes["positions"], positions),
        "BLOCK_C": triton_support.block(sizes["CHANNELS"], channels),
        "BLOCK_O": triton_support.block(sizes["OUTPUTS"], triton_support.outputs_that_fit(outputs, input)),
    }
    return shape, {"num_warps": warps, "num_stages": stages}


def _rows(tensor: Tensor) -> Tensor:
    """Channels last and dense; no copy where the tensor lies so."""
    return tensor.movedim(1, -1).contiguous()


def _by_segment(weight: Tensor, sizes: Sizes) -> Tensor:
    """The weight as [segments, K, outputs of the group, channels of the segment]."""
    outputs, parts, channels = sizes["OUTPUTS"], sizes["SEGMENTS_A_GROUP"], sizes["CHANNELS"]
    five = weight.reshape(-1, outputs, parts, channels, math.prod(sizes["KERNEL"]))
    return five.permute(0, 2, 4, 1, 3).flatten(0, 1)
