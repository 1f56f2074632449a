"""What a case of an operator is: named arguments made from a seed, so that tests, benchmarks and docs share
them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Made:
    """A tensor argument, made by rule. See ``normal``, ``uniform``, ``integers``.

    ``special``: values that are written over the first entries along the flattened tensor, evenly spread (for
    infinite, huge and not-a-number coordinates). ``precise``: keeps at least float32 (coordinates).
    """

    kind: str
    shape: tuple[int, ...]
    scale: float = 1.0
    shift: float = 0.0
    precise: bool = False
    special: tuple[float, ...] = ()

    @property
    def differentiable(self) -> bool:
        return self.kind != "integers"

    def tensor(self, name: str, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Tensor:
        """The tensor; equal numbers (rounded to ``dtype``) for equal ``name`` on every machine and device."""
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        if self.kind == "integers":  # 0, 1, ... scale - 1
            return torch.randint(int(self.scale), self.shape, generator=generator).to(torch.uint8).to(device)
        draw = torch.randn if self.kind == "normal" else torch.rand
        value = draw(self.shape, generator=generator, dtype=torch.float64) * self.scale + self.shift
        if self.special:
            flat = value.view(-1)
            step = max(1, flat.numel() // (len(self.special) + 1))
            for i, number in enumerate(self.special):
                flat[i * step] = number
        if self.precise and dtype in (torch.bfloat16, torch.float16):
            dtype = torch.float32
        return value.to(dtype).to(device)


def normal(*shape: int, **options) -> Made:
    """Standard normal, times ``scale``, plus ``shift``."""
    return Made("normal", shape, **options)


def uniform(*shape: int, **options) -> Made:
    """Uniform in [0, 1), times ``scale``, plus ``shift``."""
    return Made("uniform", shape, **options)


def integers(*shape: int, below: int) -> Made:
    """uint8 in 0 ... below - 1; has no gradient."""
    return Made("integers", shape, scale=below)


@dataclass(frozen=True)
class Case:
    """One call of an operator: ``arguments`` by name (a ``Made`` becomes a tensor, anything else is passed
    on).

    ``benchmark``: a case of real size, timed by benchmarks/run.py and left out of the tests.
    ``gradcheck``: small and smooth enough for finite differences.
    """

    name: str
    arguments: dict[str, object] = field(default_factory=dict)
    benchmark: bool = False
    gradcheck: bool = False

    def make(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> dict[str, object]:
        """The keyword arguments of the call."""
        return {
            key: value.tensor(f"{self.name}.{key}", dtype, device) if isinstance(value, Made) else value
            for key, value in self.arguments.items()
        }

    def differentiable(self) -> list[str]:
        """Names of the arguments that have a gradient."""
        return [k for k, v in self.arguments.items() if isinstance(v, Made) and v.differentiable]
