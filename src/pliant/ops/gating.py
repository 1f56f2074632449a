"""Small steps around gated convolutions, in one pass over memory where the native kernels are; without gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from pliant.ops import native
from pliant.ops.backend import requested_backend

__all__ = ["add_relu", "fill_skipped_", "takes_triple_gate", "triple_gate", "triple_policy"]

_GATE_CHANNELS = 32  # the gate's kernels read whole vectors of channels


def _native(*tensors: Tensor | None) -> bool:
    """Whether the kernels take these: on the CPU, float32 or bfloat16, channels-last."""
    return (
        requested_backend() in ("auto", "cpu")
        and native.why_missing() is None
        and all(
            t is None
            or (
                t.device.type == "cpu"
                and t.dtype in (torch.float32, torch.bfloat16)
                and t.is_contiguous(memory_format=torch.channels_last)
            )
            for t in tensors
        )
    )


def takes_triple_gate(input: Tensor, weight: Tensor) -> bool:
    """Whether ``triple_gate`` runs on these: where it is faster than a convolution of oneDNN's.

    Without AMX: tiles do a gate's padded outputs in no time.
    """
    if input.shape[1] % _GATE_CHANNELS or not _native(weight) or input.dtype != weight.dtype:
        return False
    return input.dtype == torch.float32 or (native.bfloat16_products() and native.instruction_set() != "amx")


def triple_gate(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    carried: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> tuple[Tensor | None, Tensor]:
    """The convolution of a triple gate and its decisions, as ``triple_policy`` gives them, in one pass.

    input [N, C, H, W]; weight [6, C, kh, kw] channels-last, what makes ``triple_policy``'s scores; sums in float32.
    carried None: nothing is decided, the policy is None.
    """
    size = [(extent + 2 * pad - kernel) // step + 1
            for extent, kernel, step, pad in zip(input.shape[2:], weight.shape[2:], stride, padding)]  # fmt: skip
    layout = {"memory_format": torch.channels_last}
    following = torch.empty(input.shape[0], 3, *size, **layout)
    policy = None if carried is None else torch.empty(input.shape[0], 1, *size, dtype=torch.uint8)
    torch.ops.pliant_native.triple_gate(
        input.contiguous(**layout), weight, bias.float(), None if carried is None else carried.contiguous(**layout),
        *stride, *padding, policy, following,
    )  # fmt: skip
    return policy, following


def triple_policy(scores: Tensor, carried: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Decisions of a triple gate: the largest of ``scores[:, :3] + carried + bias``, the first of equals.

    scores [N, 6, H, W]: what the current input says, and what it will say as previous one; carried [N, 3, H, W]
    float32: the latter of the frame before; bias [3]. Returns the policy [N, 1, H, W] uint8 (0 skip, 1 reuse,
    2 compute) and what to carry on, [N, 3, H, W] float32.
    """
    if _native(scores, carried):
        n, _, height, width = scores.shape
        policy = torch.empty(n, 1, height, width, dtype=torch.uint8)
        following = torch.empty_like(carried)
        torch.ops.pliant_native.triple_policy(scores, carried, bias.float(), policy, following)
        return policy, following
    now = scores[:, :3].float() + carried + bias.float()[:, None, None]
    return now.argmax(1, keepdim=True).to(torch.uint8), scores[:, 3:].to(torch.float32, copy=True)


def fill_skipped_(output: Tensor, policy: Tensor, before: Tensor | None, value: Tensor | None) -> Tensor:
    """``output`` [N, O, H, W] with ``value`` [O] (None: zeros) where ``policy`` [N, 1, H, W] is 0.

    before: the policy of the frame before; where it was 0, ``output`` holds the value already.
    """
    if _native(output) and policy.is_contiguous() and (before is None or before.is_contiguous()):
        value = None if value is None else value.to(output.dtype).contiguous()
        torch.ops.pliant_native.fill_skipped(policy, before, value, output)
        return output
    skipped = policy == 0
    if before is not None:
        skipped &= before != 0
    output.permute(0, 2, 3, 1)[skipped[:, 0]] = 0 if value is None else value.to(output.dtype)
    return output


def add_relu(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """max(a + b, 0) of two tensors of one shape and dtype; rounded once. ``out``: where to, ``a`` or ``b`` too."""
    if a.shape == b.shape and a.dtype == b.dtype and a.numel() and _native(a, b, out):
        out = torch.empty_like(a) if out is None else out
        torch.ops.pliant_native.add_relu(a, b, out)
        return out
    return torch.relu_(a + b) if out is None else torch.relu_(torch.add(a, b, out=out))
