"""Native kernels of sparse_conv2d: float32 on vectors, bfloat16 on AMX or AVX512_BF16, else through float32.

In float32, 3 x 3 kernels of stride 1 work by tiles of 2 x 2 outputs where most of a tile is computed (Winograd's
F(2 x 2, 3 x 3): 16 multiplications instead of 36, and faster than the dense convolution even where all is computed).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pliant.ops import native
from pliant.ops.arguments import empty_output
from pliant.ops.packing import packed
from pliant.ops.sparse_conv2d.reference import COMPUTE, REUSE
from pliant.ops.winograd import pack_tiles, suits_tiles

DENSE_FROM = {torch.float32: 0.95, torch.bfloat16: 0.85}
"""Share of computed positions from which the dense convolution is faster, where nothing is fused into ours and tiles
do not fit."""
DENSE_GRADIENT_FROM = 0.5
"""Share of computed positions from which, in half precision, PyTorch's gradients of the dense convolution are faster.
Their sums may go by the number of threads: under ``torch.use_deterministic_algorithms`` ours are always taken."""
_GROUP = 16  # channels are filled up with zeros to a multiple for the gradients


def why_unavailable() -> str | None:
    return native.why_missing()


def why_unsupported(
    input, weight, bias, policy, previous, stride, padding, residual, activation
) -> str | None:
    if input.dtype == torch.float64:
        return "the kernels compute in float32 and bfloat16, not in float64"
    if input.shape[1] != weight.shape[1]:
        return f"the kernels take one group, not {input.shape[1] // weight.shape[1]}"
    if policy.numel() >= 2**31:
        return f"the kernels count positions in 32 bits, but there are {policy.numel()}"
    return None


def forward(input, weight, bias, policy, previous, stride, padding, residual, activation) -> Tensor:
    fused = residual is not None or activation is not None
    if not fused and not _fits_tiles(input, weight, stride) and _nearly_all(input, policy):
        out = F.conv2d(input, weight, bias, stride, padding)
        out = torch.where(policy == COMPUTE, out, 0)
        return out if previous is None else torch.where(policy == REUSE, previous, out)
    return _compute(input, weight, bias, policy, previous, stride, padding, residual, activation, None)


def forward_in_place(input, weight, bias, policy, previous, stride, padding, residual, activation) -> None:
    _compute(input, weight, bias, policy, None, stride, padding, residual, activation, previous)


def backward(
    gradient, input, weight, bias, policy, previous, stride, padding, residual, activation, *, needed
) -> list[Tensor]:
    computed = policy == COMPUTE
    kept = torch.where(computed, gradient, 0)
    if activation == "relu":
        out = _compute(input, weight, bias, policy, None, stride, padding, residual, activation, None)
        kept = torch.where(out > 0, kept, 0)
    needs_input, needs_weight, needs_bias, _, needs_previous, needs_residual = needed
    by_input = by_weight = by_bias = None
    half = input.dtype != torch.float32
    if half and not torch.are_deterministic_algorithms_enabled() and _share(computed) > DENSE_GRADIENT_FROM:
        by_input, by_weight, by_bias = torch.ops.aten.convolution_backward(
            kept, input, weight, [weight.shape[0]], stride, padding, [1, 1], False, [0, 0], 1,
            [needs_input, needs_weight, needs_bias],
        )  # fmt: skip
        needs_input = needs_weight = needs_bias = False
    if needs_input:
        by_input = _input_gradient(kept, computed, input, weight, stride, padding)
    if needs_weight or needs_bias:
        _, by_weight, by_bias = _native_gradients(kept, computed, input, weight, stride, padding, by_input=False)
    by_previous = torch.where(policy == REUSE, gradient, 0) if needs_previous else None
    found = [by_input, by_weight, by_bias, None, by_previous, kept if needs_residual else None]
    return [g for g, need in zip(found, needed) if need]


def _input_gradient(gradient, computed, input, weight, stride, padding) -> Tensor:
    """Of stride 1: the convolution of the gradient with the turned weight, at the positions that it reaches."""
    rest = [kernel - 1 - pad for kernel, pad in zip(weight.shape[2:], padding)]
    if tuple(stride) != (1, 1) or min(rest) < 0 or input.numel() == 0:
        return _native_gradients(gradient, computed, input, weight, stride, padding, by_input=True)[0]
    wide = F.pad(computed.to(torch.float32), (rest[1], rest[1], rest[0], rest[0]))
    reached = F.max_pool2d(wide, tuple(weight.shape[2:]), 1) * COMPUTE
    turned = weight.detach().flip(2, 3).transpose(0, 1)
    gradient = gradient.to(input.dtype).contiguous(memory_format=torch.channels_last)
    found = _compute(gradient, turned, None, reached.to(torch.uint8), None, (1, 1), rest, None, None, None)
    return found.to(input.dtype)


def _native_gradients(
    gradient, computed, input, weight, stride, padding, *, by_input: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """By input, or by weight and bias, of the computed positions alone; sums in float32, in the same order always."""
    fill = -input.shape[1] % _GROUP
    rows = gradient.permute(0, 2, 3, 1)[computed[:, 0]].float().contiguous()
    place = torch.full(computed[:, 0].shape, -1, dtype=torch.int32)
    place[computed[:, 0]] = torch.arange(len(rows), dtype=torch.int32)
    cells = F.pad(input.permute(0, 2, 3, 1).float(), (0, fill)).contiguous()
    taps = F.pad(weight.detach().permute(2, 3, 0, 1).flatten(0, 1).float(), (0, fill)).contiguous()
    d_input, d_weight, d_bias = torch.empty_like(cells), torch.zeros_like(taps), torch.zeros(len(weight))
    torch.ops.pliant_native.sparse_conv2d_backward(
        rows, place, cells, taps, *weight.shape[2:], *stride, *padding, by_input, not by_input,
        d_input, d_weight, d_bias,
    )  # fmt: skip
    channels = input.shape[1]
    d_input = d_input[..., :channels].permute(0, 3, 1, 2)
    d_weight = d_weight[..., :channels].unflatten(0, tuple(weight.shape[2:])).permute(2, 3, 0, 1)
    return d_input.to(input.dtype), d_weight.to(weight.dtype), d_bias.to(weight.dtype)


def _share(computed: Tensor) -> float:
    return int(computed.sum()) / max(1, computed.numel())


def _nearly_all(input: Tensor, policy: Tensor) -> bool:
    share = DENSE_FROM.get(input.dtype)
    return share is not None and int((policy == COMPUTE).sum()) >= share * policy.numel() > 0


def _compute(
    input, weight, bias, policy, previous, stride, padding, residual, activation, place: Tensor | None
):
    """Into ``place``, which holds the previous output, or into a new tensor."""
    size = [input.shape[0], weight.shape[0], *policy.shape[2:]]
    out = empty_output(input, size) if place is None else place
    low = input.dtype == torch.bfloat16 and native.bfloat16_products()
    work = torch.bfloat16 if low else torch.float32

    def ready(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(work).contiguous(memory_format=torch.channels_last)

    direct = out.dtype == work and out.is_contiguous(memory_format=torch.channels_last)
    target = out if direct else torch.empty(size, dtype=work, memory_format=torch.channels_last)
    if place is not None and not direct:
        previous = place
    input, previous, residual, policy = ready(input), ready(previous), ready(residual), policy.contiguous()
    bias = None if bias is None else bias.float().contiguous()

    def run(tiled: bool) -> bool:
        order = (native.instruction_set(), "tiles" if tiled else work)
        pack = pack_tiles if tiled else lambda w: _pack(w.detach().to(work).contiguous())
        return torch.ops.pliant_native.sparse_conv2d(
            input,
            packed(weight, order, pack),
            tiled,
            *weight.shape[2:],
            bias,
            policy,
            previous,
            *stride,
            *padding,
            residual,
            activation == "relu",
            place is not None and direct,
            target,
        )

    by_tiles = _fits_tiles(input, weight, stride) and torch.ops.pliant_native.sparse_conv2d_tiles_pay(policy)
    if not by_tiles or not run(tiled=True):  # what is not finite spreads over a tile: then tap by tap
        run(tiled=False)
    return out if direct else out.copy_(target)


def _fits_tiles(input: Tensor, weight: Tensor, stride) -> bool:
    """Whether the kernels can work by tiles: in float32, 3 x 3, stride 1, whole vectors of channels."""
    low = input.dtype == torch.bfloat16 and native.bfloat16_products()
    return not low and suits_tiles(weight, stride)


def _pack(weight: Tensor) -> Tensor:
    elements = torch.ops.pliant_native.sparse_conv2d_packed_elements(weight, False)
    found = torch.empty(elements, dtype=weight.dtype)
    torch.ops.pliant_native.sparse_conv2d_pack(weight, False, found)
    return found
