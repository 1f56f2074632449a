"""Cases of sparse_conv2d: what tests, benchmarks, the GPU check and the docs run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pliant.ops.case import Case, Made, integers, normal


@dataclass(frozen=True)
class Regions(Made):
    """A policy as video gives it: ``scale`` of the positions computed, in connected regions, the rest reused."""

    @property
    def differentiable(self) -> bool:
        return False

    def tensor(self, name: str, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Tensor:
        batch, _, height, width = self.shape
        coarse = normal(batch, 1, -(-height // 8), -(-width // 8)).tensor(name)
        smooth = F.interpolate(coarse, (height, width), mode="bicubic").flatten()
        count = round(self.scale * smooth.numel())
        policy = torch.ones_like(smooth, dtype=torch.uint8)
        policy[smooth.argsort(descending=True)[:count]] = 2
        return policy.view(self.shape).to(device)


def _benchmark(name: str, height: int, width: int, share: float) -> Case:
    """256 -> 256 channels, bias, residual and ReLU fused, ``share`` of the positions computed."""
    arguments = _call((1, 256, height, width), 256, (3, 3), (height, width), padding=1, activation="relu")
    arguments["policy"] = Regions("regions", (1, 1, height, width), scale=share)
    return Case(f"{name}, {share:.0%}", arguments, benchmark=True)


def _call(x, out, kernel, size, *, groups=1, bias=True, previous=True, residual=True, below=3, **options):
    """Input [N, C, H, W] ``x``, ``out`` channels, extent ``size`` of the output; a policy of 0 ... below - 1."""
    batch, channels = x[:2]
    inner = channels // groups
    full = (batch, out, *size)
    return {
        "input": normal(*x),
        "weight": normal(out, inner, *kernel, scale=(inner * kernel[0] * kernel[1]) ** -0.5),
        "bias": normal(out) if bias else None,
        "policy": integers(batch, 1, *size, below=below),
        "previous": normal(*full) if previous else None,
        "residual": normal(*full) if residual else None,
        **options,
    }


_REGIONS = Regions("regions", (2, 1, 9, 11), scale=0.6)

CASES = (
    Case("all three", _call((1, 4, 6, 7), 5, (3, 3), (6, 7), padding=1, activation="relu")),
    Case("tiny", _call((2, 2, 3, 3), 2, (2, 2), (2, 2)), gradcheck=True),
    Case(
        "plain", _call((2, 4, 6, 7), 5, (3, 3), (6, 7), bias=False, previous=False, residual=False, padding=1)
    ),
    Case("skips alone", _call((1, 4, 6, 7), 5, (3, 3), (6, 7), below=1, padding=1)),
    Case("skips and reuses", _call((1, 4, 6, 7), 5, (3, 3), (6, 7), below=2, padding=1)),
    Case("strided", _call((2, 3, 9, 8), 4, (3, 3), (5, 3), stride=(2, 3), padding=(1, 1))),
    Case("pointwise", _call((1, 24, 6, 7), 40, (1, 1), (6, 7), activation="relu")),
    Case("wide kernel", _call((1, 3, 9, 11), 8, (7, 5), (9, 11), padding=(3, 2))),
    Case("groups", _call((1, 8, 6, 7), 12, (3, 3), (6, 7), groups=4, padding=1)),
    Case("depth-wise", _call((1, 8, 6, 7), 8, (3, 3), (6, 7), groups=8, padding=1)),
    Case("empty batch", _call((0, 4, 6, 7), 5, (3, 3), (6, 7), padding=1)),
    Case("whole vectors", _call((2, 64, 9, 11), 64, (3, 3), (9, 11), padding=1, activation="relu")),
    Case("odd channels", _call((2, 37, 9, 11), 45, (3, 3), (9, 11), padding=1)),
    Case("tiles", _call((2, 32, 9, 11), 21, (3, 3), (9, 11), padding=1, activation="relu") | {"policy": _REGIONS}),
    Case("tiles without padding", _call((2, 16, 11, 13), 64, (3, 3), (9, 11)) | {"policy": _REGIONS}),
    Case("tiles beyond the padding", _call((2, 16, 7, 9), 80, (3, 3), (9, 11), padding=2) | {"policy": _REGIONS}),
    *tuple(
        _benchmark(name, height, width, share)
        for name, height, width in (("quarter resolution", 120, 214), ("sixteenth resolution", 30, 54))
        for share in (0.05, 0.1, 0.25, 0.5, 1.0)
    ),
)
