"""Convolutions for video that work only where their gates say so: triple, static and residual sparse."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from pliant.nn.sparse_gates import BinaryGate, TripleGate
from pliant.nn.sparse_stream import Decision, SparseStream, current_stream
from pliant.ops import sparse_conv2d, sparse_conv2d_

__all__ = ["ResidualSparseConv2d", "StaticSparseConv2d", "TripleSparseConv2d"]

SKIP, REUSE, COMPUTE = 0, 1, 2


class _SparseConv2d(nn.Module):
    """A convolution with ``nn.Conv2d``'s parameters and a gate; dense outside of a ``SparseStream``.

    What follows the layer must not change its output in place: the output is remembered for the next frame.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        groups: int = 1,
        bias: bool = True,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.padding = _pair(kernel_size), _pair(stride), _pair(padding)
        like = nn.Conv2d(in_channels, out_channels, self.kernel_size, groups=groups, bias=bias)
        self.weight, self.bias = like.weight, like.bias
        self.gate = self.make_gate(temperature)

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, temperature: float = 1.0) -> _SparseConv2d:
        """A layer in the place of ``conv``, with its very weight and bias.

        Raises ValueError where ``conv`` is dilated or pads with something else than a number of zeros.
        """
        if _pair(conv.dilation) != (1, 1) or isinstance(conv.padding, str) or conv.padding_mode != "zeros":
            raise ValueError(
                f"{cls.__name__} takes the place of a convolution with dilation 1 and zeros as padding, not of {conv}"
            )
        layer = cls(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.groups,
            conv.bias is not None, temperature,
        )  # fmt: skip
        layer.weight, layer.bias = conv.weight, conv.bias
        layer.gate.to(conv.weight.device, conv.weight.dtype)
        return layer.train(conv.training)

    @property
    def cost(self) -> int:
        """Multiply-adds of one output position."""
        return self.out_channels * self.weight[0].numel()

    def dense(self, input: Tensor, *, bias: bool = True) -> Tensor:
        """The convolution everywhere."""
        return F.conv2d(
            input, self.weight, self.bias if bias else None, self.stride, self.padding, groups=self.groups
        )

    def forward(self, input: Tensor) -> Tensor:
        """input [N, C, H, W] -> [N, O, Ho, Wo]."""
        stream = current_stream()
        if stream is None:
            return self.dense(input)
        return self.step(input, stream)

    def record(self, stream: SparseStream, policy: Tensor, mask: Tensor | None) -> None:
        """Tell the stream what was decided; ``mask``: of the computed positions, with gradient."""
        computed = (policy == COMPUTE) if mask is None else mask
        stream.decisions.append(Decision(self, policy, computed.sum(dtype=torch.float32), self.cost))

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}"
        )


class TripleSparseConv2d(_SparseConv2d):
    """Each position is skipped (zeros), reused (the layer's previous output there) or computed.

    The gate sees the previous and the current input. In training every position is computed and the three masks
    choose, so that gradients reach the gate; in evaluation only what is chosen is computed.
    Source: SpVOS (Lin et al.), Eq. 7 to 9.
    """

    def make_gate(self, temperature: float) -> TripleGate:
        return TripleGate(self.in_channels, self.kernel_size, self.stride, self.padding, temperature)

    def step(self, input: Tensor, stream: SparseStream) -> Tensor:
        call = stream.begin(self)
        memory = None if stream.dense else stream.recall(self, call)
        now, following = self.gate.evidence(input, current=memory is not None)
        if memory is None or memory.carried.shape[1:] != following.shape[1:]:
            output = self.dense(input)
        else:
            rows = min(input.shape[0], memory.output.shape[0])
            output = self.sparse(
                input[:rows], now[:rows] + memory.carried[:rows], memory.output[:rows], stream
            )
            if rows < input.shape[0]:
                output = torch.cat([output, self.dense(input[rows:])])
        stream.remember(self, call, output, following)
        return output

    def sparse(self, input: Tensor, scores: Tensor, previous: Tensor, stream: SparseStream) -> Tensor:
        policy, masks = self.gate.decide(scores)
        self.record(stream, policy, None if masks is None else masks[:, COMPUTE])
        if masks is not None:
            masks = masks.to(previous.dtype)
            return masks[:, COMPUTE, None] * self.dense(input) + masks[:, REUSE, None] * previous
        options = {"stride": self.stride, "padding": self.padding}
        if stream.in_place and not torch.is_grad_enabled():
            return sparse_conv2d_(input, self.weight, self.bias, policy, previous, **options)
        return sparse_conv2d(input, self.weight, self.bias, policy, previous, **options)


class StaticSparseConv2d(_SparseConv2d):
    """Each position is computed or skipped (zeros), as the current input alone says.

    Source: DynConv (Verelst and Tuytelaars 2020), with a gate a convolution as in SpVOS's comparison.
    """

    def make_gate(self, temperature: float) -> BinaryGate:
        return BinaryGate(self.in_channels, self.kernel_size, self.stride, self.padding, temperature)

    def step(self, input: Tensor, stream: SparseStream) -> Tensor:
        if stream.dense:
            return self.dense(input)
        chosen, mask = self.gate.decide(self.gate.evidence(input))
        policy = chosen.to(torch.uint8) * COMPUTE
        self.record(stream, policy, mask)
        if mask is not None:
            return mask.to(input.dtype) * self.dense(input)
        return sparse_conv2d(input, self.weight, self.bias, policy, stride=self.stride, padding=self.padding)


class ResidualSparseConv2d(_SparseConv2d):
    """Each position adds the convolution of what changed since the previous frame, or keeps its previous output.

    z_t = z_{t-1} + gate(|r_t|) * (W * r_t), r_t = x_t - x_{t-1}; the bias enters on the dense frame alone.
    Source: Skip-Convolutions (Habibian et al. 2021), with the Gumbel gate.
    """

    def make_gate(self, temperature: float) -> BinaryGate:
        return BinaryGate(self.in_channels, self.kernel_size, self.stride, self.padding, temperature)

    def step(self, input: Tensor, stream: SparseStream) -> Tensor:
        call = stream.begin(self)
        memory = None if stream.dense else stream.recall(self, call)
        if memory is None or memory.carried.shape[1:] != input.shape[1:]:
            output = self.dense(input)
        else:
            rows = min(input.shape[0], memory.output.shape[0])
            output = self.sparse(input[:rows] - memory.carried[:rows], memory.output[:rows], stream)
            if rows < input.shape[0]:
                output = torch.cat([output, self.dense(input[rows:])])
        stream.remember(self, call, output, input)
        return output

    def sparse(self, change: Tensor, previous: Tensor, stream: SparseStream) -> Tensor:
        chosen, mask = self.gate.decide(self.gate.evidence(change.abs()))
        policy = REUSE + chosen.to(torch.uint8)
        self.record(stream, policy, mask)
        if mask is not None:
            return previous + mask.to(previous.dtype) * self.dense(change, bias=False)
        options = {"stride": self.stride, "padding": self.padding, "residual": previous}
        return sparse_conv2d(change, self.weight, None, policy, previous, **options)
