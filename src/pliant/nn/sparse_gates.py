"""Gates: small convolutions that decide at each position, with noise and a straight-through gradient in training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.nn.fused_conv import fuses
from pliant.ops.gating import takes_triple_gate, triple_gate, triple_policy
from pliant.ops.packing import packed

__all__ = ["BinaryGate", "TripleGate"]


class _StraightThrough(torch.autograd.Function):
    """The hard decision forward, the soft one's gradient backward."""

    @staticmethod
    def forward(ctx, hard: Tensor, soft: Tensor) -> Tensor:
        return hard

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def gumbel(like: Tensor) -> Tensor:
    """Standard Gumbel noise, -log(-log U)."""
    uniform = torch.rand_like(like).clamp_(torch.finfo(like.dtype).tiny, 1 - torch.finfo(like.dtype).eps)
    return -torch.log(-torch.log(uniform))


class _Gate(nn.Conv2d):
    """A convolution with the geometry of the gated one.

    temperature: of the softmax in training. noise: whether Gumbel noise is added in training; evaluation never has it.
    """

    def __init__(self, channels: int, outputs: int, kernel_size, stride, padding, temperature: float) -> None:
        super().__init__(channels, outputs, kernel_size, stride, padding)
        self.temperature = temperature
        self.noise = True

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, temperature={self.temperature}"

    def start_with(self, bias: list[float], spread: float) -> None:
        """Weights drawn with standard deviation ``spread``, and this bias."""
        nn.init.normal_(self.weight, std=spread)
        with torch.no_grad():
            self.bias.copy_(torch.tensor(bias))

    def _convolve(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """In training in float32, where ties and noise want it; without gradients by oneDNN's primitive."""
        if self.training:
            with torch.autocast(input.device.type, enabled=False):
                bias = None if bias is None else bias.float()
                return F.conv2d(input.float(), weight.float(), bias, self.stride, self.padding)
        if fuses(self, input):
            input = input.contiguous(memory_format=torch.channels_last)
            return torch.ops.mkldnn._convolution_pointwise(
                input, weight, bias, self.padding, self.stride, self.dilation, 1, "none", [], ""
            )
        return F.conv2d(input, weight, bias, self.stride, self.padding)


class TripleGate(_Gate):
    """Skip, reuse or compute: a convolution of the previous and the current input, 2 C -> 3 (SpVOS, Eq. 7 and 9).

    The convolution of a pair is the sum of two, so each input is convolved once, for its own frame and for the next.
    It starts out computing nearly everywhere, so that what is gated keeps its meaning.
    """

    def __init__(self, channels: int, kernel_size, stride, padding, temperature: float = 1.0) -> None:
        super().__init__(2 * channels, 3, kernel_size, stride, padding, temperature)
        self.start_with([0.0, 0.0, 2.5], 0.1 * self.weight[0].numel() ** -0.5)

    def evidence(self, input: Tensor, *, current: bool = True) -> tuple[Tensor | None, Tensor]:
        """What ``input`` says as current frame (with bias; None if not asked for) and will say as previous one."""
        if not current:
            return None, self._convolve(input, self.weight[:, : self.in_channels // 2], None)
        both = self._both(input)
        return both[:, :3] + self.bias.to(both.dtype)[:, None, None], both[:, 3:]

    def policy(self, input: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
        """Without gradients and noise: the policy of ``input``, [N, 1, Ho, Wo] uint8, and what it carries on."""
        weight = self._native_weight(input)
        if weight is None:
            return triple_policy(self._both(input), carried, self.bias)
        return triple_gate(input, weight, self.bias, carried, self.stride, self.padding)

    def carry(self, input: Tensor) -> Tensor:
        """What ``input`` will say as previous one, as ``policy`` wants it: [N, 3, Ho, Wo] float32."""
        weight = self._native_weight(input)
        if weight is None:
            following = self.evidence(input, current=False)[1]
            return following.to(torch.float32).contiguous(memory_format=torch.channels_last)
        return triple_gate(input, weight, self.bias, None, self.stride, self.padding)[1]

    def _native_weight(self, input: Tensor) -> Tensor | None:
        """The weight for ``triple_gate``, None where that does not run."""
        if self.training or not fuses(self, input):
            return None
        weight = self._both_weights()
        return weight if takes_triple_gate(input, weight) else None

    def _both(self, input: Tensor) -> Tensor:
        weight = self._swapped(self.weight) if self.training else self._both_weights()
        return self._convolve(input, weight, None)

    def _both_weights(self) -> Tensor:
        return packed(self.weight, "now, previous", lambda w: self._swapped(w.detach()))

    def _swapped(self, weight: Tensor) -> Tensor:
        previous, now = weight.chunk(2, dim=1)
        return torch.cat([now, previous]).contiguous(memory_format=torch.channels_last)

    def decide(self, scores: Tensor) -> tuple[Tensor, Tensor | None]:
        """The policy [N, 1, Ho, Wo] (uint8), and in training the three masks [N, 3, Ho, Wo], 0 or 1, else None."""
        if not self.training:
            skip, reuse, compute = scores.split(1, dim=1)  # an argmax, several times as fast
            return torch.where(compute > torch.maximum(skip, reuse), 2, (reuse > skip).to(torch.uint8)), None
        scores = scores.float()
        noisy = scores.log_softmax(1) + gumbel(scores) if self.noise else scores.log_softmax(1)
        soft = (noisy / self.temperature).softmax(1)
        policy = soft.argmax(1, keepdim=True)
        hard = torch.zeros_like(soft).scatter_(1, policy, 1.0)
        return policy.to(torch.uint8), _StraightThrough.apply(hard, soft)


class BinaryGate(_Gate):
    """Compute or not: a convolution of one input, C -> 1 (DynConv; Skip-Convolutions).

    In training sigmoid((score + noise - noise') / temperature), hard at 1/2, straight-through; else score >= 0.
    """

    def __init__(
        self, channels: int, kernel_size, stride, padding, temperature: float = 1.0, bias: float = 0.6
    ) -> None:
        super().__init__(channels, 1, kernel_size, stride, padding, temperature)
        nn.init.xavier_uniform_(self.weight)
        nn.init.constant_(self.bias, bias)

    def evidence(self, input: Tensor) -> Tensor:
        """Scores [N, 1, Ho, Wo]: what speaks for computing."""
        return self._convolve(input, self.weight, self.bias)

    def decide(self, scores: Tensor) -> tuple[Tensor, Tensor | None]:
        """Whether to compute, [N, 1, Ho, Wo] (bool), and in training the same as a mask of 0 and 1, else None."""
        if not self.training:
            return scores >= 0, None
        scores = scores.float()
        if self.noise:
            scores = scores + gumbel(scores) - gumbel(scores)
        soft = (scores / self.temperature).sigmoid()
        hard = soft >= 0.5  # as in evaluation: a tie is computed
        return hard, _StraightThrough.apply(hard.to(soft.dtype), soft)
