"""Checks that the operators share: sizes given once or an axis, dtypes, devices, autocast, memory layout."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def per_axis(operator: str, name: str, value: int | Sequence[int], axes: int, least: int) -> list[int]:
    """``value`` as a list of ``axes`` integers; a single integer stands for all axes."""
    values = [value] * axes if isinstance(value, int) else list(value)
    if len(values) != axes or any(not isinstance(v, int) or v < least for v in values):
        raise ValueError(
            f"{operator}: {name} must be an integer or {axes} integers, at least {least}, not {value!r}"
        )
    return values


def check_tensors(operator: str, first: str, **tensors: Tensor | None) -> None:
    """All on one device and floating; ``first`` names the argument whose device the others must share."""
    device = tensors[first].device
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if tensor.dtype not in FLOATS:
            kinds = ", ".join(str(d).removeprefix("torch.") for d in FLOATS)
            raise TypeError(
                f"{operator}: {name} must be one of {kinds}, not {str(tensor.dtype).removeprefix('torch.')}"
            )
        if tensor.device != device:
            raise ValueError(
                f"{operator}: {name} is on {tensor.device}, {first} on {device}; move one of them"
            )


def check_same_dtype(operator: str, first: str, **tensors: Tensor | None) -> None:
    """All of one dtype; ``first`` names the argument that sets it."""
    dtype = tensors[first].dtype
    for name, tensor in tensors.items():
        if tensor is not None and tensor.dtype != dtype:
            names = [str(d).removeprefix("torch.") for d in (tensor.dtype, dtype)]
            raise TypeError(f"{operator}: {name} is {names[0]}, {first} is {names[1]}; they must be equal")


def autocast(*tensors: Tensor | None) -> list[Tensor | None]:
    """The tensors in autocast's dtype where autocast is on for their device (float64 stays), else as they
    are.
    """
    device = tensors[0].device.type
    if device == "meta" or not torch.is_autocast_enabled(device):
        return list(tensors)
    dtype = torch.get_autocast_dtype(device)
    return [t if t is None or t.dtype == torch.float64 else t.to(dtype) for t in tensors]


def precise(tensor: Tensor | None, like: Tensor) -> Tensor | None:
    """Coordinates and their weights: float64 beside float64 inputs, float32 beside all others."""
    return (
        tensor
        if tensor is None
        else tensor.to(torch.float64 if like.dtype == torch.float64 else torch.float32)
    )


def layout(input: Tensor) -> torch.memory_format:
    """Channels-last where ``input`` [N, C, (T,) H, W] lies so (and not contiguously as well), else
    contiguous.
    """
    last = torch.channels_last if input.dim() == 4 else torch.channels_last_3d
    if input.is_contiguous(memory_format=last) and not input.is_contiguous():
        return last
    return torch.contiguous_format


def empty_output(input: Tensor, shape: Sequence[int]) -> Tensor:
    """An empty tensor of ``input``'s dtype and device in its layout."""
    return torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=layout(input))
