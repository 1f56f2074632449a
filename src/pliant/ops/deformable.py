"""What the deformable convolutions share: output sizes, checks, the grid of taps, the product with the
weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pliant.ops.arguments import autocast, check_same_dtype, check_tensors, per_axis, precise


def output_extent(
    extent: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> list[int]:
    """Positions of the output an axis: (n + 2 padding - dilation (k - 1) - 1) // stride + 1."""
    return [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(extent, kernel, stride, padding, dilation)
    ]


def taps(positions: Tensor, kernel: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """Index of each tap times the dilation, [A, K], in the order of the kernel's memory (last axis
    fastest).
    """
    grids = torch.meshgrid(*(torch.arange(k) for k in kernel), indexing="ij")
    grid = torch.stack([g.reshape(-1) for g in grids]) * torch.tensor(list(dilation)).view(-1, 1)
    return grid.to(positions)


def origins(positions: Tensor, out: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """Where the first tap of each output position lies, without offset: u s - p, [A, *out]."""
    axes = [torch.arange(n) * s - p for n, s, p in zip(out, stride, padding)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).to(positions)


def contract(columns: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Sum over channels and taps: columns [N, C, K, *out], weight [O, C/groups, *kernel] -> [N, O, *out]."""
    batch, channels, count, *out = columns.shape
    outputs, inner = weight.shape[0], weight.shape[1]
    groups = channels // inner
    columns = columns.reshape(batch, groups, inner * count, math.prod(out))
    flat = weight.reshape(groups, outputs // groups, inner * count)
    result = torch.einsum("ngkp,gok->ngop", columns, flat).reshape(batch, outputs, *out)
    return result if bias is None else result + bias.view(1, -1, *([1] * len(out)))


def prepare(
    operator: str,
    input: Tensor,
    steering: tuple[str, Tensor, int],
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    dilation: int | Sequence[int],
) -> tuple:
    """Checks the arguments of a deformable convolution, applies autocast, and returns them as its kernels
    want them:
    (input, steering, weight, bias, mask, stride, padding, dilation).

    ``steering``: name, tensor and channels of what moves the taps; the channels are a number (exact), or
    negative:
    minus the channels of one offset group.
    """
    name, moves, channels = steering
    axes = input.dim() - 2
    check_tensors(operator, "input", input=input, **{name: moves}, weight=weight, bias=bias, mask=mask)
    input, weight, bias = autocast(input, weight, bias)
    check_same_dtype(operator, "input", input=input, weight=weight, bias=bias)
    stride = per_axis(operator, "stride", stride, axes, 1)
    padding = per_axis(operator, "padding", padding, axes, 0)
    dilation = per_axis(operator, "dilation", dilation, axes, 1)
    _check_shapes(operator, input, weight, bias)
    kernel = weight.shape[2:]
    out = output_extent(input.shape[2:], kernel, stride, padding, dilation)
    if min(out) < 1:
        raise ValueError(
            f"{operator}: the output would be {'x'.join(map(str, out))}: input {list(input.shape[2:])}, "
            f"kernel {list(kernel)}, stride {stride}, padding {padding}, dilation {dilation}"
        )
    count = math.prod(kernel)
    if channels < 0:
        groups, rest = divmod(moves.shape[1] if moves.dim() > 1 else 0, -channels)
        if rest or groups < 1 or input.shape[1] % groups:
            raise ValueError(
                f"{operator}: {name} has {moves.shape[1] if moves.dim() > 1 else 0} channels; expected "
                f"{-channels} ({axes} axes x {count} taps) times a number of offset groups that divides the "
                f"{input.shape[1]} input channels"
            )
        channels = -channels * groups
    else:
        groups = 1
    _check_map(operator, name, moves, [input.shape[0], channels, *out])
    if mask is not None:
        _check_map(operator, "mask", mask, [input.shape[0], groups * count, *out])
    return input, precise(moves, input), weight, bias, precise(mask, input), stride, padding, dilation


def _check_shapes(operator: str, input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    if weight.dim() != input.dim():
        raise ValueError(f"{operator}: weight has {weight.dim()} axes, expected {input.dim()} as input has")
    channels, outputs, inner = input.shape[1], weight.shape[0], weight.shape[1]
    if inner == 0 or channels % inner or outputs % (channels // inner):
        raise ValueError(
            f"{operator}: weight {list(weight.shape)} does not fit input {list(input.shape)}: its second "
            f"size must divide the {channels} input channels, and that quotient (the groups) its first size"
        )
    if bias is not None and list(bias.shape) != [outputs]:
        raise ValueError(
            f"{operator}: bias is {list(bias.shape)}, expected [{outputs}], one for each row of weight"
        )


def _check_map(operator: str, name: str, tensor: Tensor, expected: list[int]) -> None:
    if list(tensor.shape) != expected:
        raise ValueError(
            f"{operator}: {name} is {list(tensor.shape)}, expected {expected} "
            f"(batch, channels, then the output's extent {expected[2:]})"
        )


def check_axes(operator: str, input: Tensor, axes: int) -> None:
    """``input`` must be [N, C, ...] with that many further axes."""
    if input.dim() != axes + 2:
        layout = "[N, C, T, H, W]" if axes == 3 else "[N, C, H, W]"
        raise ValueError(
            f"{operator}: input must be {layout}, but has {input.dim()} axes: {list(input.shape)}"
        )
