"""The memory-matching tracker of SpVOS (fig. 2): query encoder Q, memory encoder M, decoder D, as STCN builds
them.

Module names are those of official STCN checkpoints. Shapes: N streams (training) or 1 (tracking), K objects,
h x w = H/16 x W/16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.models.backbones.convolve import convolve, fold_batch_norms
from pliant.models.backbones.mask_blocks import FeatureFusion, ResBlock, UpsampleBlock, repeat_for_objects
from pliant.models.backbones.resnet import ResNet18Trunk, ResNet50Trunk
from pliant.models.spvos.aggregation import aggregate, aggregate_log_odds
from pliant.models.spvos.layers import module_of
from pliant.models.spvos.memory import Memory
from pliant.ops import memory_readout

__all__ = ["STCN", "ClipRun", "Features", "TrackingState", "check_image", "others_of"]


@dataclass(slots=True)
class Features:
    """What the query encoder says of a frame; the same for all objects."""

    key: Tensor  # [N, C_k, h, w]
    thin: Tensor  # [N, C_v, h, w], the paper's query value
    f16: Tensor  # [N, 1024, h, w]
    f8: Tensor  # [N, 512, 2h, 2w]
    f4: Tensor  # [N, 256, 4h, 4w]

    def nbytes(self) -> int:
        return sum(x.nbytes for x in (self.key, self.thin, self.f16, self.f8, self.f4))


@dataclass(slots=True)
class TrackingState:
    """Everything that changes while one stream is tracked."""

    memory: Memory
    image: Tensor | None = None  # the frame that ``features`` belong to
    features: Features | None = None

    def nbytes(self) -> int:
        held = 0 if self.features is None else self.features.nbytes() + self.image.nbytes
        return self.memory.nbytes() + held


@dataclass(slots=True)
class ClipRun:
    """What the frames of a batch of clips share while they are trained on."""

    images: Tensor  # [B, T, 3, H, W]
    memory: tuple[bool, ...]
    caches: dict[str, dict[str, Any]] = field(default_factory=lambda: {"Q": {}, "D": {}, "M": {}})
    records: list[Any] = field(default_factory=list)


def others_of(masks: Tensor) -> Tensor:
    """Per object the sum of all other objects' masks: [K, 1, H, W] -> [K, 1, H, W]."""
    return masks.sum(dim=0, keepdim=True) - masks if len(masks) > 1 else torch.zeros_like(masks)


class KeyProjection(nn.Module):
    """f16 -> key [N, C_k, h, w]; orthogonal start."""

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.key_proj = nn.Conv2d(channels, key_channels, 3, padding=1)
        nn.init.orthogonal_(self.key_proj.weight)
        nn.init.zeros_(self.key_proj.bias)

    def forward(self, f16: Tensor) -> Tensor:
        return convolve(self.key_proj, None, f16)


class ValueEncoder(ResNet18Trunk):
    """Memory encoder M: frame, mask of an object and of the others, f16 -> value [K, C_v, h, w]."""

    def __init__(self, value_channels: int, extra_channels: int = 2) -> None:
        super().__init__(3 + extra_channels, bias=True)
        self.fuser = FeatureFusion(256 + 1024, value_channels)

    def forward(self, image: Tensor, f16: Tensor, masks: Tensor, others: Tensor) -> Tensor:
        inputs = [repeat_for_objects(image, len(masks)), masks, others]
        inputs = inputs[: self.conv1.in_channels - 2]  # single-object networks know no others
        x = self.trunk(torch.cat(inputs, dim=1))
        return self.fuser(torch.cat([x, repeat_for_objects(f16, len(masks))], dim=1))


