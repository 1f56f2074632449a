"""MobileNetV2 to 1/16 without batch norms, and its ImageNet weights (torchvision's names) with the norms folded in.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018. Callers get the widened features that
the next block computes anyway, not the narrow ones between blocks: a 1x1 layer on top of them is two layers deep.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from pliant.errors import WeightsError
from pliant.nn.fused_conv import conv2d, conv2d_add, conv2d_relu6
from pliant.weights import read_state

__all__ = ["InvertedResidual", "MobileNetV2Trunk", "read_mobilenet_v2"]

_EPSILON = 1e-5
# (expansion, channels, stride) of the blocks features.1 to features.13.
_ROWS = (
    (1, 16, 1), (6, 24, 2), (6, 24, 1), (6, 32, 2), (6, 32, 1), (6, 32, 1), (6, 64, 2), (6, 64, 1), (6, 64, 1),
    (6, 64, 1), (6, 96, 1), (6, 96, 1), (6, 96, 1),
)  # fmt: skip
_TAPS = (3, 6)  # blocks whose widened input is the feature at 1/4 and at 1/8; at 1/16 it is the last layer's
# A widened tensor of more values is made in strips: the 40 MB at 480p are more than a cache holds, and the system
# would map and clear them anew in every frame. 15 ms become 5.
_STRIP = 1 << 20


class InvertedResidual(nn.Module):
    """1x1 to more channels, depth-wise 3x3, 1x1 back without activation; the sum with x where shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = nn.Conv2d(inputs, hidden, 1) if expansion > 1 else None
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden)
        self.project = nn.Conv2d(hidden, outputs, 1)
        self.stride, self.residual = stride, stride == 1 and inputs == outputs

    def widen(self, x: Tensor) -> Tensor:
        return x if self.expand is None else conv2d_relu6(self.expand, x)

    def narrow(self, wide: Tensor, x: Tensor) -> Tensor:
        """The rest of the block; without gradients x may be overwritten."""
        y = self._spread(wide)
        return conv2d_add(self.project, y, x) if self.residual else conv2d(self.project, y)

    def _spread(self, wide: Tensor) -> Tensor:
        if self.stride == 1 or not torch.is_grad_enabled():
            return conv2d_relu6(self.depthwise, wide)
        # Gradients of a strided depth-wise layer have no bfloat16 kernel on CPUs; a dense one with many times the work
        # takes its place.
        with torch.autocast(wide.device.type, enabled=False):
            return conv2d_relu6(self.depthwise, wide.to(self.depthwise.weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        parts = self.depthwise.in_channels * height * width // _STRIP
        if parts > 1 and self.stride == 2 and height % 2 == 0 and not torch.is_grad_enabled():
            return self._in_strips(x, -(-height // 2 // parts))
        return self.narrow(self.widen(x), x)

    def _in_strips(self, x: Tensor, rows: int) -> Tensor:
        """Stride 2, ``rows`` rows of the result at a time; each strip begins a row early, which sees padding."""
        strips = [self.narrow(self.widen(x[:, :, : 2 * rows]), x)]
        for top in range(rows, x.shape[2] // 2, rows):
            strips.append(self.narrow(self.widen(x[:, :, 2 * top - 2 : 2 * (top + rows)]), x)[:, :, 1:])
        return torch.cat(strips, 2).contiguous(memory_format=torch.channels_last)


class MobileNetV2Trunk(nn.Module):
    """Image [N, 3, H, W] -> features at 1/4 [144], 1/8 [192], 1/16 [576], not negative."""

    channels = (144, 192, 576)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        inputs = (32, *(outputs for _, outputs, _ in _ROWS))
        self.blocks = nn.Sequential(
            *(InvertedResidual(before, after, stride, t) for before, (t, after, stride) in zip(inputs, _ROWS))
        )
        self.last = nn.Conv2d(96, 576, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = conv2d_relu6(self.stem, image)
        features = []
        for index, block in enumerate(self.blocks):
            if index in _TAPS:
                features.append(block.widen(x))
                x = block.narrow(features[-1], x)
            else:
                x = block(x)
        return features[0], features[1], conv2d_relu6(self.last, x)


def read_mobilenet_v2(path: str | Path) -> dict[str, Tensor]:
    """torchvision's MobileNetV2 in the file ``path`` as weights of ``MobileNetV2Trunk``, batch norms folded.

    Input: RGB in [0, 1], ImageNet mean and standard deviation. Raises ``WeightsError`` for any other file.
    """
    layers = [("features.0.0", "features.0.1", "stem")]
    for index, (expansion, _, _) in enumerate(_ROWS):
        layers += _block(index + 1, f"blocks.{index}", ["expand"] if expansion > 1 else [])
    layers.append(("features.14.conv.0.0", "features.14.conv.0.1", "last"))
    return _folded(Path(path), layers)


def _block(number: int, name: str, first: list[str]) -> list[tuple[str, str, str]]:
    """Convolution, norm and our name of a block's layers."""
    place, parts = f"features.{number}.conv", [*first, "depthwise"]
    layers = [(f"{place}.{i}.0", f"{place}.{i}.1", f"{name}.{part}") for i, part in enumerate(parts)]
    return [*layers, (f"{place}.{len(parts)}", f"{place}.{len(parts) + 1}", f"{name}.project")]


def _folded(path: Path, layers: list[tuple[str, str, str]]) -> dict[str, Tensor]:
    state, result = read_state(path), {}
    try:
        for convolution, norm, name in layers:
            scale = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + _EPSILON)
            result[f"{name}.weight"] = state[f"{convolution}.weight"] * scale[:, None, None, None]
            result[f"{name}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    except KeyError as error:
        missing = error.args[0]
        raise WeightsError(f"{path} is not a MobileNetV2 with torchvision's names: {missing} is missing.") from error
    return result
