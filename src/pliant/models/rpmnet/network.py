"""RPM-Net after the layer table of the supplement: ``Embedding`` (layers 1 to 105), ``Matching`` (106 to 108)
and ``RPMNet``, which joins them and warps (109). Choices that the table leaves open are in README.md, each
with its reason.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from pliant import ops
from pliant.models.backbones.resnet import BasicBlock, Bottleneck
from pliant.models.rpmnet import colour, propagation
from pliant.models.rpmnet.presets import Preset
from pliant.models.rpmnet.propagation import PropagationState
from pliant.nn.deform_conv import DeformConv2d

__all__ = ["Embedding", "Matching", "RPMNet", "reduce"]


# Backbone -> block, blocks in each of the four stages.
_STAGES = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}
_EMBEDDED = 32  # channels of the embedding


class Embedding(nn.Module):
    """Layers 1 to 105: colours [N, 3, H, W] to an embedding [N, 32, ceil(H/4), ceil(W/4)].

    backbone: 18, 34, 50 or 101.
    stem: "table" as printed: 32 channels, stride 2 in every stage, H/64 at the bottom, four transposed
        convolutions. "standard": an ordinary ResNet (64 channels, stride 1 in the first stage, H/32), which
        takes the weights of one; the last transposed convolution becomes a 3x3 convolution, as the sum before
        it is at H/4 already.
    """

    def __init__(self, backbone: int = 18, stem: str = "table") -> None:
        super().__init__()
        if backbone not in _STAGES:
            raise ValueError(f"backbone {backbone}: expected one of {', '.join(map(str, _STAGES))}")
        if stem not in ("table", "standard"):
            raise ValueError(f"stem {stem!r}: expected 'table' or 'standard'")
        block, counts = _STAGES[backbone]
        channels = 32 if stem == "table" else 64
        self.conv1 = nn.Conv2d(3, channels, 7, 2, padding=3, bias=False)  # layer 1
        self.bn1 = nn.BatchNorm2d(channels)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)  # layer 2
        widths = [64, 128, 256, 512]
        strides = [2 if stem == "table" else 1, 2, 2, 2]
        stages = []
        for width, count, stride in zip(widths, counts, strides):
            stages.append(_stage(block, channels, width, count, stride))
            channels = width * block.expansion
        self.layer1, self.layer2, self.layer3, self.layer4 = stages  # layers 3-11, 12-23, 24-92, 93-101
        wide = [width * block.expansion for width in widths]
        self.up4 = _transposed(wide[3], wide[2])  # layer 102
        self.up3 = _transposed(wide[2], wide[1])  # layer 103
        self.up2 = _transposed(wide[1], wide[0])  # layer 104
        if stem == "table":
            self.up1 = _transposed(wide[0], _EMBEDDED)  # layer 105
        else:
            self.up1 = nn.Conv2d(wide[0], _EMBEDDED, 3, padding=1)
        self.stem = stem
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(x)[0]

    def stages(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The embedding and what the first three residual stages gave on the way, at H/8, H/16, H/32 ("standard":
        H/4, H/8, H/16)."""
        p = self.maxpool(F.relu(self.bn1(self.conv1(x))))  # [N, 32, H/4, W/4]
        c1 = self.layer1(p)  # H/8
        c2 = self.layer2(c1)  # H/16
        c3 = self.layer3(c2)  # H/32
        c4 = self.layer4(c3)  # H/64
        u = self.up4(c4, output_size=c3.shape[-2:]) + c3
        u = self.up3(u, output_size=c2.shape[-2:]) + c2
        u = self.up2(u, output_size=c1.shape[-2:]) + c1
        if self.stem == "standard":
            return self.up1(u), c1, c2, c3
        return self.up1(u, output_size=p.shape[-2:]) + p, c1, c2, c3


