"""Convolutions that decide, position by position, whether to compute: triple (SpVOS), static, residual.

A network replaces convolutions by ``GatedConv2d`` (see ``sparsify``). While a frame runs inside ``running(pass)`` the
layers find the caches of its stream there; outside they are ordinary convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.nn.fused_conv import conv2d, fuses
from pliant.ops import sparse_conv2d_

__all__ = ["Cache", "GatedConv2d", "Pass", "Record", "gumbel", "running", "straight_through"]

SKIP, REUSE, COMPUTE = 0, 1, 2
Method = Literal["triple", "static", "residual"]
_NOISE_EDGE = 1e-8  # keeps log(-log(u)) finite


@dataclass(slots=True)
class Cache:
    """What a layer keeps of the previous frame of a stream."""

    output: Tensor  # [N, O, Ho, Wo]
    response: Tensor | None = None  # triple: what the gate makes of the previous input, [N, 3, Ho, Wo]
    input: Tensor | None = None  # residual: the previous input
    policy: Tensor | None = None  # where ``output`` holds the value of skipped positions (policy 0)

    def nbytes(self) -> int:
        return sum(t.nbytes for t in (self.output, self.response, self.input, self.policy) if t is not None)

    def without(self, index: int) -> Cache:
        """The cache without row ``index`` of the batch (an object that is forgotten)."""
        rows = [i for i in range(len(self.output)) if i != index]
        tensors = (self.output, self.response, self.input, self.policy)
        return Cache(*(None if t is None else t[rows] for t in tensors))


@dataclass(slots=True)
class Record:
    """What a gated layer did on a sparse frame."""

    name: str
    computed: Tensor  # positions computed, a scalar; differentiable in training
    positions: int
    cost: int  # multiply-adds of one computed position
    policy: Tensor | None = None  # [N, 1, Ho, Wo] uint8, where asked for


@dataclass(slots=True)
class Pass:
    """One frame through one module: whose caches, whether gates are evaluated, and what they decided.

    cold: what a layer without a cache does on a sparse frame: run dense, or take the current input for the previous
    one and zeros for its output.
    """

    caches: dict[str, Cache]
    sparse: bool
    cold: Literal["dense", "zero"] = "dense"
    keep_policies: bool = False
    records: list[Record] = field(default_factory=list)


_CURRENT: ContextVar[Pass | None] = ContextVar("current pass", default=None)


@contextmanager
def running(current: Pass) -> Iterator[Pass]:
    """Within the block gated layers work on the caches of ``current``."""
    token = _CURRENT.set(current)
    try:
        yield current
    finally:
        _CURRENT.reset(token)


def gumbel(like: Tensor) -> Tensor:
    """Independent standard Gumbel noise, -log(-log u), of the shape of ``like``."""
    return -torch.log(-torch.log(torch.rand_like(like).clamp(_NOISE_EDGE, 1 - _NOISE_EDGE)))


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """``hard`` forward, the gradient of ``soft`` backward."""
    return hard + (soft - soft.detach())


class GatedConv2d(nn.Conv2d):
    """A convolution with a gate of its kernel, stride and padding (the design that the paper's parameters fix).

    triple: gate on [previous input, input], 2C -> 3; each position is skipped (0), reused (the previous output) or
    computed (Eq. 7 to 9). static: gate on the input, C -> 1; computed or 0 (DynConv's decision). residual: gate on
    |input - previous input|, C -> 1; the previous output plus the convolved difference, or the previous output.
    In training decisions are drawn with Gumbel noise at ``temperature`` and passed straight through; in eval mode the
    likeliest is taken.

    ``skip_value`` [O]: what a skipped position holds, None for 0. Folding a batch norm into the weights sets it to
    what the norm makes of 0.
    """

    def __init__(self, conv: nn.Conv2d, name: str, method: Method, temperature: float = 1.0) -> None:
        super().__init__(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, bias=conv.bias is not None
        )
        self.weight, self.bias = conv.weight, conv.bias
        self.name, self.method, self.temperature = name, method, temperature
        channels, decisions = (2 * conv.in_channels, 3) if method == "triple" else (conv.in_channels, 1)
        self.gate = nn.Conv2d(channels, decisions, conv.kernel_size, conv.stride, conv.padding)
        # Near dense at first, so that trained filters keep their meaning; the loss pulls the share down.
        nn.init.normal_(self.gate.weight, std=0.01)
        start = {"triple": [0.0, 0.0, 2.5], "static": [2.5], "residual": [0.6]}[method]
        with torch.no_grad():
            self.gate.bias.copy_(torch.tensor(start))
        self.register_buffer("skip_value", None, persistent=False)

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        """[N, C, H, W] -> [N, O, Ho, Wo], then a ReLU where asked. In inference the result belongs to the cache."""
        current = _CURRENT.get()
        if current is None:
            return self._convolve(x, relu)
        cache = current.caches.get(self.name)
        if cache is not None and cache.output.shape[1:] != self._output_shape(x):
            cache = None
        if cache is None and current.sparse and current.cold == "zero":
            cache = self._remember(x, x.new_zeros(len(x), *self._output_shape(x)))
        if cache is None or not current.sparse:
            output, current.caches[self.name] = self._dense(x, relu)
            return output
        known = len(cache.output)
        if known == len(x):
            output, current.caches[self.name] = self._sparse(x, cache, relu, current)
            return output
        # Objects that joined have no past: they run dense.
        old, cache = self._sparse(x[:known], cache, relu, current)
        new, joined = self._dense(x[known:], relu)
        pairs = zip(_tensors(cache), _tensors(joined))
        current.caches[self.name] = Cache(*(None if a is None or b is None else torch.cat([a, b]) for a, b in pairs))
        return torch.cat([old, new])

    def _convolve(self, x: Tensor, relu: bool = False) -> Tensor:
        if fuses(self, x):
            return conv2d(self, x, relu=relu)
        output = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        return F.relu(output) if relu else output

    def _output_shape(self, x: Tensor) -> tuple[int, int, int]:
        sizes = [
            (extent + 2 * pad - kernel) // step + 1
            for extent, pad, kernel, step in zip(x.shape[2:], self.padding, self.kernel_size, self.stride)
        ]
        return (self.out_channels, *sizes)

    # Dense frames

    def _dense(self, x: Tensor, relu: bool) -> tuple[Tensor, Cache]:
        if self.method == "residual":  # its cache is what differences are added to, before the ReLU
            output = self._convolve(x)
            return (F.relu(output) if relu else output), Cache(output, input=x)
        output = self._convolve(x, relu)
        return output, self._remember(x, output)

    def _remember(self, x: Tensor, output: Tensor) -> Cache:
        if self.method == "residual":
            return Cache(output, input=x)
        if self.method == "static":
            return Cache(output)
        return Cache(output, response=self._respond(x, self.gate.weight[:, : self.in_channels], None))

    def _respond(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """A gate's convolution; in training in float32, where ties and the noise want it."""
        if not self.training:
            return F.conv2d(x, weight, bias, self.stride, self.padding)
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(x.float(), weight, bias, self.stride, self.padding)

    # Sparse frames

    def _sparse(self, x: Tensor, cache: Cache, relu: bool, current: Pass) -> tuple[Tensor, Cache]:
        run = {"triple": self._triple, "static": self._static, "residual": self._residual}[self.method]
        output, cache, computed, policy = run(x, cache, relu)
        cost = self.weight[0].numel() * self.out_channels
        kept = policy if current.keep_policies else None
        current.records.append(Record(self.name, computed, policy.numel(), cost, kept))
        return output, cache

    def _triple(self, x: Tensor, cache: Cache, relu: bool) -> tuple[Tensor, Cache, Tensor, Tensor]:
        # The gate is linear: its answer to the previous input was made when that was the current one.
        previous, own = self.gate.weight.split(self.in_channels, dim=1)
        both = self._respond(x, torch.cat([own, previous]), None)
        logits = (both[:, :3] + cache.response).float() + self.gate.bias.float()[:, None, None]
        response = both[:, 3:]
        if not torch.is_grad_enabled():
            policy = self.decide(logits)
            output = self._compute_in_place(x, cache, policy, relu)
            return output, Cache(output, response, policy=policy), (policy == COMPUTE).sum(), policy
        noisy = logits.log_softmax(dim=1) + gumbel(logits) if self.training else logits
        soft = torch.softmax(noisy / self.temperature, dim=1)
        policy = soft.argmax(dim=1, keepdim=True)
        m = straight_through(torch.zeros_like(soft).scatter_(1, policy, 1.0), soft).to(x.dtype)
        output = m[:, 2:] * self._convolve(x, relu) + m[:, 1:2] * cache.output
        output = self._fill_skipped(output, policy, relu)
        return output, Cache(output, response), m[:, 2].float().sum(), policy.to(torch.uint8)

    def _static(self, x: Tensor, cache: Cache, relu: bool) -> tuple[Tensor, Cache, Tensor, Tensor]:
        logits = self._respond(x, self.gate.weight, self.gate.bias).float()
        if not torch.is_grad_enabled():
            policy = self.decide(logits)
            output = self._compute_in_place(x, cache, policy, relu)
            return output, Cache(output, policy=policy), (policy == COMPUTE).sum(), policy
        m = self._binary(logits).to(x.dtype)
        policy = (m.detach() * COMPUTE).to(torch.uint8)
        output = self._fill_skipped(m * self._convolve(x, relu), policy, relu)
        return output, Cache(output), m.float().sum(), policy

    def _residual(self, x: Tensor, cache: Cache, relu: bool) -> tuple[Tensor, Cache, Tensor, Tensor]:
        difference = x - cache.input
        logits = self._respond(difference.abs(), self.gate.weight, self.gate.bias).float()
        m = self._binary(logits) if torch.is_grad_enabled() else (logits >= 0).float()
        policy = torch.where(m.detach() > 0.5, COMPUTE, REUSE).to(torch.uint8)
        if torch.is_grad_enabled():
            change = m.to(x.dtype) * F.conv2d(difference, self.weight, None, self.stride, self.padding)
        else:
            change = torch.zeros_like(cache.output)
            sparse_conv2d_(difference, self.weight, None, policy, change, stride=self.stride, padding=self.padding)
        output = cache.output + change
        return (F.relu(output) if relu else output), Cache(output, input=x), m.sum(), policy

    def decide(self, logits: Tensor) -> Tensor:
        """The likeliest decision of each position, [N, 1, Ho, Wo] uint8: 0 skip, 1 reuse, 2 compute."""
        if self.method == "triple":  # argmax, several times as fast
            skip, reuse, compute = logits.split(1, dim=1)
            return torch.where(compute > torch.maximum(skip, reuse), COMPUTE, (reuse > skip).to(torch.uint8))
        return (logits >= 0).to(torch.uint8) * COMPUTE

    def _binary(self, logits: Tensor) -> Tensor:
        """0 or 1 with a gradient: Gumbel sigmoid in training, a threshold at 0 in eval mode."""
        noise = gumbel(logits) - gumbel(logits) if self.training else 0.0
        soft = torch.sigmoid((logits + noise) / self.temperature)
        return straight_through((soft >= 0.5).to(soft.dtype), soft)

    def _fill_skipped(self, output: Tensor, policy: Tensor, relu: bool) -> Tensor:
        if self.skip_value is None:
            return output
        value = self._skipped(relu)[:, None, None]
        return torch.where(policy == SKIP, value, output)

    def _skipped(self, relu: bool) -> Tensor:
        return F.relu(self.skip_value) if relu else self.skip_value

    def _compute_in_place(self, x: Tensor, cache: Cache, policy: Tensor, relu: bool) -> Tensor:
        """The new output in the memory of the previous one: reused positions, and those skipped again, cost nothing."""
        output = cache.output
        newly_skipped = policy == SKIP
        if cache.policy is not None:
            newly_skipped &= cache.policy != SKIP
        rows = output.permute(0, 2, 3, 1)  # [N, Ho, Wo, O]
        rows[newly_skipped[:, 0]] = 0 if self.skip_value is None else self._skipped(relu)
        bias = self.bias
        return sparse_conv2d_(
            x, self.weight, bias, policy.clamp(min=REUSE), output,
            stride=self.stride, padding=self.padding, activation="relu" if relu else None,
        )  # fmt: skip


def _tensors(cache: Cache) -> tuple[Tensor | None, ...]:
    return cache.output, cache.response, cache.input, cache.policy