class Decoder(nn.Module):
    """Decoder D: readout and thin feature at 1/16, f8, f4 -> logits [K, 1, H, W]."""

    def __init__(self, value_channels: int) -> None:
        super().__init__()
        self.compress = ResBlock(2 * value_channels, 512)
        self.up_16_8 = UpsampleBlock(512, 512, 256)
        self.up_8_4 = UpsampleBlock(256, 256, 256)
        self.pred = nn.Conv2d(256, 1, 3, padding=1)

    def forward(self, readout: Tensor, thin: Tensor, f8: Tensor, f4: Tensor) -> Tensor:
        x = torch.cat([readout, repeat_for_objects(thin, len(readout))], dim=1)
        x = self.compress(x.contiguous(memory_format=torch.channels_last))
        x = self.up_8_4(f4, self.up_16_8(f8, x), relu=True)
        logits = convolve(self.pred, None, x)
        return F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)


class STCN(nn.Module):
    """Space-time correspondence network: the paper's dense network, and the frame of its sparse ones.

    key_channels, value_channels: C_k, C_v. top_k: memory tokens a query reads at inference (None: all).
    memory_frames: frames the memory may hold (None: no bound, as published).
    others: whether the value encoder sees the other objects (False: STCN's single-object pre-training).
    """

    stride = 16
    part_of = staticmethod(module_of)  # Q, M or D of a layer's name

    def __init__(
        self,
        *,
        key_channels: int = 64,
        value_channels: int = 512,
        top_k: int | None = 20,
        memory_frames: int | None = None,
        others: bool = True,
    ) -> None:
        super().__init__()
        self.top_k = top_k
        self.memory_frames = memory_frames
        self.key_encoder = ResNet50Trunk()
        self.value_encoder = ValueEncoder(value_channels, extra_channels=2 if others else 1)
        self.key_proj = KeyProjection(1024, key_channels)
        self.key_comp = nn.Conv2d(1024, value_channels, 3, padding=1)
        self.decoder = Decoder(value_channels)

    def fold(self) -> None:
        """Fold the batch norms into the convolutions, for inference alone: the same results, fewer passes."""
        fold_batch_norms(self)

    def train(self, mode: bool = True) -> STCN:
        """Training mode, except for batch norms, which stay frozen in STCN and all that stand on it."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    # The modules of the figure

    def encode_key(self, image: Tensor) -> Features:
        """Query encoder Q. image [N, 3, H, W], normalised, H and W multiples of 16."""
        check_image(image, self.stride)
        f16, f8, f4 = self.key_encoder(image)
        return Features(self.key_proj(f16), convolve(self.key_comp, None, f16), f16, f8, f4)

    def encode_value(self, image: Tensor, f16: Tensor, masks: Tensor) -> Tensor:
        """Memory encoder M for the objects of one frame. masks [K, 1, H, W] in [0, 1] -> [K, C_v, h, w]."""
        return self.value_encoder(image, f16, masks, others_of(masks))

    def decode(self, readout: Tensor, features: Features) -> Tensor:
        """Decoder D. readout [K, C_v, h, w] -> logits [K, 1, H, W], before the sigmoid."""
        return self.decoder(readout, features.thin, features.f8, features.f4)

    # Training

    def forward(self, images: Tensor, masks: Tensor, valid: Tensor, memory: Sequence[bool]) -> Tensor:
        """Log-odds [B, T - 1, K + 1, H, W] of frames 1 to T - 1 of clips, the masks of frame 0 given.

        images [B, T, 3, H, W], normalised; masks [B, K, H, W] of frame 0 in [0, 1]; valid [B, K] bool, objects that
        exist; memory: for each frame whether it joins the memory (frame 0 always does). Frames are read with a softmax
        over all tokens; masks fed back are the network's own, with gradients.
        """
        exists = valid[:, :, None, None].to(images.dtype)
        clip = ClipRun(images, tuple(memory))
        given = aggregate(masks.to(images.dtype) * exists, dim=1)[:, 1:] * exists
        features = self._see(clip, 0)
        keys, values = [features.key], [self._remember(clip, 0, features, given)]
        odds = []
        for t in range(1, len(memory)):
            features = self._see(clip, t)
            readout = memory_readout(torch.stack(keys, 2), features.key, torch.stack(values, 2))
            logits = self._decide(clip, t, readout.unflatten(1, (masks.shape[1], -1)).flatten(0, 1), features)
            foreground = torch.sigmoid(logits.float()).reshape(len(images), -1, *images.shape[-2:]) * exists
            odds.append(aggregate_log_odds(foreground, dim=1))
            if memory[t] and t + 1 < len(memory):
                keys.append(features.key)
                soft = torch.softmax(odds[-1], dim=1)[:, 1:] * exists
                values.append(self._remember(clip, t, features, soft.to(images.dtype)))
        self._finish(clip)
        return torch.stack(odds, dim=1)

    def _see(self, clip: ClipRun, t: int) -> Features:
        return self.encode_key(clip.images[:, t])

    def _decide(self, clip: ClipRun, t: int, readout: Tensor, features: Features) -> Tensor:
        return self.decode(readout, features)

    def _remember(self, clip: ClipRun, t: int, features: Features, masks: Tensor) -> Tensor:
        """Values [B, K C_v, h, w] of frame t with masks [B, K, H, W]."""
        others = (masks.sum(dim=1, keepdim=True) - masks).flatten(0, 1)[:, None]
        value = self.value_encoder(clip.images[:, t], features.f16, masks.flatten(0, 1)[:, None], others)
        return value.unflatten(0, masks.shape[:2]).flatten(1, 2)

    def _finish(self, clip: ClipRun) -> None:
        """After the last frame of a clip."""

    # One stream (pliant.models.protocols.TrackNetwork)

    def start(self, image: Tensor, masks: Tensor) -> TrackingState:
        """State after the first annotated frame. image [1, 3, H, W]; masks [K, H, W] in [0, 1]."""
        state = TrackingState(self._empty_memory())
        self.memorize(state, image, aggregate(masks), permanent=True)
        return state

    def step(self, state: TrackingState, image: Tensor, *, memory_frame: bool = False) -> Tensor:
        """Probabilities [K + 1, H, W] of the next frame, at least float32, sum 1 over rows.

        ``memory_frame`` changes nothing here: a dense network computes every frame in full.
        """
        if not state.memory.objects:
            return image.new_ones(1, *image.shape[2:])
        features = self._features(state, image)
        readout = self._read(state, features.key)
        logits = self.decode(readout, features)[:, 0]
        return aggregate(torch.sigmoid(logits if logits.dtype == torch.float64 else logits.float()))

    def memorize(
        self,
        state: TrackingState,
        image: Tensor,
        probabilities: Tensor,
        *,
        permanent: bool = False,
        temporary: bool = False,
    ) -> None:
        """Add a frame to the memory; see ``TrackNetwork.memorize``.

        ``temporary``: only until the next frame is added (STCN's option "include last").
        """
        if len(probabilities) <= state.memory.objects:
            raise ValueError(
                f"probabilities has {len(probabilities)} rows, expected at least {state.memory.objects + 1}: "
                f"the background and the {state.memory.objects} objects known"
            )
        if len(probabilities) == 1:
            return
        features = self._features(state, image)
        masks = probabilities[1:, None].to(image.dtype)
        kind = "permanent" if permanent else "temporary" if temporary else "kept"
        state.memory.add(features.key, self.encode_value(image, features.f16, masks), kind)

    def forget(self, state: TrackingState, index: int) -> None:
        """Remove object ``index`` (0-based) from the state."""
        if not 0 <= index < state.memory.objects:
            raise ValueError(f"there is no object {index}: the state has {state.memory.objects}, counted from 0")
        state.memory.forget(index)

    def _read(self, state: TrackingState, query: Tensor) -> Tensor:
        return state.memory.read(query, self.top_k)

    def _empty_memory(self) -> Memory:
        return Memory(self.memory_frames)

    def _features(self, state: TrackingState, image: Tensor) -> Features:
        if state.image is not image:
            state.image, state.features = image, self.encode_key(image)
        return state.features


def check_image(image: Tensor, stride: int) -> None:
    if image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(f"image must be [N, 3, H, W], got {list(image.shape)}")
    if image.shape[2] % stride or image.shape[3] % stride:
        raise ValueError(
            f"image sides must be multiples of {stride}, got {image.shape[2]} x {image.shape[3]}: "
            "pad with pliant.models.spvos.pad_to_multiple"
        )
