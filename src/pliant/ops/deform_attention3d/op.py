"""deform_attention3d: each query sums the values at a few points of a space-time volume."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from pliant.ops.arguments import autocast, check_tensors, precise
from pliant.ops.backend import requested_backend
from pliant.ops.deform_attention3d import cpu
from pliant.ops.deform_attention3d.reference import deform_attention3d_reference
from pliant.ops.registration import register


def deform_attention3d(
    value: Tensor, shape: Sequence[int], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Weighted sums of values at fractional points of a volume, head by head, [N, Q, M D] (head-major).

    Y[n, q, m] = sum over k of A[n, q, m, k] V[n, m](u[n, q, m, k]),  u = location * (T, H, W) - 1/2

    V between cell centres (whole numbers) is trilinear, 0 outside, each corner for itself. A point that is infinite
    or not a number reads nothing.

    value: [N, T H W, M, D], positions in the order (t, y, x), float32, float64, bfloat16 or float16.
    shape: (T, H, W).
    sampling_locations: [N, Q, M, K, 3], (t, y, x) in units of the extent: 0 is the outer edge of the first cell, 1
        of the last. Computed in float32 at least.
    attention_weights: A, [N, Q, M, K]; not normalised here. Computed in float32 at least.

    Differentiable by every tensor (once); at cell centres the derivative by the location is the one from the right.
    Raises ValueError or TypeError where shapes, dtypes or devices do not fit.
    Source: Deformable VisTR (Yarram et al. 2022), Eq. 2; where points lie: Deformable DETR (Zhu et al. 2021).

    >>> value, locations = torch.randn(1, 60, 4, 8), torch.rand(1, 7, 4, 5, 3)
    >>> deform_attention3d(value, (3, 4, 5), locations, torch.rand(1, 7, 4, 5).softmax(3)).shape
    torch.Size([1, 7, 32])
    """
    (value,) = autocast(value)
    shape = [int(extent) for extent in shape]
    _check(value, shape, sampling_locations, attention_weights)
    return torch.ops.pliant.deform_attention3d(
        value,
        shape,
        precise(sampling_locations, value),
        precise(attention_weights, value),
        requested_backend(),
    )


def _check(value, shape, sampling_locations, attention_weights) -> None:
    name = "deform_attention3d"
    if value.dim() != 4 or sampling_locations.dim() != 5 or len(shape) != 3:
        raise ValueError(
            f"{name}: value must be [N, T H W, M, D], shape (T, H, W) and sampling_locations [N, Q, M, K, 3], "
            f"not {list(value.shape)}, {shape} and {list(sampling_locations.shape)}"
        )
    batch, positions, heads, _ = value.shape
    if min(shape) < 0 or prod(shape) != positions:
        raise ValueError(f"{name}: value has {positions} positions, but shape {shape} has {prod(shape)}")
    queries, points = sampling_locations.shape[1], sampling_locations.shape[3]
    expected = {
        "sampling_locations": (sampling_locations, [batch, queries, heads, points, 3]),
        "attention_weights": (attention_weights, [batch, queries, heads, points]),
    }
    for key, (tensor, size) in expected.items():
        if list(tensor.shape) != size:
            raise ValueError(
                f"{name}: {key} must be {size} beside value {list(value.shape)} and sampling_locations "
                f"{list(sampling_locations.shape)}, not {list(tensor.shape)}"
            )
    check_tensors(
        name, "value", value=value, sampling_locations=sampling_locations, attention_weights=attention_weights
    )


def _fake(value, shape, sampling_locations, attention_weights):
    batch, _, heads, width = value.shape
    return value.new_empty([batch, sampling_locations.shape[1], heads * width])


register(
    "deform_attention3d",
    "Tensor value, SymInt[] shape, Tensor sampling_locations, Tensor attention_weights",
    reference=deform_attention3d_reference,
    fake=_fake,
    cpu=cpu,
    gpu="pliant.ops.deform_attention3d.gpu",
)
