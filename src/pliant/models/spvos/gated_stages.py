"""Gates for narrow networks: one decision a stage and position, shared by all convolutions of the stage.

SpVOS gates every convolution by itself. With 64 to 256 channels such a gate costs up to a quarter of what it saves;
here a stage's first input decides for all its convolutions. The gate is SpVOS's (a convolution of previous and current
input, 2C -> 3; static and residual C -> 1), and is also told where the objects were one frame before.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.models.spvos.gated_conv import COMPUTE, REUSE, Method, Record
from pliant.nn.fused_conv import conv2d, conv2d_add
from pliant.nn.sparse_gates import BinaryGate, TripleGate
from pliant.ops import sparse_conv2d, sparse_conv2d_

__all__ = ["GatedFrames", "StageGate", "nearness"]


def nearness(last: Tensor) -> Tensor:
    """How near each cell is to an object, [N, 1, h, w] in [0, 1], from masks [N, h, w] at 1/16 of the frame before.

    Falls from at most 1 inside of it to 0 four cells away.
    """
    grown = F.max_pool2d(last.detach()[:, None], 3, 1, 1)
    return F.avg_pool2d(grown, 5, 1, 2, count_include_pad=False)


class StageGate(nn.Module):
    """Scores of a stage's positions: a convolution of its input, and ``near`` times how near the objects were.

    It starts out computing within about three cells of an object and, elsewhere, reusing (triple, residual) or skipping
    (static): what training then changes.
    """

    def __init__(self, method: Method, channels: int, stride: int = 1, temperature: float = 1.0) -> None:
        super().__init__()
        self.method = method
        geometry = ((3, 3), (stride, stride), (1, 1), temperature)
        self.scores = TripleGate(channels, *geometry) if method == "triple" else BinaryGate(channels, *geometry)
        start = [0.0, 2.0, 0.0] if method == "triple" else [-2.0]
        near = [0.0, 0.0, 16.0] if method == "triple" else [16.0]
        self.scores.start_with(start, 0.1 * self.scores.weight[0].numel() ** -0.5)
        self.near = nn.Parameter(torch.tensor(near))

    def decide(self, x: Tensor, previous: Tensor | None, near: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Policy [N, 1, Ho, Wo] uint8; in training the masks of its decisions; triple: what x says to the next frame.

        x [N, C, H, W]: the stage's input (residual: what changed, without sign). previous: what the input before said
        (``listen``), triple alone. near [N, 1, h, w].
        """
        grid = [(extent - 1) // step + 1 for extent, step in zip(x.shape[2:], self.scores.stride)]
        near = F.interpolate(near.float(), grid, mode="bilinear", align_corners=False)
        near = self.near.float()[:, None, None] * near
        if self.method != "triple":
            chosen, masks = self.scores.decide(self.scores.evidence(x).float() + near)
            return chosen.to(torch.uint8) * COMPUTE, masks, None
        if not self.training:
            near = (near + previous).contiguous(memory_format=torch.channels_last)
            policy, following = self.scores.policy(x, near)
            return policy, None, following
        now, following = self.scores.evidence(x)
        return *self.scores.decide(now.float() + previous + near), following

    def listen(self, x: Tensor) -> Tensor:
        """What x will say to the next frame."""
        return self.scores.evidence(x, current=False)[1] if self.training else self.scores.carry(x)


@dataclass(slots=True)
class GatedFrames:
    """What gated stages keep of the previous frame, and what they decide on this one.

    cold: where nothing is kept yet, take zeros for the previous output (the strategy "fully"); else run dense.
    """

    method: Method
    cold: bool = False
    sparse: bool = False  # this frame
    outputs: dict[str, Tensor] = field(default_factory=dict)  # by convolution
    inputs: dict[str, Tensor] = field(default_factory=dict)  # by convolution, where differences are wanted
    carried: dict[str, Tensor] = field(default_factory=dict)  # by stage: its last input, or what the gate made of it
    records: dict[str, Record] = field(default_factory=dict)  # by stage, where this frame is sparse
    masks: dict[str, Tensor | None] = field(default_factory=dict)  # the same in training, with gradient
    changed: dict[str, Tensor] = field(default_factory=dict)  # by stage: the policy, positions skipped again as reused
    skipped: dict[str, Tensor] = field(default_factory=dict)  # by stage: where outputs hold zeros already (policy 0)

    def begin(self, sparse: bool) -> None:
        """The next frame."""
        self.skipped = {stage: record.policy for stage, record in self.records.items()}
        self.sparse, self.records, self.masks, self.changed = sparse, {}, {}, {}

    def nbytes(self) -> int:
        kept = (self.outputs, self.inputs, self.carried)
        return sum(tensor.nbytes for tensors in kept for tensor in tensors.values())

    def forget(self, index: int) -> None:
        """Remove a row (an object) from everything kept; the other rows stay."""
        self.skipped, self.records = {}, {}
        for kept in (self.outputs, self.inputs, self.carried):
            for name, tensor in kept.items():
                if index < len(tensor):
                    kept[name] = torch.cat([tensor[:index], tensor[index + 1 :]])

    def open(self, stage: str, gate: StageGate, x: Tensor, near: Tensor) -> None:
        """A stage begins with input ``x``; on a sparse frame its gate decides."""
        self.records.pop(stage, None)
        previous = self.carried.get(stage)
        if previous is not None and not self._continues(gate, x, previous):
            previous = None
            self._drop(stage)
        triple = self.method == "triple"
        if not self.sparse or (previous is None and not self.cold):
            self.carried[stage] = gate.listen(x) if triple else x
            return
        if previous is None:  # the first frame of all: nothing has changed
            previous = gate.listen(x) if triple else x
        change = (x - previous).abs() if self.method == "residual" else x
        policy, masks, following = gate.decide(change, previous if triple else None, near)
        self.carried[stage] = following if triple else x
        if self.method == "residual":
            policy = policy.clamp(min=REUSE)
        computed = (policy == COMPUTE).sum() if masks is None else masks[:, -1].float().sum()
        self.records[stage], self.masks[stage] = Record(stage, computed, policy.numel(), 0, policy), masks
        before = self.skipped.get(stage)
        self.changed[stage] = policy if before is None else policy.masked_fill((policy | before) == 0, REUSE)

    def convolve(
        self, stage: str, name: str, conv: nn.Conv2d, x: Tensor, *, residual: Tensor | None = None, relu: bool = False
    ) -> Tensor:
        """``conv(x) + residual``, then a ReLU where asked, as the stage's gate decided. The result is kept."""
        if stage not in self.records:
            return self._dense(name, conv, x, residual, relu)
        record, masks = self.records[stage], self.masks[stage]
        record.cost += conv.weight.numel()
        policy = record.policy
        previous = self.outputs.get(name)
        if previous is None:
            previous = x.new_zeros(len(x), conv.out_channels, *policy.shape[2:])
            previous = previous.contiguous(memory_format=torch.channels_last)
        if self.method == "residual":
            self.outputs[name] = self._changed(name, conv, x, previous, policy, masks)
            return _finish(self.outputs[name], residual, relu)
        if masks is None:
            output = sparse_conv2d_(
                x, conv.weight, conv.bias, self.changed[stage], previous, stride=conv.stride,
                padding=conv.padding, residual=residual, activation="relu" if relu else None,
            )  # fmt: skip
        else:
            output = _finish(conv(x), residual, relu)
            masks = masks.to(output.dtype)
            output = masks[:, -1:] * output
            if self.method == "triple":
                output = output + masks[:, REUSE, None] * previous.to(output.dtype)
        self.outputs[name] = output
        return output

    def block(self, stage: str, name: str, block: nn.Module, x: Tensor) -> Tensor:
        """A residual block: convolutions, each with a ReLU, the last added to x or to its projection."""
        residual = x
        if block.shortcut is not None:
            residual = self.convolve(stage, f"{name}.shortcut", block.shortcut, x)
        *first, last = [layer for layer in ("conv1", "conv2", "conv3") if hasattr(block, layer)]
        for layer in first:
            x = self.convolve(stage, f"{name}.{layer}", getattr(block, layer), x, relu=True)
        return self.convolve(stage, f"{name}.{last}", getattr(block, last), x, residual=residual, relu=True)

    def _dense(self, name: str, conv: nn.Conv2d, x: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
        if self.method == "residual":
            self.inputs[name], self.outputs[name] = x, conv2d(conv, x)
            return _finish(self.outputs[name], residual, relu)
        if residual is None:
            output = conv2d(conv, x, relu=relu)
        else:  # the addition writes over its residual, which is kept for the next frame
            output = conv2d_add(conv, x, residual if torch.is_grad_enabled() else self._copy(name, residual), relu=relu)
        self.outputs[name] = output
        return output

    def _copy(self, name: str, residual: Tensor) -> Tensor:
        """A copy of ``residual`` in the memory of the layer's last output, which is not needed any more."""
        place = self.outputs.get(name)
        if place is None or place.shape != residual.shape or place.dtype != residual.dtype:
            return residual.clone()
        return place.copy_(residual)

    def _changed(self, name, conv, x, previous, policy, masks) -> Tensor:
        """Skip-Convolution: the previous output plus, where the gate says so, the convolution of what changed."""
        change = x - self.inputs.get(name, x)
        self.inputs[name] = x
        options = {"stride": conv.stride, "padding": conv.padding}
        if masks is None:
            return sparse_conv2d(change, conv.weight, None, policy, previous, residual=previous, **options)
        moved = F.conv2d(change, conv.weight, None, **options)
        return previous + masks.to(moved.dtype) * moved

    def _continues(self, gate: StageGate, x: Tensor, previous: Tensor) -> bool:
        """Whether ``previous`` is of an input like x: as many rows, the same size."""
        step = gate.scores.stride if self.method == "triple" else (1, 1)
        sizes = [(extent - 1) // s + 1 for extent, s in zip(x.shape[2:], step)]
        return len(previous) == len(x) and list(previous.shape[2:]) == sizes

    def _drop(self, stage: str) -> None:
        self.skipped.pop(stage, None)
        for kept in (self.outputs, self.inputs):
            for name in [name for name in kept if name == stage or name.startswith(f"{stage}.")]:
                del kept[name]


def _finish(output: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    output = output if residual is None else output + residual
    return F.relu(output) if relu else output