def _stage(block: type, inputs: int, width: int, count: int, stride: int) -> nn.Sequential:
    later = [block(width * block.expansion, width, 1) for _ in range(count - 1)]
    return nn.Sequential(block(inputs, width, stride), *later)


def _transposed(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 3, 2, padding=1)


def _initialise(embedding: nn.Module) -> None:
    for module in embedding.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.ConvTranspose2d):
            # Each output pixel sums 9/4 taps of each input on average; gain 1, as a plain sum follows.
            nn.init.normal_(module.weight, std=(module.in_channels * 9 / 4) ** -0.5)
            nn.init.zeros_(module.bias)


# Output channels of the matching module by its number of layers; the widths of 5 are ours.
_WIDTHS = {1: (2,), 3: (32, 16, 2), 5: (32, 32, 16, 16, 2)}


class Matching(nn.Module):
    """Layers 106 to 108: embeddings of target and reference, each [N, 32, h, w], to offsets [N, 2, h, w].

    Offsets are (dy, dx) in cells of the h x w grid: what is at (y, x) in the target is at (y + dy, x + dx) in
    the reference. kind, layers, dilation: a row of Table 2 (see ``presets``).
    """

    def __init__(self, kind: str = "deformable", layers: int = 3, dilation: int = 1) -> None:
        super().__init__()
        if kind not in ("deformable", "standard", "dilated"):
            raise ValueError(f"matching {kind!r}: expected 'deformable', 'standard' or 'dilated'")
        if layers not in _WIDTHS:
            raise ValueError(f"{layers} matching layers: expected 1, 3 or 5")
        if dilation < 1 or (dilation > 1) != (kind == "dilated"):
            raise ValueError(f"dilation {dilation} with {kind} matching: expected 1, or above 1 for 'dilated'")
        self.layers = nn.ModuleList()
        inputs = 2 * _EMBEDDED
        for outputs in _WIDTHS[layers]:
            if kind == "deformable":
                # Version 1: 18 offset channels from an ordinary 3x3 convolution that starts at zero.
                layer = DeformConv2d(inputs, outputs, 3, padding=1, modulation=None)
                weights = layer.deform_conv
            else:
                layer = weights = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)
            nn.init.kaiming_normal_(weights.weight, nonlinearity="relu")
            nn.init.zeros_(weights.bias)
            self.layers.append(layer)
            inputs = outputs
        with torch.no_grad():  # starts near the identity warp, which nearly explains neighbouring frames
            weights.weight.mul_(0.01)

    def forward(self, target: Tensor, reference: Tensor) -> Tensor:
        z = torch.cat((target, reference), 1)
        for layer in self.layers[:-1]:
            z = F.relu(layer(z))
        return self.layers[-1](z)


