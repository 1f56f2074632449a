"""The small memory-matching tracker for CPUs: STCN's scheme, sized to run in real time without a GPU.

Key encoder: the first blocks of an ImageNet ResNet-50, or a MobileNetV2, with its batch norms folded into the
convolutions (so there is nothing to freeze, and inference is the training network). Value encoder, decoder and key
projection are our own.
Differences from STCN, each for speed or steadiness: narrower values and decoder; the value encoder looks at the mask
and the picture at 1/4 and takes the rest from the key features; the decoder is also told, at 1/16, where the object
was one frame before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.models.backbones.frame_encoders import frame_encoder
from pliant.models.memory_bank import MemoryBank
from pliant.models.spvos.aggregation import aggregate, aggregate_log_odds
from pliant.models.spvos.layers import module_of
from pliant.nn.fused_conv import conv2d, conv2d_add
from pliant.ops import memory_readout

__all__ = ["SmallPreset", "SmallState", "SmallTracker"]


@dataclass(frozen=True)
class SmallPreset:
    """Sizes of a small tracker.

    encoder: "resnet50", fast where bfloat16 is, or "mobilenet_v2" for plain float32. blocks: how many blocks of
    ResNet-50's first three stages are kept.
    """

    encoder: Literal["resnet50", "mobilenet_v2"] = "resnet50"
    blocks: tuple[int, int, int] = (3, 4, 3)
    key_channels: int = 64
    value_channels: int = 128
    context_channels: int = 128  # of the query features that the decoder sees
    decoder_channels: tuple[int, int, int] = (192, 128, 64)  # at 1/16, 1/8, 1/4
    memory_channels: tuple[int, int, int] = (64, 128, 256)  # of the value encoder at 1/4, 1/8, 1/16
    top_k: int = 30
    memory_frames: int = 8


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)


class ResidualBlock(nn.Module):
    """y = ReLU(x' + conv(ReLU(conv(x)))), x' = x or its 1x1 projection; without gradients x may be overwritten."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, outputs, 3, stride)
        self.conv2 = _conv(outputs, outputs)
        self.shortcut = None if inputs == outputs and stride == 1 else _conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.shortcut is None else conv2d(self.shortcut, x)
        return conv2d_add(self.conv2, conv2d(self.conv1, x, relu=True), residual, relu=True)


class ValueEncoder(nn.Module):
    """Image, mask of the object, masks of the others [N K, ...], key features [N, ...] -> values [N K, C_v, h, w]."""

    def __init__(self, preset: SmallPreset, features: int) -> None:
        super().__init__()
        c4, c8, c16 = preset.memory_channels
        self.stem = nn.Conv2d(5, c4, 4, 4)
        self.layers = nn.Sequential(ResidualBlock(c4, c4), ResidualBlock(c4, c8, 2), ResidualBlock(c8, c16, 2))
        self.reduce = _conv(features, c16, 1)
        self.fuse = ResidualBlock(2 * c16, c16)
        self.value = _conv(c16, preset.value_channels)

    def forward(self, image: Tensor, mask: Tensor, others: Tensor, f16: Tensor) -> Tensor:
        x = torch.cat([image, mask, others], 1).contiguous(memory_format=torch.channels_last)
        x = self.layers(conv2d(self.stem, x, relu=True))
        features = conv2d(self.reduce, f16)  # the same for all objects of a frame
        x = torch.cat([x, features.repeat_interleave(len(x) // len(features), 0)], 1)
        return conv2d(self.value, self.fuse(x))


class Decoder(nn.Module):
    """Readout, query features and the last mask -> logit [N, 1, 4h, 4w] at 1/4."""

    def __init__(self, preset: SmallPreset, features: list[int]) -> None:
        super().__init__()
        d16, d8, d4 = preset.decoder_channels
        self.start = ResidualBlock(preset.value_channels + preset.context_channels + 2, d16)
        self.skip8 = _conv(features[1], d8, 1)
        self.down8 = _conv(d16, d8, 1)
        self.block8 = ResidualBlock(d8, d8)
        self.skip4 = _conv(features[0], d4, 1)
        self.down4 = _conv(d8, d4, 1)
        self.block4 = ResidualBlock(d4, d4)
        self.logit = _conv(d4, 1)

    def skips(self, f4: Tensor, f8: Tensor) -> tuple[Tensor, Tensor]:
        """What all objects of a frame share: [N, d4, ...] at 1/4 and [N, d8, ...] at 1/8."""
        return conv2d(self.skip4, f4), conv2d(self.skip8, f8)

    def forward(self, readout: Tensor, context: Tensor, last: Tensor, skip4: Tensor, skip8: Tensor) -> Tensor:
        x = torch.cat([readout, context, last], 1).contiguous(memory_format=torch.channels_last)
        x = self.start(x)
        x = self.block8(F.relu_(upsample(conv2d(self.down8, x), 2).add_(skip8)))
        x = self.block4(F.relu_(upsample(conv2d(self.down4, x), 2).add_(skip4)))
        return conv2d(self.logit, x)


def upsample(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


@dataclass(slots=True)
class SmallState:
    """One stream: the memory, the last mask at 1/16 [K, h, w], and the features of the frame seen last."""

    bank: MemoryBank
    time: int
    last: Tensor
    features: tuple[Tensor, Tensor, Tensor] | None = None
    key: Tensor | None = None

    def nbytes(self) -> int:
        """Bytes of all tensors held."""
        tensors = [self.last, *(self.features or ()), *([self.key] if self.key is not None else [])]
        return self.bank.nbytes() + sum(t.numel() * t.element_size() for t in tensors)


class SmallTracker(nn.Module):
    """The whole network; promises what ``pliant.models.protocols.TrackNetwork`` says."""

    stride = 16
    part_of = staticmethod(module_of)  # Q, M or D of a layer's name

    def __init__(self, preset: SmallPreset | None = None) -> None:
        super().__init__()
        self.preset = preset = preset or SmallPreset()
        self.key_encoder = frame_encoder(preset.encoder, preset.blocks)
        *fine, coarse = self.key_encoder.channels
        self.key = _conv(coarse, preset.key_channels)
        self.context = _conv(coarse, preset.context_channels)
        self.value_encoder = ValueEncoder(preset, coarse)
        self.decoder = Decoder(preset, fine)
        nn.init.orthogonal_(self.key.weight)
        nn.init.zeros_(self.key.bias)

    # One stream -----------------------------------------------------------------------------------------------

    def start(self, image: Tensor, masks: Tensor) -> SmallState:
        given = aggregate(masks)
        state = self._new_state(MemoryBank(self.preset.memory_frames), self._shrink(given[1:]))
        self._see(state, image)
        self.memorize(state, image, given, permanent=True)
        return state

    def step(self, state: SmallState, image: Tensor, *, memory_frame: bool = False) -> Tensor:
        state.time += 1
        self._see(state, image)
        context, skip4, skip8 = self._shared(state)
        readout = self._read(state)
        count = len(readout)
        last = torch.stack([state.last, state.last.sum(0, keepdim=True) - state.last], 1).to(readout.dtype)
        logits = self._decode(state, readout, context.expand(count, -1, -1, -1), last, skip4, skip8)
        logits = upsample(logits.float(), 4)[:, 0]
        if count == 1:  # aggregation of one object doubles its logit
            foreground = torch.sigmoid(2 * logits)
            result = torch.cat([1 - foreground, foreground])
        else:
            result = aggregate(torch.sigmoid(logits))
        state.last = self._shrink(result[1:])
        return result

    def memorize(self, state: SmallState, image: Tensor, probabilities: Tensor, *, permanent: bool = False) -> None:
        if state.features is None or state.features[2].shape[-2:] != self._grid(image):
            self._see(state, image)
        objects = probabilities[1:].to(image.dtype)
        others = objects.sum(0, keepdim=True) - objects
        picture = image.expand(len(objects), -1, -1, -1)
        values = self.value_encoder(picture, objects[:, None], others[:, None], state.features[2])
        state.bank.add(state.time, state.key[0], values, permanent=permanent)
        state.last = self._shrink(probabilities[1:])

    def forget(self, state: SmallState, index: int) -> None:
        state.bank.forget(index)
        state.last = torch.cat([state.last[:index], state.last[index + 1 :]])

    def _new_state(self, bank: MemoryBank, last: Tensor) -> SmallState:
        return SmallState(bank, 0, last)

    def _see(self, state: SmallState, image: Tensor) -> None:
        state.features = self.key_encoder(image.contiguous(memory_format=torch.channels_last))
        state.key = conv2d(self.key, state.features[2])

    def _shared(self, state: SmallState) -> tuple[Tensor, Tensor, Tensor]:
        """What the decoder sees of the frame, the same for all objects: context, and features at 1/4 and 1/8."""
        f4, f8, f16 = state.features
        return conv2d(self.context, f16), *self.decoder.skips(f4, f8)

    def _decode(self, state: SmallState, *inputs: Tensor) -> Tensor:
        return self.decoder(*inputs)

    def _grid(self, image: Tensor) -> tuple[int, int]:
        return image.shape[-2] // self.stride, image.shape[-1] // self.stride

    def _shrink(self, probabilities: Tensor) -> Tensor:
        return F.avg_pool2d(probabilities.float()[:, None], self.stride)[:, 0]

    def _read(self, state: SmallState) -> Tensor:
        """Values [K, C_v, h, w] read from the memory for every object."""
        return self._look_up(state, state.key)

    def _look_up(self, state: SmallState, query: Tensor) -> Tensor:
        """Values [K, C_v, a, b] for queries [1, C_k, a, b]."""
        channels = self.preset.value_channels
        readout = None
        for indices, key, values in state.bank.groups():
            part = memory_readout(key[None], query, values[None], top_k=self.preset.top_k)
            part = part[0].unflatten(0, (len(indices), channels))
            if len(indices) == state.bank.objects:
                return part
            if readout is None:
                readout = part.new_zeros(state.bank.objects, *part.shape[1:])
            readout[indices] = part
        return readout

    # Training --------------------------------------------------------------------------------------------------

    def forward(
        self, images: Tensor, masks: Tensor, valid: Tensor, memory: list[bool], hinted: Tensor | None = None
    ) -> Tensor:
        """Log-odds [B, T - 1, K + 1, H, W] of frames 1 to T - 1 of clips, the masks of frame 0 given.

        images [B, T, 3, H, W] normalised; masks [B, K, H, W] of frame 0 in [0, 1]; valid [B, K] bool, objects that
        exist; memory: for each frame whether its prediction joins the memory (frame 0 always does); hinted [B] bool:
        clips whose decoder is told where the object was one frame before (None: all). Masks fed back are the
        network's own, with gradients.
        """
        b, t = images.shape[:2]
        k = masks.shape[1]
        clip = self._open_clip(images, memory)

        def per_object(x: Tensor) -> Tensor:
            return x.repeat_interleave(k, 0)

        def remember(index: int, f16: Tensor, probabilities: Tensor) -> Tensor:  # [B, K, H, W] -> [B, K * C_v, h, w]
            objects = probabilities.to(images.dtype)
            others = objects.sum(1, keepdim=True) - objects
            planes = objects.flatten(0, 1)[:, None], others.flatten(0, 1)[:, None]
            values = self.value_encoder(per_object(images[:, index]), *planes, f16)
            return values.unflatten(0, (b, k)).flatten(1, 2)

        exists = valid[:, :, None, None].float()
        given = aggregate(masks * exists, 1)[:, 1:] * exists
        last = self._pool(given)
        key, f16, *_ = clip.see(0, last)
        memory_keys, memory_values = [key], [remember(0, f16, given)]
        told = 1.0 if hinted is None else hinted.view(-1, 1, 1, 1, 1).float()
        outputs = []
        for index in range(1, t):
            key, f16, context, skip4, skip8 = clip.see(index, last)
            readout = memory_readout(torch.stack(memory_keys, 2), key, torch.stack(memory_values, 2))
            readout = readout.unflatten(1, (k, -1)).flatten(0, 1)
            hint = (told * torch.stack([last, last.sum(1, keepdim=True) - last], 2)).flatten(0, 1).to(readout.dtype)
            inputs = (readout, per_object(context), hint, per_object(skip4), per_object(skip8))
            logits = clip.decode(*inputs, last=last)
            probabilities = torch.sigmoid(upsample(logits.float(), 4)).unflatten(0, (b, k))[:, :, 0] * exists
            odds = aggregate_log_odds(probabilities, 1)
            outputs.append(odds)
            predicted = odds.softmax(1)[:, 1:] * exists
            last = self._pool(predicted)
            if memory[index] and index < t - 1:
                memory_keys.append(key)
                memory_values.append(remember(index, f16, predicted))
        return clip.finish(torch.stack(outputs, 1))

    def _open_clip(self, images: Tensor, memory: list[bool]) -> SmallClip:
        return SmallClip(self, images)

    def _pool(self, probabilities: Tensor) -> Tensor:
        return F.avg_pool2d(probabilities, self.stride)


class SmallClip:
    """The frames of a batch of clips in training, all encoded at once."""

    def __init__(self, network: SmallTracker, images: Tensor) -> None:
        shape = images.shape[:2]
        f4, f8, f16 = network.key_encoder(images.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        shared = network.key(f16), f16, network.context(f16), *network.decoder.skips(f4, f8)
        self._frames = [x.unflatten(0, shape) for x in shared]
        self._decoder = network.decoder

    def see(self, index: int, last: Tensor) -> list[Tensor]:
        """Key, features at 1/16, context and the decoder's features at 1/4 and 1/8 of a frame."""
        return [x[:, index] for x in self._frames]

    def decode(self, *inputs: Tensor, last: Tensor) -> Tensor:
        """The decoder on readout, context, hint and its two features; ``last`` [B, K, h, w]: the masks before."""
        return self._decoder(*inputs)

    def finish(self, odds: Tensor) -> Tensor:
        """What ``forward`` returns."""
        return odds


def build(**options) -> SmallTracker:
    """A small tracker with random weights; ``options`` are fields of ``SmallPreset``."""
    return SmallTracker(SmallPreset(**options))
