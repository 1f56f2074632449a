"""What each operator is timed against: operator -> name of the baseline -> function of the case's arguments.

A baseline marked ``same`` computes the same numbers and is checked before it is timed; the others are dense
layers of the same shape, the yardstick of what the content-adaptive form costs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pliant.ops.deformable import origins, taps
from pliant.ops.dynamic_dilated_conv3d.reference import offsets


@dataclass(frozen=True)
class Baseline:
    """``prepare(arguments)`` turns the case's arguments into those of ``call`` (layouts: not timed)."""

    call: Callable[..., Tensor]
    prepare: Callable[[dict], dict] = lambda arguments: arguments
    same: bool = False


def channels_last(arguments: dict) -> dict:
    """Activations channels-last, all else as it is."""
    last = torch.channels_last_3d if arguments["input"].dim() == 5 else torch.channels_last
    return {**arguments, "input": arguments["input"].contiguous(memory_format=last)}


def _dense(arguments: dict) -> dict:
    arguments = channels_last(arguments)
    last = torch.channels_last_3d if arguments["input"].dim() == 5 else torch.channels_last
    return {**arguments, "weight": arguments["weight"].contiguous(memory_format=last)}


def dense_conv(input: Tensor, weight: Tensor, bias: Tensor | None = None, padding=0, **ignored) -> Tensor:
    """The ordinary convolution of the same shape."""
    conv = functional.conv3d if input.dim() == 5 else functional.conv2d
    return conv(input, weight, bias, padding=padding)


def by_grid_sample(input: Tensor, offset: Tensor, weight: Tensor, bias=None, mask=None, padding=0) -> Tensor:
    """The deformable convolution tap by tap: grid_sample, then a matrix product. Stride and dilation 1, one
    group.
    """
    kernel, axes = weight.shape[2:], weight.dim() - 2
    result = None
    for tap, sampled in enumerate(_sampled(input, offset, kernel, mask, padding)):
        at = next(itertools.islice(itertools.product(*map(range, kernel)), tap, None))
        product = torch.einsum("oc,nc...->no...", weight[(slice(None), slice(None), *at)], sampled)
        result = product if result is None else result + product
    return result if bias is None else result + bias.view(1, -1, *([1] * axes))


def by_columns(input: Tensor, offset: Tensor, weight: Tensor, bias=None, mask=None, padding=0) -> Tensor:
    """The same with all taps sampled first, into one matrix of columns, and one product."""
    kernel = weight.shape[2:]
    columns = torch.stack(list(_sampled(input, offset, kernel, mask, padding)), 2).flatten(1, 2).flatten(2)
    result = (weight.flatten(1) @ columns).unflatten(2, offset.shape[2:])
    return result if bias is None else result + bias.view(1, -1, *([1] * len(kernel)))


def _sampled(input: Tensor, offset: Tensor, kernel, mask, padding) -> Iterator[Tensor]:
    """[N, C, output] for each tap."""
    extent, out = input.shape[2:], offset.shape[2:]
    axes, count = len(kernel), kernel.numel()
    ones = [1] * axes
    start = origins(offset, out, ones, [padding] * axes)
    index = taps(offset, kernel, ones)
    scale = offset.new_tensor([2 / max(n - 1, 1) for n in extent]).view(-1, *ones)
    moved = offset.unflatten(1, (count, axes))
    for tap in range(count):
        position = start + index[:, tap].view(-1, *ones) + moved[:, tap]
        grid = (position * scale - 1).movedim(1, -1).flip(-1)
        sampled = functional.grid_sample(input, grid.to(input.dtype), align_corners=True)
        yield sampled if mask is None else sampled * mask[:, tap : tap + 1].to(input.dtype)


def dilated_by_grid_sample(input, dilation_map, weight, bias=None, mask=None, padding=0) -> Tensor:
    """The same for a dilation map, expanded to offsets."""
    offset = offsets(dilation_map, weight.shape[2:], [1, 1, 1])
    return by_grid_sample(input, offset, weight, bias, mask, padding)


