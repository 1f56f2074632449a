"""Attention that looks at a few points of a space-time volume."""

from __future__ import annotations

from math import prod

from torch import Tensor

from pliant.ops.deform_attention3d.reference import deform_attention3d_reference

__all__ = ["deform_attention3d"]


def deform_attention3d(
    value: Tensor, shape: tuple[int, int, int], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Each query sums the values at a few fractional points of a volume, head by head, with given weights.

    On each axis the coordinate is ``u = location * extent - 0.5`` (cell centres at whole numbers), and
    ``out[n, q, m] = sum_k weights[n, q, m, k] * trilinear(value[n, :, m], u)``. A corner outside the volume counts
    as 0, corner by corner; a point that is not a number reads nothing.

    Args:
        value: [N, T*H*W, M, D], positions in the order (t, y, x), any float dtype.
        shape: (T, H, W), the extent of the volume.
        sampling_locations: [N, Q, M, K, 3], (t, y, x) in units of the extent: 0 is the outer edge of the first
            cell, 1 of the last. Any float dtype, used in float32 at least.
        attention_weights: [N, Q, M, K], any float dtype; not normalised here.

    Returns:
        [N, Q, M * D], head-major, the dtype of ``value``; sums are made in float32 at least.

    Raises:
        ValueError: shapes or devices do not fit.
        TypeError: a dtype is not a float.

    Source: Deformable VisTR (Yarram et al., ICASSP 2022), Eq. 2; sampling rule of Deformable DETR.
    """
    shape = tuple(int(extent) for extent in shape)
    check(value, shape, sampling_locations, attention_weights)
    return deform_attention3d_reference(value, shape, sampling_locations, attention_weights)


def check(value: Tensor, shape: tuple[int, ...], sampling_locations: Tensor, attention_weights: Tensor) -> None:
    if value.dim() != 4 or sampling_locations.dim() != 5 or len(shape) != 3:
        raise ValueError(
            "value must be [N, T*H*W, M, D], shape (T, H, W) and sampling_locations [N, Q, M, K, 3], "
            f"got {list(value.shape)}, {shape} and {list(sampling_locations.shape)}."
        )
    batch, positions, heads, _ = value.shape
    if min(shape) < 0 or prod(shape) != positions:
        raise ValueError(f"value has {positions} positions, but shape {shape} has {prod(shape)}.")
    queries, points = sampling_locations.shape[1], sampling_locations.shape[3]
    wanted = {
        "sampling_locations": (sampling_locations, [batch, queries, heads, points, 3]),
        "attention_weights": (attention_weights, [batch, queries, heads, points]),
    }
    for name, (tensor, expected) in wanted.items():
        if list(tensor.shape) != expected:
            raise ValueError(f"{name} must be {expected} for this value, got {list(tensor.shape)}.")
    for name, tensor in {"value": value, **{name: tensor for name, (tensor, _) in wanted.items()}}.items():
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must hold floats, got {tensor.dtype}.")
        if tensor.device != value.device:
            raise ValueError(f"{name} is on {tensor.device}, value on {value.device}.")
