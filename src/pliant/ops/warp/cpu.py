"""The native kernel of warp: corners found once a row for all channels, float32 or bfloat16."""

from __future__ import annotations

import torch
from torch import Tensor

from pliant.ops import native
from pliant.ops.arguments import empty_output


def why_unavailable() -> str | None:
    return native.why_missing()


def why_unsupported(input, offset) -> str | None:
    if input.dtype not in (torch.float32, torch.bfloat16):
        return f"the kernel takes float32 and bfloat16, not {input.dtype}"
    return None


def forward(input: Tensor, offset: Tensor) -> Tensor:
    dense = input.contiguous()
    out = torch.empty_like(dense)
    torch.ops.pliant_native.warp(dense, _ready(offset), out)
    promised = empty_output(input, input.shape)
    return out if out.stride() == promised.stride() else promised.copy_(out)


def backward(gradient: Tensor, input: Tensor, offset: Tensor, *, needed: list[bool]) -> list[Tensor]:
    gradient, field, found = gradient.contiguous(), _ready(offset), []
    if needed[0]:
        d_input = torch.zeros(input.shape, dtype=torch.float32)
        torch.ops.pliant_native.warp_d_input(gradient, field, d_input)
        found.append(d_input.to(input.dtype))
    if needed[1]:
        d_offset = torch.empty(offset.shape, dtype=torch.float32)
        torch.ops.pliant_native.warp_d_offset(gradient, input.contiguous(), field, d_offset)
        found.append(d_offset.to(offset.dtype))
    return found


def _ready(offset: Tensor) -> Tensor:
    return offset.float().contiguous()
