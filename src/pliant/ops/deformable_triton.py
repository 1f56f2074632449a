"""The Triton kernels of ``deform_conv2d``, ``deform_conv3d`` and ``dynamic_dilated_conv3d``.

An implicit matrix product: a program blends the samples of a block of positions and channels in registers and
multiplies them with a block of the weight; no column matrix exists. Two dimensions are three with one frame, and a
dilation map is a second source of coordinates. Layouts are those of deformable_gpu.py: rows [N T H W, C] of the input,
rows [N P, O] of the output, moves [N, G K A, P], mask [N, G K, P], with P output positions of an image and G offset
groups; weights [segments, K, channels, outputs], a segment being a run of channels that share both kinds of groups.
Coordinates and sums are float32; products take the dtype of the input.
"""

from __future__ import annotations

import triton
import triton.language as tl

from pliant.ops.triton_sampling import cell, corner_of


@triton.jit
def _move(
    moves, image, at, positions, live, tap, group, base, rate, axis: tl.constexpr,
    TAPS: tl.constexpr, GROUPS: tl.constexpr, AXES: tl.constexpr, DYNAMIC: tl.constexpr,
):  # fmt: skip
    """How far a tap lies from where a plain convolution reads, along one axis (0 t, 1 y, 2 x)."""
    if DYNAMIC:
        # The tap in the centre stays there, whatever the rate, also an infinite one.
        moved = tl.where(base == 0.0, 0.0, base * (rate - 1.0))
    else:
        channel = ((image * GROUPS + group) * TAPS + tap) * AXES + axis - (3 - AXES)
        moved = tl.load(moves + channel * positions + at, mask=live, other=0.0)
    return moved


