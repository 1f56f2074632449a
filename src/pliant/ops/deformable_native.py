"""The native kernels of the deformable convolutions (csrc/deformable_conv): layouts, packing, calls.

One kernel serves ``deform_conv2d``, ``deform_conv3d`` and ``dynamic_dilated_conv3d``: two dimensions are
three with one frame, and a dilation map is a second source of coordinates. bfloat16 runs on AMX where it is;
on other machines, and float16 everywhere, it is computed in float32 and rounded once at the end.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pliant.ops import native
from pliant.ops.arguments import empty_output

VECTOR_BYTES = {"plain": 16, "avx2": 32, "avx512": 64, "amx": 64}


@dataclass(frozen=True)
class Plan:
    """The sizes of one call, as the kernels want them; see csrc/deformable_conv/problem.h."""

    dtype: torch.dtype  # computed in
    batch: int
    extent: tuple[int, ...]
    out: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    channels: int
    outputs: int  # of all weight groups
    groups: int
    offset_groups: int
    axes: int
    dynamic: bool
    lanes: int  # numbers a vector (of float32, where bfloat16 is computed)
    strip: int  # columns that the matrix product takes together

    @property
    def taps(self) -> int:
        return math.prod(self.kernel)

    @property
    def positions(self) -> int:
        return math.prod(self.out)

    @property
    def segments(self) -> int:
        """Runs of channels that share offset group and weight group."""
        return math.lcm(self.groups, self.offset_groups)

    @property
    def amx(self) -> bool:
        return self.dtype == torch.bfloat16

    @property
    def segment(self) -> int:
        """Channels of a segment, padded to whole vectors (AMX: to the 32 of a tile)."""
        return _up(self.channels // self.segments, 32 if self.amx else self.lanes)

    @property
    def outputs_padded(self) -> int:
        return _up(self.outputs // self.groups, 32 if self.amx else self.lanes)

    @property
    def chunk(self) -> int:
        """Channels of a task of the backward pass: few enough that there are several tasks."""
        if self.amx:
            return 64 if self.segment % 64 == 0 and self.segments * self.segment >= 256 else 32
        width = self.strip
        while width > self.lanes and (self.segment % width or self.segments * self.segment // width < 4):
            width -= self.lanes
        return width

    def block(self, rows: int, least: int) -> int:
        """Positions a block: about 220, fewer where there are few, a multiple of ``rows``."""
        blocks = max(1, -(-self.batch * self.positions // 224), min(8, self.batch * self.positions // least))
        return _up(-(-self.batch * self.positions // blocks), rows)

    def numbers(self, block: int) -> list[int]:
        return [
            self.batch,
            *self.extent,
            *self.out,
            *self.kernel,
            *self.stride,
            *self.padding,
            *self.dilation,
            self.groups,
            self.offset_groups,
            self.segments,
            self.segment,
            self.outputs // self.groups,
            self.outputs_padded,
            self.axes,
            int(self.dynamic),
            block,
            self.chunk,
            _up(self.positions, 32),
        ]


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def plan(
    input: Tensor,
    moves: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    dynamic: bool,
) -> Plan:
    """The plan of a call whose arguments were checked."""
    axes = input.dim() - 2
    level = native.instruction_set()
    dtype = input.dtype
    if dtype == torch.float16 or (dtype == torch.bfloat16 and level != "amx"):
        dtype = torch.float32
    size = 8 if dtype == torch.float64 else 4
    lanes = VECTOR_BYTES[level] // size

    def triple(values: Sequence[int], first: int) -> tuple[int, ...]:
        return (*([first] * (3 - axes)), *values)

    return Plan(
        dtype=dtype,
        batch=input.shape[0],
        extent=triple(input.shape[2:], 1),
        out=triple(moves.shape[2:], 1),
        kernel=triple(weight.shape[2:], 1),
        stride=triple(stride, 1),
        padding=triple(padding, 0),
        dilation=triple(dilation, 1),
        channels=input.shape[1],
        outputs=weight.shape[0],
        groups=input.shape[1] // weight.shape[1],
        offset_groups=1 if dynamic else moves.shape[1] // (axes * math.prod(weight.shape[2:])),
        axes=axes,
        dynamic=dynamic,
        lanes=lanes,
        strip=lanes * (4 if VECTOR_BYTES[level] == 64 else 2),
    )


def why_unsupported(input: Tensor, *rest: object) -> str | None:
    """The kernels cover every call whose index arithmetic fits 31 bits an axis."""
    return (
        None if max(input.shape[2:]) < 2**30 else f"an extent of {max(input.shape[2:])} does not fit 31 bits"
    )


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
    p = plan(input, moves, weight, stride, padding, dilation, dynamic)
    output = empty_output(input, [p.batch, p.outputs, *moves.shape[2:]])
    if output.numel() == 0:
        return output
    rows = output.movedim(1, -1)
    direct = rows.is_contiguous() and output.dtype == p.dtype
    computed = rows if direct else torch.empty(rows.shape, dtype=p.dtype)
    torch.ops.pliant_native.deformable_conv(
        _rows(input, p),
        moves.contiguous(),
        _packed(weight, p),
        None if bias is None else _padded_bias(bias, p),
        None if mask is None else mask.contiguous(),
        computed,
        p.numbers(p.block(32, 32) if p.amx else p.block(6, 24)),
    )
    if not direct:
        rows.copy_(computed)
    return output


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
    p = plan(input, moves, weight, stride, padding, dilation, dynamic)
    found = {4: None if mask is None else torch.zeros_like(mask)}
    if gradient.numel() == 0:
        found |= {i: torch.zeros_like(t) for i, t in enumerate((input, moves, weight, bias)) if t is not None}
    else:
        if needed[3]:
            found[3] = _sum_bias(gradient).to(bias.dtype)
        if needed[0] or needed[1] or needed[2] or needed[4]:
            found |= _backward(p, gradient, input, moves, weight, mask)
    return [found[i] for i, need in enumerate(needed) if need]


def _sum_bias(gradient: Tensor) -> Tensor:
    wide = gradient if gradient.dtype == torch.float64 else gradient.float()
    return wide.sum(dim=(0, *range(2, gradient.dim())))


def _backward(
    p: Plan, gradient: Tensor, input: Tensor, moves: Tensor, weight: Tensor, mask: Tensor | None
) -> dict[int, Tensor]:
    real = moves.dtype
    chunks = p.segments * p.segment // p.chunk
    steering = (3,) if p.dynamic else (p.taps, p.axes)
    d_rows = torch.zeros(p.batch, *p.extent, p.segments * p.segment, dtype=real)
    d_moves = torch.empty(chunks, p.batch, *steering, p.positions, dtype=real)
    outputs = p.outputs_padded if p.amx else p.outputs // p.groups
    d_weight = torch.zeros(chunks, p.taps, outputs, p.chunk, dtype=real)
    d_mask = None if mask is None else torch.empty(chunks, p.batch, p.taps, p.positions, dtype=real)
    if p.amx:
        rows, planes = _padded_gradient(gradient, p)
    else:
        rows, planes = gradient.movedim(1, -1).to(p.dtype).contiguous(), None
    torch.ops.pliant_native.deformable_conv_backward(
        rows,
        planes,
        _rows(input, p),
        moves.contiguous(),
        _packed_backward(weight, p),
        None if mask is None else mask.contiguous(),
        d_rows,
        d_moves,
        d_weight,
        d_mask,
        p.numbers(p.block(32, 32) if p.amx else p.block(6, 24)),
    )
    found = {
        0: _unrows(d_rows, input, p),
        1: _sum_chunks(d_moves, p).reshape(moves.shape),
        2: _unpacked(d_weight, weight, p),
    }
    if mask is not None:
        found[4] = _sum_chunks(d_mask, p).reshape(mask.shape)
    return found


def _padded_gradient(gradient: Tensor, p: Plan) -> tuple[Tensor, Tensor]:
    """The gradient channels-last and channels-first, positions and outputs of a group padded with zeros to
    32.
    """
    flat = gradient.reshape(p.batch, p.groups, p.outputs // p.groups, p.positions)
    more = (0, _up(p.positions, 32) - p.positions, 0, p.outputs_padded - flat.shape[2])
    planes = torch.nn.functional.pad(flat, more).flatten(1, 2).contiguous()
    return planes.transpose(1, 2).contiguous(), planes


def _rows(input: Tensor, p: Plan) -> Tensor:
    """Channels last, [N, T, H, W, segments, segment]; no copy where the input lies so and fills its
    segments.
    """
    rows = input.to(p.dtype).movedim(1, -1).contiguous()
    inner = p.channels // p.segments
    if inner == p.segment:
        return rows
    padded = rows.new_zeros(*rows.shape[:-1], p.segments, p.segment)
    padded[..., :inner] = rows.unflatten(-1, (p.segments, inner))
    return padded


def _unrows(rows: Tensor, like: Tensor, p: Plan) -> Tensor:
    """The gradient of the input, in its shape and strides, out of ``_rows``' layout."""
    if p.amx:
        rows = _even_before_odd_undone(rows, 4)
    inner = p.channels // p.segments
    rows = rows.unflatten(-1, (p.segments, p.segment))[..., :inner].flatten(-2)
    result = torch.empty_like(like)
    return result.copy_(rows.reshape(p.batch, *like.shape[2:], p.channels).movedim(-1, 1))