def dilated_by_columns(input, dilation_map, weight, bias=None, mask=None, padding=0) -> Tensor:
    """As dilated_by_grid_sample, with one matrix of columns."""
    return by_columns(input, offsets(dilation_map, weight.shape[2:], [1, 1, 1]), weight, bias, mask, padding)


def attend_by_grid_sample(value, shape, sampling_locations, attention_weights) -> Tensor:
    """The deformable attention as Deformable DETR's own fallback has it, with a third axis."""
    batch, _, heads, width = value.shape
    volume = value.permute(0, 2, 3, 1).reshape(batch * heads, width, *shape)
    grid = (
        (2 * sampling_locations - 1).transpose(1, 2).flatten(0, 1).flip(-1).unsqueeze(3)
    )  # [N M, Q, K, 1, (x, y, t)]
    sampled = functional.grid_sample(volume, grid.to(value.dtype), align_corners=False).squeeze(
        4
    )  # [N M, D, Q, K]
    weights = attention_weights.transpose(1, 2).flatten(0, 1).unsqueeze(1).to(value.dtype)
    return (sampled * weights).sum(3).unflatten(0, (batch, heads)).flatten(1, 2).transpose(1, 2)


def whole_affinity(memory_key, query_key, memory_value, top_k=None, shrinkage=None, selection=None) -> Tensor:
    """The memory read by the whole affinity, all in the tensors' dtype (no shrinkage or selection)."""
    key = memory_key.flatten(2)
    similarity = 2 * (key.transpose(1, 2) @ query_key.flatten(2)) - key.square().sum(1).unsqueeze(2)
    similarity = similarity / key.shape[1] ** 0.5
    if top_k is None:
        affinity = similarity.softmax(1)
    else:
        kept, position = similarity.topk(top_k, 1)
        affinity = torch.zeros_like(similarity).scatter_(1, position, kept.softmax(1))
    return (memory_value.flatten(2) @ affinity).unflatten(2, query_key.shape[2:])


def warp_by_grid_sample(input: Tensor, offset: Tensor) -> Tensor:
    """The warp by grid_sample."""
    height, width = offset.shape[2:]
    y = torch.arange(height, dtype=offset.dtype).view(1, -1, 1) + offset[:, 0]
    x = torch.arange(width, dtype=offset.dtype).view(1, 1, -1) + offset[:, 1]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    return functional.grid_sample(input, grid.to(input.dtype), align_corners=False)


def sparse_channels_last(arguments: dict) -> dict:
    """Activations channels-last, the previous output and the residual too."""
    last = {"input", "previous", "residual"}
    return {
        key: value.contiguous(memory_format=torch.channels_last)
        if key in last and value is not None
        else value
        for key, value in arguments.items()
    }


_CONVOLUTION = {
    "dense": Baseline(dense_conv, _dense),
    "grid_sample": Baseline(by_grid_sample, same=True),
    "grid_sample columns": Baseline(by_columns, same=True),
}

BASELINES: dict[str, dict[str, Baseline]] = {
    "deform_conv2d": _CONVOLUTION,
    "deform_conv3d": _CONVOLUTION,
    "dynamic_dilated_conv3d": {
        "dense": Baseline(dense_conv, _dense),
        "grid_sample": Baseline(dilated_by_grid_sample, same=True),
        "grid_sample columns": Baseline(dilated_by_columns, same=True),
    },
    "deform_attention3d": {"grid_sample": Baseline(attend_by_grid_sample, same=True)},
    "memory_readout": {"dense": Baseline(whole_affinity, same=True)},
    "sparse_conv2d": {"dense": Baseline(dense_conv, _dense)},
    "warp": {"grid_sample": Baseline(warp_by_grid_sample, same=True)},
}
# How an operator's own arguments lie when it is timed.
LAYOUT: dict[str, Callable[[dict], dict]] = dict.fromkeys(BASELINES, channels_last) | {
    "deform_attention3d": dict,
    "memory_readout": dict,
    "sparse_conv2d": sparse_channels_last,
    "warp": dict,
}
