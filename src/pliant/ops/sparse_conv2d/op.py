"""A convolution that works only where its policy says so."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.modules.utils import _pair

from pliant.ops.sparse_conv2d.reference import ACTIVATIONS, sparse_conv2d_reference

__all__ = ["sparse_conv2d"]


def sparse_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    policy: Tensor,
    previous: Tensor | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    residual: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """A convolution that skips, reuses or computes each output position, as a policy says.

    Where ``policy`` is 0 (skip) the result is 0; where 1 (reuse) it is ``previous``; where 2 (compute) it is
    ``activation(conv2d(input, weight) + bias + residual)``. The time is proportional to the computed positions.

    Args:
        input: [N, C, H, W], any float dtype.
        weight: [O, C / groups, kh, kw], the dtype of ``input``.
        bias: [O] or None.
        policy: [N, 1, Ho, Wo], uint8, values 0, 1, 2; one decision for all channels of a position.
        previous: [N, O, Ho, Wo], the dtype of ``input``; None: reuse yields 0.
        stride, padding: as for ``torch.nn.functional.conv2d``; one number or (rows, columns).
        residual: [N, O, Ho, Wo] or None, added before the activation at computed positions.
        activation: None or ``"relu"``.

    Returns:
        [N, O, Ho, Wo], the dtype of ``input``; sums are made in float32 at least.

    Raises:
        ValueError: shapes or devices do not fit, or the activation is not known.
        TypeError: a dtype is wrong.

    Source: SpVOS (W. Lin et al.), Eq. 8.
    """
    stride, padding = _pair(stride), _pair(padding)
    check(input, weight, bias, policy, previous, stride, padding, residual, activation)
    return sparse_conv2d_reference(input, weight, bias, policy, previous, stride, padding, residual, activation)


def output_size(input: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> list[int]:
    return [
        (extent + 2 * pad - kernel) // step + 1
        for extent, kernel, step, pad in zip(input.shape[2:], weight.shape[2:], stride, padding)
    ]


def check(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    policy: Tensor,
    previous: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    residual: Tensor | None,
    activation: str | None,
) -> None:
    if input.dim() != 4 or weight.dim() != 4:
        raise ValueError(
            "input and weight must be [N, C, H, W] and [O, C / groups, kh, kw], "
            f"got {list(input.shape)} and {list(weight.shape)}."
        )
    groups, rest = divmod(input.shape[1], max(1, weight.shape[1]))
    if rest or groups < 1 or weight.shape[0] % groups:
        raise ValueError(
            f"input has {input.shape[1]} channels, weight takes {weight.shape[1]} a group and makes "
            f"{weight.shape[0]}: both must divide into the same whole number of groups."
        )
    if min(stride) < 1 or min(padding) < 0:
        raise ValueError(f"stride must be 1 or more and padding 0 or more, got {stride} and {padding}.")
    size = output_size(input, weight, stride, padding)
    if min(size) < 1:
        raise ValueError(
            f"a kernel of {list(weight.shape[2:])} does not fit into an input of {list(input.shape[2:])} "
            f"padded by {list(padding)}."
        )
    full = [input.shape[0], weight.shape[0], *size]
    wanted = {"bias": (bias, full[1:2]), "previous": (previous, full), "residual": (residual, full)}
    wanted["policy"] = (policy, [full[0], 1, *size])
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and list(tensor.shape) != shape:
            raise ValueError(f"{name} must be {shape} for this convolution, got {list(tensor.shape)}.")
    if policy.dtype != torch.uint8:
        raise TypeError(f"policy must be uint8 (0 skip, 1 reuse, 2 compute), got {policy.dtype}.")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be None or 'relu', got {activation!r}.")
    floats = {"input": input, "weight": weight, "bias": bias, "previous": previous, "residual": residual}
    for name, tensor in floats.items():
        if tensor is None:
            continue
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must hold floats, got {tensor.dtype}.")
        if tensor.dtype != input.dtype:
            raise TypeError(f"{name} is {tensor.dtype}, input {input.dtype}; give both in one dtype.")
        if tensor.device != input.device:
            raise ValueError(f"{name} is on {tensor.device}, input on {input.device}.")
    if policy.device != input.device:
        raise ValueError(f"policy is on {policy.device}, input on {input.device}.")
