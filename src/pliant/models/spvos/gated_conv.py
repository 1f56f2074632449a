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
from pliant.nn.sparse_gates import BinaryGate, TripleGate
from pliant.ops import sparse_conv2d, sparse_conv2d_
from pliant.ops.gating import fill_skipped_

__all__ = ["Cache", "GatedConv2d", "Pass", "Record", "running"]

SKIP, REUSE, COMPUTE = 0, 1, 2
Method = Literal["triple", "static", "residual"]


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
        self.name, self.method = name, method
        make = TripleGate if method == "triple" else BinaryGate
        self.gate = make(conv.in_channels, conv.kernel_size, conv.stride, conv.padding, temperature)
        # Near dense at first, so that trained filters keep their meaning; the loss pulls the share down.
        self.gate.start_with({"triple": [0.0, 0.0, 2.5], "static": [2.5], "residual": [0.6]}[method], 0.01)
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
            del cache
            current.caches.pop(self.name, None)  # the new output then finds the memory of the old one
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

    @property
    def keeps_input(self) -> bool:
        """Whether the cache holds the very input, so that nobody may write over it."""
        return self.method == "residual"

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
        return Cache(output, response=self.gate.carry(x))

    # Sparse frames

    def _sparse(self, x: Tensor, cache: Cache, relu: bool, current: Pass) -> tuple[Tensor, Cache]:
        run = {"triple": self._triple, "static": self._static, "residual": self._residual}[self.method]
        output, cache, computed, policy = run(x, cache, relu)
        cost = self.weight[0].numel() * self.out_channels
        kept = policy if current.keep_policies else None
        current.records.append(Record(self.name, computed, policy.numel(), cost, kept))
        return output, cache

    def _triple(self, x: Tensor, cache: Cache, relu: bool) -> tuple[Tensor, Cache, Tensor, Tensor]:
        if not self.training:
            policy, response = self.decide(x, cache.response)
            output = self._where_computed(x, cache, policy, relu)
            return output, Cache(output, response, policy=policy), (policy == COMPUTE).sum(), policy
        now, response = self.gate.evidence(x)
        policy, m = self.gate.decide(now + cache.response)
        computed, m = m[:, COMPUTE].sum(), m.to(x.dtype)
        output = m[:, COMPUTE, None] * self._convolve(x, relu) + m[:, REUSE, None] * cache.output
        return self._fill_skipped(output, policy, relu), Cache(output, response), computed, policy

    def _static(self, x: Tensor, cache: Cache, relu: bool) -> tuple[Tensor, Cache, Tensor, Tensor]:
        chosen, m = self.gate.decide(self.gate.evidence(x))
        policy = chosen.to(torch.uint8) * COMPUTE
        if m is None:
            output = self._where_computed(x, cache, policy, relu)
            return output, Cache(output, policy=policy), (policy == COMPUTE).sum(), policy
        output = self._fill_skipped(m.to(x.dtype) * self._convolve(x, relu), policy, relu)
        return output, Cache(output), m.sum(), policy

    def _residual(self, x: Tensor, cache: Cache, relu: bool) -> tuple[Tensor, Cache, Tensor, Tensor]:
        difference = x - cache.input
        chosen, m = self.gate.decide(self.gate.evidence(difference.abs()))
        policy = chosen.to(torch.uint8) + REUSE
        if m is None:
            options = {"stride": self.stride, "padding": self.padding, "residual": cache.output}
            output = sparse_conv2d(difference, self.weight, None, policy, cache.output, **options)
        else:
            change = F.conv2d(difference, self.weight, None, self.stride, self.padding)
            output = cache.output + m.to(change.dtype) * change
        computed = chosen.sum() if m is None else m.sum()
        return (F.relu(output) if relu else output), Cache(output, input=x), computed, policy

    def decide(self, x: Tensor, response: Tensor) -> tuple[Tensor, Tensor]:
        """Without noise: the decision of each position, [N, 1, Ho, Wo] uint8, and what the gate makes of ``x``."""
        return self.gate.policy(x, response)

    def _fill_skipped(self, output: Tensor, policy: Tensor, relu: bool) -> Tensor:
        if self.skip_value is None:
            return output
        value = self._skipped(relu)[:, None, None]
        return torch.where(policy == SKIP, value, output)

    def _skipped(self, relu: bool) -> Tensor:
        return F.relu(self.skip_value) if relu else self.skip_value

    def _where_computed(self, x: Tensor, cache: Cache, policy: Tensor, relu: bool) -> Tensor:
        """The new output, without gradients in the memory of the previous one: reused positions, and those skipped
        again, cost nothing."""
        options = {"stride": self.stride, "padding": self.padding, "activation": "relu" if relu else None}
        if torch.is_grad_enabled():
            output = sparse_conv2d(x, self.weight, self.bias, policy, cache.output, **options)
            return self._fill_skipped(output, policy, relu)
        value = None if self.skip_value is None else self._skipped(relu)
        output = fill_skipped_(cache.output, policy, cache.policy, value)
        return sparse_conv2d_(x, self.weight, self.bias, policy.clamp(min=REUSE), output, **options)


def _tensors(cache: Cache) -> tuple[Tensor | None, ...]:
    return cache.output, cache.response, cache.input, cache.policy