def _sum_chunks(partial: Tensor, p: Plan) -> Tensor:
    """Sum over the chunks of each offset group, in order: [chunks, N, ...] -> [N, offset groups, ...]."""
    by_group = partial.unflatten(0, (p.offset_groups, -1))
    total = by_group[:, 0].clone()
    for i in range(1, by_group.shape[1]):
        total += by_group[:, i]
    return total.movedim(0, 1)


def _by_segment(weight: Tensor, p: Plan) -> Tensor:
    """[groups, outputs, segments a group, channels, taps], in the dtype of the computation."""
    a_group, inner = p.segments // p.groups, p.channels // p.segments
    return weight.to(p.dtype).reshape(p.groups, p.outputs // p.groups, a_group, inner, p.taps)


def _pack(weight: Tensor, p: Plan) -> Tensor:
    """[groups][strips][taps, segments a group, segment, columns of the strip]: what the forward multiplies
    with.
    """
    five = _by_segment(weight, p)
    shape = (p.groups, p.outputs_padded, *five.shape[2:3], p.segment, p.taps)
    if shape != five.shape:
        padded = five.new_zeros(shape)
        padded[:, : five.shape[1], :, : five.shape[3]] = five
        five = padded
    deep = five.permute(0, 4, 2, 3, 1).flatten(1, 3)  # [groups, depth, outputs]
    if p.amx:  # [groups][32 outputs][32 of the depth][16 outputs][pair of the depth][output][2]
        tiles = deep.unflatten(2, (-1, 2, 16)).unflatten(1, (-1, 16, 2))
        return tiles.permute(0, 4, 1, 5, 2, 6, 3).contiguous()
    whole = p.outputs_padded // p.strip * p.strip
    main = deep[..., :whole].unflatten(-1, (whole // p.strip, p.strip)).transpose(1, 2)
    return torch.cat([main.flatten(1), deep[..., whole:].flatten(1)], dim=1)


def _packed_backward(weight: Tensor, p: Plan) -> Tensor:
    """[chunks, taps, outputs, chunk]: what the backward multiplies the gradient with."""
    five = _by_segment(weight, p)
    inner = five.shape[3]
    if inner != p.segment:
        padded = five.new_zeros(*five.shape[:3], p.segment, p.taps)
        padded[:, :, :, :inner] = five
        five = padded
    if p.amx:
        return _packed_tiles(five, p)
    split = five.unflatten(3, (p.segment // p.chunk, p.chunk))
    # [groups, outputs, segments, parts, chunk, taps] -> [groups, segments, parts, taps, outputs, chunk]
    return split.permute(0, 2, 3, 5, 1, 4).contiguous()


def _packed_tiles(five: Tensor, p: Plan) -> Tensor:
    """[chunks, taps, 32 outputs, tile of 16 channels, pair of outputs, channel, 2]; even channels before
    odd.
    """
    five = torch.nn.functional.pad(five, (0, 0, 0, 0, 0, 0, 0, p.outputs_padded - five.shape[1]))
    split = five.unflatten(3, (p.segment // p.chunk, p.chunk // 32, 16, 2)).unflatten(1, (-1, 16, 2))
    # groups, 32 outputs, pair, 2, segments, parts, 32 channels, channel, odd, taps
    order = (0, 4, 5, 9, 1, 6, 8, 2, 7, 3)
    return split.permute(order).contiguous()


def _even_before_odd_undone(tensor: Tensor, dim: int) -> Tensor:
    """Runs of 32 channels along ``dim``, even ones first, put back in order."""
    return tensor.unflatten(dim, (-1, 2, 16)).transpose(dim + 1, dim + 2).flatten(dim, dim + 2)


def _unpacked(d_weight: Tensor, like: Tensor, p: Plan) -> Tensor:
    """The gradient of the weight out of [chunks, taps, outputs, chunk]."""
    if p.amx:
        d_weight = _even_before_odd_undone(d_weight[:, :, : p.outputs // p.groups], 3)
    a_group, inner = p.segments // p.groups, p.channels // p.segments
    six = d_weight.unflatten(0, (p.groups, a_group, p.segment // p.chunk))
    five = six.permute(0, 4, 1, 2, 5, 3).flatten(3, 4)[:, :, :, :inner]
    return torch.empty_like(like).copy_(five.reshape(like.shape))


def _padded_bias(bias: Tensor, p: Plan) -> Tensor:
    wide = bias.to(torch.float32 if p.amx else p.dtype).view(p.groups, -1)
    return torch.nn.functional.pad(wide, (0, p.outputs_padded - wide.shape[1])).contiguous()


# Packed weights that stay for inference: id of the weight -> (the weight, its state, how it was packed, the
# result).
_kept: dict[int, tuple[weakref.ref, tuple, Tensor, Tensor]] = {}


def _packed(weight: Tensor, p: Plan) -> Tensor:
    """The packed weight; kept between calls while no gradient is recorded and the weight stays what it was.

    Whether it did is told by its version counter and, since writing through ``.data`` does not count there,
    by a sample of its numbers.
    """
    if weight.is_inference() or (torch.is_grad_enabled() and weight.requires_grad):
        return _pack(weight, p)
    flat = weight.detach().reshape(-1)
    sample = flat[:: max(1, flat.numel() // 61)].clone()
    state = (weight._version, weight.data_ptr(), p.dtype, p.lanes, p.groups, p.segments)
    known = _kept.get(id(weight))
    if known is not None and known[0]() is weight and known[1] == state and torch.equal(known[2], sample):
        return known[3]
    packed = _pack(weight, p)
    key = id(weight)
    _kept[key] = (weakref.ref(weight, lambda _: _kept.pop(key, None)), state, sample, packed)
    return packed