def reduce(image: Tensor) -> Tensor:
    """I_M2 at the size of the embedding: [N, C, H, W] to [N, C, ceil(H/4), ceil(W/4)], means over cells of
    4x4 pixels (of nearly 4x4 where the sides are not multiples of 4)."""
    return F.adaptive_avg_pool2d(image, [-(-side // 4) for side in image.shape[-2:]])


def _single(tensor: Tensor) -> Tensor:
    """In float32, or in float64 if it is that already."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class RPMNet(nn.Module):
    """Robust Pixel-level Matching Network: finds for each pixel of a frame where it was in another, and warps
    by that.

    Trained by ``forward`` on colours alone; follows masks by ``start`` and ``step``
    (``models.protocols.TrackNetwork``).

    Source: Kim, Choi, Lee, Kim, Kim, "RPM-Net: Robust Pixel-Level Matching Networks for Self-Supervised Video
    Object Segmentation", WACV 2020, supplement, Tables 1 and 2.
    """

    stride = 1  # every size fits: transposed convolutions take the size of what they are added to

    def __init__(self, preset: Preset | None = None) -> None:
        super().__init__()
        self.preset = preset or Preset()
        self.embedding = Embedding(self.preset.backbone, self.preset.stem)
        self.matching = Matching(self.preset.matching, self.preset.layers, self.preset.dilation)

    def forward(
        self, target: Tensor, reference: Tensor, *, shift: Tensor | None = None, with_embeddings: bool = False
    ) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor, Tensor]:
        """Offsets from target to reference and back, each [N, 2, ceil(H/4), ceil(W/4)], float32.

        target, reference: [N, 3, H, W], scaled colours (``colour.from_rgb``), hidden channels at 0. Both pass
        the embedding as one batch, so that batch norm sees the statistics of both. with_embeddings: return those of
        target and reference as well, [N, 32, ceil(H/4), ceil(W/4)]. shift: [N, 2], offsets in cells that are known
        already (of crops taken at different places); only what remains is matched.
        """
        if target.shape != reference.shape:
            raise ValueError(f"target {tuple(target.shape)} and reference {tuple(reference.shape)}: expected one shape")
        first, second = self.embedding(torch.cat((target, reference))).chunk(2)
        if shift is None:
            offsets = self.match(first, second), self.match(second, first)
        else:
            known = shift[:, :, None, None].expand(-1, -1, *first.shape[-2:])
            with torch.autocast(target.device.type, enabled=False):
                moved = ops.warp(_single(second), known), ops.warp(_single(first), -known)
            offsets = known + self.match(first, moved[0]), self.match(second, moved[1]) - known
        return (*offsets, first, second) if with_embeddings else offsets

    def embed(self, image: Tensor) -> Tensor:
        """The embedding [N, 32, ceil(H/4), ceil(W/4)] of normalised images [N, 3, H, W]."""
        colours = colour.from_normalised(image, self.preset.colour)
        return self.embedding(colours.to(self.embedding.conv1.weight.dtype))

    def embed_stages(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``embed`` and the first three stages of it (``Embedding.stages``), for ``likeness.Likeness``."""
        colours = colour.from_normalised(image, self.preset.colour)
        return self.embedding.stages(colours.to(self.embedding.conv1.weight.dtype))

    def match(self, target: Tensor, reference: Tensor, fitted: dict[str, Tensor] | None = None) -> Tensor:
        """Offsets [N, 2, h, w], float32 at least, from two embeddings [N, 32, h, w].

        fitted: parameters of the matching module that were fitted to this stream, in place of the network's.
        With ``preset.iterations`` above 1 the reference is warped by the answer and matched again; the
        answers add up.
        """
        weights = {name: _single(value) for name, value in (fitted or dict(self.matching.named_parameters())).items()}
        # Never in bf16, whatever surrounds it: at 20 cells its step is an eighth of a cell, half a pixel of the image.
        with torch.autocast(target.device.type, enabled=False):
            target, reference = _single(target), _single(reference)
            offset = functional_call(self.matching, weights, (target, reference))
            for _ in range(self.preset.iterations - 1):
                offset = offset + functional_call(self.matching, weights, (target, ops.warp(reference, offset)))
        return offset

    def start(self, image: Tensor, masks: Tensor) -> PropagationState:
        """State after the first annotated frame. image [1, 3, H, W], normalised; masks [K, H, W] in [0, 1]."""
        return propagation.start(self, image, masks)

    def step(self, state: PropagationState, image: Tensor, *, memory_frame: bool = False) -> Tensor:
        """Probabilities [K + 1, H, W] of the next frame, float32, row 0 the background; they sum to 1."""
        return propagation.step(self, state, image)

    def memorize(
        self, state: PropagationState, image: Tensor, probabilities: Tensor, *, permanent: bool = False
    ) -> None:
        """Go on from ``probabilities`` [K' + 1, H, W] of ``image``; a permanent frame is an anchor as
        well.
        """
        propagation.memorize(self, state, image, probabilities, permanent=permanent)

    def forget(self, state: PropagationState, index: int) -> None:
        """Remove object ``index`` (0-based); what was its becomes background."""
        propagation.forget(state, index)
