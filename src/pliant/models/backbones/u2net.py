"""U2-NetP, the small U²-Net for image saliency, without batch norms, and its published ONNX file.

Qin et al., "U²-Net: Going Deeper with Nested U-Structure for Salient Object Detection", Pattern Recognition 106, 2020:
eleven stages, each a small U-Net with a residual, in the shape of a large one. The P variant has 16 inner and 64 outer
channels everywhere, 1.1 M parameters in all.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.errors import MissingDependencyError, WeightsError
from pliant.nn.fused_conv import conv2d
from pliant.nn.pooling import halve_rectified

__all__ = ["ResidualU", "U2NetP", "read_u2net"]

_MIDDLE, _CHANNELS, _SIDES = 16, 64, 6


class ResidualU(nn.Module):
    """A U-Net of ``depth`` convolutions down and as many less one up, added to its first convolution's output.

    dilated: instead of pooling, every convolution down is dilated twice as widely as the one before. x [N, inputs, H,
    W] -> [N, outputs, H, W], any H and W.
    """

    def __init__(self, inputs: int, middle: int, outputs: int, depth: int, *, dilated: bool = False) -> None:
        super().__init__()
        self.dilated = dilated
        # Where it pools, only the innermost convolution is dilated: by 2, on the map of the one before.
        reach = [2**i for i in range(depth)] if dilated else [1] * (depth - 1) + [2]
        self.first = _convolution(inputs, outputs, 1)
        self.down = nn.ModuleList(_convolution(middle if i else outputs, middle, d) for i, d in enumerate(reach))
        up = reach[-2::-1] if dilated else [1] * (depth - 1)
        self.up = nn.ModuleList(
            _convolution(2 * middle, middle if i < depth - 2 else outputs, d) for i, d in enumerate(up)
        )

    def forward(self, x: Tensor) -> Tensor:
        first = conv2d(self.first, x, relu=True)
        maps, x = [], first
        for i, convolution in enumerate(self.down):
            if not self.dilated and 0 < i < len(self.down) - 1:
                x = halve_rectified(x)
            x = conv2d(convolution, x, relu=True)
            maps.append(x)
        x = maps.pop()
        for convolution in self.up:
            x = conv2d(convolution, _join(x, maps.pop()), relu=True)
        return x + first


class U2NetP(nn.Module):
    """ImageNet-normalised image [N, 3, H, W] -> (logits, features), without the decoder's stages finer than ``finest``.

    features: maps [N, 64, H / 2^i, W / 2^i] (rounded up) for i = ``finest`` to 5; the last is the encoder's, the others
    the decoder's. logits: with all stages (0) the fused ones [N, 1, H, W] of the paper, else those of the side output
    of the finest map, at its size. Published for images stretched to 320 x 320; other sides run too.
    """

    channels = _CHANNELS

    def __init__(self, finest: int = 0) -> None:
        super().__init__()
        shapes = ((7, False), (6, False), (5, False), (4, False), (4, True), (4, True))
        self.finest = finest
        self.down = nn.ModuleList(
            ResidualU(_CHANNELS if i else 3, _MIDDLE, _CHANNELS, depth, dilated=dilated)
            for i, (depth, dilated) in enumerate(shapes)
        )
        self.up = nn.ModuleList(
            ResidualU(2 * _CHANNELS, _MIDDLE, _CHANNELS, depth, dilated=dilated)
            for depth, dilated in shapes[finest:-1][::-1]
        )
        sides = (finest,) if finest else range(_SIDES)
        self.side = nn.ModuleDict({str(i): nn.Conv2d(_CHANNELS, 1, 3, padding=1) for i in sides})
        self.fuse = None if finest else nn.Conv2d(_SIDES, 1, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        maps, x = [], image
        for i, stage in enumerate(self.down):
            x = stage(halve_rectified(x) if i else x)
            maps.append(x)
        features = [maps.pop()]
        for stage in self.up:
            features.insert(0, stage(_join(features[0], maps.pop())))
        if self.fuse is None:
            return conv2d(self.side[str(self.finest)], features[0]), tuple(features)
        sides = [_resize(conv2d(layer, x), image.shape[2:]) for layer, x in zip(self.side.values(), features)]
        return conv2d(self.fuse, torch.cat(sides, 1)), tuple(features)


def _convolution(inputs: int, outputs: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)


def _resize(x: Tensor, size: torch.Size) -> Tensor:
    return x if x.shape[2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=False)


def _join(deep: Tensor, shallow: Tensor) -> Tensor:
    return torch.cat([_resize(deep, shallow.shape[2:]), shallow], 1)


def read_u2net(file: str | Path) -> dict[str, Tensor]:
    """A state dict for the whole ``U2NetP`` of a published ``u2netp.onnx``, batch norms folded in.

    The file's convolutions are taken in the order in which they run, which is that of ``forward``. Needs the package
    onnx, without which it raises ``MissingDependencyError``. Raises ``WeightsError`` where the file is something else.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError("reading U2-NetP's weights needs `pip install onnx`.") from error
    try:
        graph = onnx.load(str(file)).graph
    except Exception as error:  # protobuf's own exceptions have no common base
        raise WeightsError(f"{file} is not an ONNX file.") from error
    values = {tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    found = [[values.get(name) for name in node.input[1:]] for node in graph.node if node.op_type == "Conv"]
    network = U2NetP()
    wanted = _in_running_order(network)
    state = {}
    for (name, layer), tensors in zip(wanted, found):
        if len(tensors) == 2 and tensors[0] is not None and tensors[0].shape == layer.weight.shape:
            state |= {f"{name}.weight": tensors[0], f"{name}.bias": tensors[1]}
    if len(found) != len(wanted) or len(state) != 2 * len(wanted):
        raise WeightsError(
            f"{file} is not U2-NetP: {len(found)} convolutions, of which {len(state) // 2} have the shapes of its "
            f"{len(wanted)}."
        )
    return state


def _in_running_order(network: U2NetP) -> list[tuple[str, nn.Conv2d]]:
    return [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)]
