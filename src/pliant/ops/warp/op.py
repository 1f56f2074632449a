"""Backward bilinear warp by a field of displacements."""

from __future__ import annotations

from torch import Tensor

from pliant.ops.warp.reference import warp_reference

__all__ = ["warp"]


def warp(input: Tensor, offset: Tensor) -> Tensor:
    """Each position of the result reads the input at its own place plus an offset, bilinearly, zero outside.

    ``out[n, c, y, x] = input[n, c, y + offset[n, 0, y, x], x + offset[n, 1, y, x]]``. A corner outside the input
    counts as 0, corner by corner; an offset that is not a number reads outside.

    Args:
        input: [N, C, H, W], any float dtype.
        offset: [N, 2, H, W], (dy, dx) in pixels of the input; any float dtype, used in float32 at least.

    Returns:
        [N, C, H, W], the dtype of ``input``.

    Raises:
        ValueError: the shapes do not fit.
        TypeError: a dtype is not a float.

    Source: the warp of RPM-Net, layer 109 of its table (Kim et al., WACV 2020).
    """
    check(input, offset)
    return warp_reference(input, offset)


def check(input: Tensor, offset: Tensor) -> None:
    if input.dim() != 4:
        raise ValueError(f"input must be [N, C, H, W], got {list(input.shape)}.")
    expected = [input.shape[0], 2, *input.shape[2:]]
    if list(offset.shape) != expected:
        raise ValueError(
            f"offset must be [N, 2, H, W] = {expected} for an input of {list(input.shape)}, got {list(offset.shape)}."
        )
    for name, tensor in (("input", input), ("offset", offset)):
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must hold floats, got {tensor.dtype}.")
    if input.device != offset.device:
        raise ValueError(f"input is on {input.device}, offset on {offset.device}; both must be on one device.")
