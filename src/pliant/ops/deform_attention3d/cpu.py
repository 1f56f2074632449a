"""The native kernels of deform_attention3d: float32 over vectors; halves go through float32."""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from pliant.ops import native

_STEP = 16  # channels of a head are filled up with zeros to a multiple: one vector of AVX-512


def why_unavailable() -> str | None:
    return native.why_missing()


def why_unsupported(value, shape, sampling_locations, attention_weights) -> str | None:
    if value.dtype == torch.float64:
        return "the kernels compute in float32, not in float64"
    if prod(shape) >= 2**31:
        return f"the kernels count cells in 32 bits, but there are {prod(shape)}"
    return None


def forward(value: Tensor, shape: list[int], sampling_locations: Tensor, attention_weights: Tensor) -> Tensor:
    wide, locations, weights = _by_head(value), sampling_locations.contiguous(), attention_weights.contiguous()
    out = wide.new_empty([value.shape[0], locations.shape[1], wide.shape[1], wide.shape[3]])
    torch.ops.pliant_native.deform_attention3d(wide, *shape, locations, weights, out)
    return out[..., : value.shape[3]].flatten(2).to(value.dtype)


def backward(gradient, value, shape, sampling_locations, attention_weights, *, needed) -> list[Tensor]:
    wide, locations, weights = _by_head(value), sampling_locations.contiguous(), attention_weights.contiguous()
    gradient = _filled(gradient.unflatten(2, value.shape[2:])).contiguous()
    found = torch.zeros_like(wide), torch.empty_like(locations), torch.empty_like(weights)
    torch.ops.pliant_native.deform_attention3d_backward(gradient, wide, *shape, locations, weights, *found)
    found = found[0][..., : value.shape[3]].to(value.dtype).transpose(1, 2).contiguous(), *found[1:]
    return [g for g, need in zip(found, needed) if need]


def _by_head(value: Tensor) -> Tensor:
    """[N, M, T H W, D], dense: the cells of a head side by side, so that its points touch few pages."""
    return _filled(value).transpose(1, 2).contiguous()


def _filled(value: Tensor) -> Tensor:
    """float32, channels of a head filled up."""
    return F.pad(value.float(), (0, -value.shape[3] % _STEP))