@triton.jit
def _tap(
    moves, image, at, positions, live, tap, group, rate_t, rate_y, rate_x,
    out_y, out_x, T, H, W,
    KERNEL: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, DILATION: tl.constexpr,
    GROUPS: tl.constexpr, AXES: tl.constexpr, DYNAMIC: tl.constexpr,
):  # fmt: skip
    """First corner and fraction of one tap's sample at each position of the block, and the tap's distance from the
    centre of the kernel, axis by axis.
    """
    TAPS: tl.constexpr = KERNEL[0] * KERNEL[1] * KERNEL[2]
    tap_t, tap_y, tap_x = tap // (KERNEL[1] * KERNEL[2]), tap // KERNEL[2] % KERNEL[1], tap % KERNEL[2]
    base_t = DILATION[0] * (tap_t - (KERNEL[0] - 1) / 2)
    base_y = DILATION[1] * (tap_y - (KERNEL[1] - 1) / 2)
    base_x = DILATION[2] * (tap_x - (KERNEL[2] - 1) / 2)
    t = (at // (out_x * out_y) * STRIDE[0] - PADDING[0] + tap_t * DILATION[0]).to(tl.float32)
    y = (at // out_x % out_y * STRIDE[1] - PADDING[1] + tap_y * DILATION[1]).to(tl.float32)
    x = (at % out_x * STRIDE[2] - PADDING[2] + tap_x * DILATION[2]).to(tl.float32)
    if AXES == 3:
        t += _move(moves, image, at, positions, live, tap, group, base_t, rate_t, 0, TAPS, GROUPS, AXES, DYNAMIC)
    y += _move(moves, image, at, positions, live, tap, group, base_y, rate_y, 1, TAPS, GROUPS, AXES, DYNAMIC)
    x += _move(moves, image, at, positions, live, tap, group, base_x, rate_x, 2, TAPS, GROUPS, AXES, DYNAMIC)
    t0, ft = cell(t, T)
    y0, fy = cell(y, H)
    x0, fx = cell(x, W)
    return t0, y0, x0, ft, fy, fx, base_t, base_y, base_x


@triton.jit
def _rates(moves, image, at, positions, live, DYNAMIC: tl.constexpr):
    """The three rates of each position; zeros where the offsets are free."""
    if DYNAMIC:
        start = moves + image * 3 * positions + at
        rate_t = tl.load(start, mask=live, other=0.0)
        rate_y = tl.load(start + positions, mask=live, other=0.0)
        rate_x = tl.load(start + 2 * positions, mask=live, other=0.0)
    else:
        rate_t = tl.zeros(at.shape, tl.float32)
        rate_y, rate_x = rate_t, rate_t
    return rate_t, rate_y, rate_x


@triton.jit
def _modulation(
    mask, image, at, positions, live, tap, group, TAPS: tl.constexpr, GROUPS: tl.constexpr, HAS: tl.constexpr
):
    if HAS:
        value = tl.load(mask + ((image * GROUPS + group) * TAPS + tap) * positions + at, mask=live, other=0.0)
    else:
        value = tl.full(at.shape, 1.0, tl.float32)
    return value


@triton.jit
def _blend(
    rows, image, t0, y0, x0, ft, fy, fx, T, H, W, live, modulation, channels, real,
    C: tl.constexpr, FRAMES: tl.constexpr,
):  # fmt: skip
    """Samples of a block of positions and channels, modulated, float32. A corner without weight is not read."""
    total = tl.zeros((t0.shape[0], channels.shape[0]), tl.float32)
    for frame in tl.static_range(FRAMES):
        wt = ft if frame else 1.0 - ft
        for corner in tl.static_range(4):
            row, inside, wy, wx = corner_of(image, t0 + frame, y0, x0, fy, fx, T, H, W, live, corner)
            weight = wt * wy * wx * modulation
            there = (inside & (weight != 0.0))[:, None] & real[None, :]
            value = tl.load(rows + row[:, None] * C + channels[None, :], mask=there, other=0.0)
            total += value.to(tl.float32) * weight[:, None]
    return total


@triton.jit
def forward(
    rows, moves, weight, bias, mask, out,
    batch, positions, out_y, out_x, T, H, W,
    C: tl.constexpr, O: tl.constexpr, CHANNELS: tl.constexpr, OUTPUTS: tl.constexpr,
    SEGMENTS: tl.constexpr, SEGMENTS_A_GROUP: tl.constexpr,
    KERNEL: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, DILATION: tl.constexpr,
    GROUPS: tl.constexpr, AXES: tl.constexpr, DYNAMIC: tl.constexpr,
    HAS_MASK: tl.constexpr, HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """One block of positions times one block of outputs of a weight group.

    CHANNELS: of a segment. OUTPUTS: of a weight group. GROUPS: offset groups.
    """
    TAPS: tl.constexpr = KERNEL[0] * KERNEL[1] * KERNEL[2]
    FRAMES: tl.constexpr = AXES - 1  # of a cell
    number = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    live = number < batch * positions
    image, at = (number // positions).to(tl.int64), number % positions
    blocks: tl.constexpr = (OUTPUTS + BLOCK_O - 1) // BLOCK_O
    weight_group = tl.program_id(1) // blocks
    output = tl.program_id(1) % blocks * BLOCK_O + tl.arange(0, BLOCK_O)
    real_output = output < OUTPUTS
    rate_t, rate_y, rate_x = _rates(moves, image, at, positions, live, DYNAMIC)
    total = tl.zeros((BLOCK_P, BLOCK_O), tl.float32)
    for part in range(SEGMENTS_A_GROUP):
        segment = weight_group * SEGMENTS_A_GROUP + part
        group = segment // (SEGMENTS // GROUPS)
        for tap in range(TAPS):
            t0, y0, x0, ft, fy, fx, _, _, _ = _tap(
                moves, image, at, positions, live, tap, group, rate_t, rate_y, rate_x, out_y, out_x, T, H, W,
                KERNEL, STRIDE, PADDING, DILATION, GROUPS, AXES, DYNAMIC,
            )  # fmt: skip
            modulation = _modulation(mask, image, at, positions, live, tap, group, TAPS, GROUPS, HAS_MASK)
            for first in range(0, CHANNELS, BLOCK_C):
                channel = first + tl.arange(0, BLOCK_C)
                real = channel < CHANNELS
                samples = _blend(
                    rows, image, t0, y0, x0, ft, fy, fx, T, H, W, live, modulation,
                    segment * CHANNELS + channel, real, C, FRAMES,
                )  # fmt: skip
                place = ((segment * TAPS + tap) * CHANNELS + channel)[:, None] * OUTPUTS + output[None, :]
                w = tl.load(weight + place, mask=real[:, None] & real_output[None, :], other=0.0)
                total = tl.dot(samples.to(w.dtype), w, total, input_precision=PRECISION)
    column = weight_group * OUTPUTS + output
    if HAS_BIAS:
        total += tl.load(bias + column, mask=real_output, other=0.0).to(tl.float32)[None, :]
    place = number.to(tl.int64)[:, None] * O + column[None, :]
    tl.store(out + place, total.to(out.dtype.element_ty), mask=live[:, None] & real_output[None, :])


@triton.jit
def backward_positions(
    gradient, rows, moves, weight, mask, d_rows, d_moves, d_mask,
    batch, positions, out_y, out_x, T, H, W, taps_a_part,
    C: tl.constexpr, O: tl.constexpr, CHANNELS: tl.constexpr, OUTPUTS: tl.constexpr,
    SEGMENTS: tl.constexpr, SEGMENTS_A_GROUP: tl.constexpr,
    KERNEL: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, DILATION: tl.constexpr,
    GROUPS: tl.constexpr, AXES: tl.constexpr, DYNAMIC: tl.constexpr,
    HAS_MASK: tl.constexpr, NEED_ROWS: tl.constexpr, NEED_MOVES: tl.constexpr, NEED_MASK: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """Gradients by the input (atomic additions), by offsets or rates, and by the modulation, for one block of positions
    and some of the taps.

    ``weight`` is [segments, K, outputs, channels] here. ``d_moves``: offsets as ``moves``; of rates one [3, N, P] for
    each part of the taps, to be summed.
    """
    TAPS: tl.constexpr = KERNEL[0] * KERNEL[1] * KERNEL[2]
    FRAMES: tl.constexpr = AXES - 1  # of a cell
    number = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    live = number < batch * positions
    image, at = (number // positions).to(tl.int64), number % positions
    part = tl.program_id(1)
    rate_t, rate_y, rate_x = _rates(moves, image, at, positions, live, DYNAMIC)
    sum_t = tl.zeros((BLOCK_P,), tl.float32)
    sum_y = tl.zeros((BLOCK_P,), tl.float32)
    sum_x = tl.zeros((BLOCK_P,), tl.float32)
    for tap in range(part * taps_a_part, tl.minimum((part + 1) * taps_a_part, TAPS)):
        for group in range(GROUPS):
            t0, y0, x0, ft, fy, fx, base_t, base_y, base_x = _tap(
                moves, image, at, positions, live, tap, group, rate_t, rate_y, rate_x, out_y, out_x, T, H, W,
                KERNEL, STRIDE, PADDING, DILATION, GROUPS, AXES, DYNAMIC,
            )  # fmt: skip
            modulation = _modulation(mask, image, at, positions, live, tap, group, TAPS, GROUPS, HAS_MASK)
            by_t = tl.zeros((BLOCK_P,), tl.float32)
            by_y = tl.zeros((BLOCK_P,), tl.float32)
            by_x = tl.zeros((BLOCK_P,), tl.float32)
            by_mask = tl.zeros((BLOCK_P,), tl.float32)
            for inner in range(SEGMENTS // GROUPS):
                segment = group * (SEGMENTS // GROUPS) + inner
                weight_group = segment // SEGMENTS_A_GROUP
                for first in range(0, CHANNELS, BLOCK_C):
                    channel = first + tl.arange(0, BLOCK_C)
                    real = channel < CHANNELS
                    column = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)  # gradient by the modulated sample
                    for start in range(0, OUTPUTS, BLOCK_O):
                        output = start + tl.arange(0, BLOCK_O)
                        real_output = output < OUTPUTS
                        place = number.to(tl.int64)[:, None] * O + (weight_group * OUTPUTS + output)[None, :]
                        g = tl.load(gradient + place, mask=live[:, None] & real_output[None, :], other=0.0)
                        place = ((segment * TAPS + tap) * OUTPUTS + output)[:, None] * CHANNELS + channel[None, :]
                        w = tl.load(weight + place, mask=real_output[:, None] & real[None, :], other=0.0)
                        column = tl.dot(g, w, column, input_precision=PRECISION)
                    for frame in range(FRAMES):  # not unrolled: eight corners at once do not fit the registers
                        wt = tl.where(frame == 1, ft, 1.0 - ft)
                        for corner in tl.static_range(4):
                            row, inside, wy, wx = corner_of(
                                image, t0 + frame, y0, x0, fy, fx, T, H, W, live, corner
                            )  # fmt: skip
                            place = row[:, None] * C + (segment * CHANNELS + channel)[None, :]
                            there = inside[:, None] & real[None, :]
                            share = wt * wy * wx
                            if NEED_ROWS:
                                amount = share * modulation
                                tl.atomic_add(
                                    d_rows + place, column * amount[:, None],
                                    mask=there & (amount != 0.0)[:, None], sem="relaxed",
                                )  # fmt: skip
                            if NEED_MOVES or NEED_MASK:
                                value = tl.load(rows + place, mask=there, other=0.0).to(tl.float32)
                                product = tl.sum(column * value, axis=1)
                                by_mask += product * share
                                by_t += product * (2 * frame - 1) * wy * wx
                                by_y += product * (wt * wx if corner // 2 else -wt * wx)
                                by_x += product * (wt * wy if corner % 2 else -wt * wy)
            if NEED_MASK:
                place = ((image * GROUPS + group) * TAPS + tap) * positions + at
                tl.store(d_mask + place, by_mask, mask=live)
            if NEED_MOVES:
                if DYNAMIC:
                    sum_t += base_t * modulation * by_t
                    sum_y += base_y * modulation * by_y
                    sum_x += base_x * modulation * by_x
                else:
                    place = ((image * GROUPS + group) * TAPS + tap) * AXES * positions + at
                    if AXES == 3:
                        tl.store(d_moves + place, modulation * by_t, mask=live)
                    tl.store(d_moves + place + (AXES - 2) * positions, modulation * by_y, mask=live)
                    tl.store(d_moves + place + (AXES - 1) * positions, modulation * by_x, mask=live)
    if NEED_MOVES and DYNAMIC:
        place = d_moves + (part * batch + image) * 3 * positions + at
        tl.store(place, sum_t, mask=live)
        tl.store(place + positions, sum_y, mask=live)
        tl.store(place + 2 * positions, sum_x, mask=live)


@triton.jit
def backward_weight(
    gradient, rows, moves, mask, d_weight,
    batch, positions, out_y, out_x, T, H, W, positions_a_part,
    C: tl.constexpr, O: tl.constexpr, CHANNELS: tl.constexpr, OUTPUTS: tl.constexpr,
    SEGMENTS: tl.constexpr, SEGMENTS_A_GROUP: tl.constexpr,
    KERNEL: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, DILATION: tl.constexpr,
    GROUPS: tl.constexpr, AXES: tl.constexpr, DYNAMIC: tl.constexpr,
    HAS_MASK: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """Gradient by the weight: one tap, block of channels and block of outputs, over one part of the positions;
    ``d_weight`` is [parts, segments, K, channels, outputs], to be summed over the parts.
    """
    TAPS: tl.constexpr = KERNEL[0] * KERNEL[1] * KERNEL[2]
    FRAMES: tl.constexpr = AXES - 1  # of a cell
    blocks: tl.constexpr = (CHANNELS + BLOCK_C - 1) // BLOCK_C
    tap = tl.program_id(0) // blocks % TAPS
    segment = tl.program_id(0) // blocks // TAPS
    part = tl.program_id(2)
    weight_group, group = segment // SEGMENTS_A_GROUP, segment // (SEGMENTS // GROUPS)
    channel = tl.program_id(0) % blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    real = channel < CHANNELS
    output = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    real_output = output < OUTPUTS
    total = tl.zeros((BLOCK_C, BLOCK_O), tl.float32)
    last = tl.minimum((part + 1) * positions_a_part, batch * positions)
    for start in range(part * positions_a_part, last, BLOCK_P):
        number = start + tl.arange(0, BLOCK_P)
        live = number < last
        image, at = (number // positions).to(tl.int64), number % positions
        rate_t, rate_y, rate_x = _rates(moves, image, at, positions, live, DYNAMIC)
        t0, y0, x0, ft, fy, fx, _, _, _ = _tap(
            moves, image, at, positions, live, tap, group, rate_t, rate_y, rate_x, out_y, out_x, T, H, W,
            KERNEL, STRIDE, PADDING, DILATION, GROUPS, AXES, DYNAMIC,
        )  # fmt: skip
        modulation = _modulation(mask, image, at, positions, live, tap, group, TAPS, GROUPS, HAS_MASK)
        samples = _blend(
            rows, image, t0, y0, x0, ft, fy, fx, T, H, W, live, modulation,
            segment * CHANNELS + channel, real, C, FRAMES,
        )  # fmt: skip
        place = number.to(tl.int64)[:, None] * O + (weight_group * OUTPUTS + output)[None, :]
        g = tl.load(gradient + place, mask=live[:, None] & real_output[None, :], other=0.0)
        total = tl.dot(tl.trans(samples.to(g.dtype)), g, total, input_precision=PRECISION)
    row = ((part * SEGMENTS + segment) * TAPS + tap) * CHANNELS + channel
    place = row.to(tl.int64)[:, None] * OUTPUTS + output[None, :]
    tl.store(d_weight + place, total, mask=real[:, None] & real_output[None, :])
