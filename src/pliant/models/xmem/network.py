"""XMem (Cheng, Schwing, ECCV 2022): tracking with a sensory, a working and a long-term memory.

Module names are those of official checkpoints. K objects of one stream lie along the batch axis; h x w = H/16
x W/16.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.models.backbones.convolve import fold_batch_norms
from pliant.models.backbones.mask_blocks import FeatureFusion, UpsampleBlock, repeat_for_objects
from pliant.models.backbones.resnet import ResNet18Trunk, ResNet50Trunk
from pliant.models.spvos.aggregation import aggregate
from pliant.models.spvos.layers import module_of
from pliant.models.spvos.network import check_image, others_of
from pliant.models.xmem.memory import MemoryOptions, XMemMemory

__all__ = ["XMem", "XMemFeatures", "XMemState"]


@dataclass(slots=True)
class XMemFeatures:
    """What the key encoder says of a frame; the same for all objects."""

    key: Tensor  # [1, C_k, h, w]
    selection: Tensor  # [1, C_k, h, w] in [0, 1]
    f16: Tensor  # [1, 1024, h, w]
    f8: Tensor  # [1, 512, 2h, 2w]
    f4: Tensor  # [1, 256, 4h, 4w]

    def nbytes(self) -> int:
        return sum(x.nbytes for x in (self.key, self.selection, self.f16, self.f8, self.f4))


@dataclass(slots=True)
class XMemState:
    """Everything that changes while one stream is tracked."""

    memory: XMemMemory
    hidden: Tensor  # [K, C_h, h, w], sensory memory
    pending: Tensor | None = None  # the decoder's update of ``hidden``: taken unless the frame is memorised
    image: Tensor | None = None  # the frame that ``features`` belong to
    features: XMemFeatures | None = None
    frame: int = 0
    last_deep_update: int | None = None

    def nbytes(self) -> int:
        held = 0 if self.features is None else self.features.nbytes() + self.image.nbytes
        pending = 0 if self.pending is None else self.pending.nbytes
        return self.memory.nbytes() + self.hidden.nbytes + pending + held


class KeyProjection(nn.Module):
    """f16 -> key, shrinkage (at least 1) of a memory token, selection (in [0, 1]) of a query."""

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.key_proj = nn.Conv2d(channels, key_channels, 3, padding=1)
        self.d_proj = nn.Conv2d(channels, 1, 3, padding=1)
        self.e_proj = nn.Conv2d(channels, key_channels, 3, padding=1)
        nn.init.orthogonal_(self.key_proj.weight)
        nn.init.zeros_(self.key_proj.bias)

    def key(self, f16: Tensor) -> Tensor:
        return self.key_proj(f16)

    def shrinkage(self, f16: Tensor) -> Tensor:
        return self.d_proj(f16).square() + 1

    def selection(self, f16: Tensor) -> Tensor:
        return torch.sigmoid(self.e_proj(f16))


def _gated_update(values: Tensor, hidden: Tensor) -> Tensor:
    """XMem's recurrent unit, f h (1 - u) + u n, of f, u, n before activation, ``values`` [K, 3 C_h, h, w]."""
    forget, update, new = values.chunk(3, dim=1)
    forget, update = torch.sigmoid(forget), torch.sigmoid(update)
    return forget * hidden * (1 - update) + update * torch.tanh(new)


class HiddenReinforcer(nn.Module):
    """Deep update of the sensory memory, from a memorised frame's value."""

    def __init__(self, value_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(value_channels + hidden_channels, 3 * hidden_channels, 3, padding=1)
        nn.init.xavier_normal_(self.transform.weight)

    def forward(self, value: Tensor, hidden: Tensor) -> Tensor:
        return _gated_update(self.transform(torch.cat([value, hidden], dim=1)), hidden)


class HiddenUpdater(nn.Module):
    """Normal update of the sensory memory, from three scales of the decoder."""

    def __init__(self, channels: tuple[int, int, int], middle: int, hidden_channels: int) -> None:
        super().__init__()
        self.g16_conv = nn.Conv2d(channels[0], middle, 1)
        self.g8_conv = nn.Conv2d(channels[1], middle, 1)
        self.g4_conv = nn.Conv2d(channels[2], middle, 1)
        self.transform = nn.Conv2d(middle + hidden_channels, 3 * hidden_channels, 3, padding=1)
        nn.init.xavier_normal_(self.transform.weight)

    def forward(self, g16: Tensor, g8: Tensor, g4: Tensor, hidden: Tensor) -> Tensor:
        g = self.g16_conv(g16) + self.g8_conv(F.avg_pool2d(g8, 2)) + self.g4_conv(F.avg_pool2d(g4, 4))
        return _gated_update(self.transform(torch.cat([g, hidden], dim=1)), hidden)


class ValueEncoder(ResNet18Trunk):
    """Frame, mask of an object and of the others, f16 -> value [K, C_v, h, w]; carries the deep update."""

    def __init__(self, value_channels: int, hidden_channels: int, extra_channels: int) -> None:
        super().__init__(3 + extra_channels, bias=False)
        self.fuser = FeatureFusion(1024 + 256, value_channels)
        self.hidden_reinforce = HiddenReinforcer(value_channels, hidden_channels) if hidden_channels else None

    def forward(self, image: Tensor, f16: Tensor, masks: Tensor, others: Tensor) -> Tensor:
        inputs = [repeat_for_objects(image, len(masks)), masks, others]
        inputs = inputs[: self.conv1.in_channels - 2]  # single-object networks know no others
        x = self.trunk(torch.cat(inputs, dim=1))
        return self.fuser(torch.cat([repeat_for_objects(f16, len(masks)), x], dim=1))


class Decoder(nn.Module):
    """Readout and sensory memory at 1/16, f8, f4 -> logits [K, 1, H, W] and the updated sensory memory."""

    def __init__(self, value_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.fuser = FeatureFusion(1024 + value_channels + hidden_channels, 512)
        self.hidden_update = HiddenUpdater((512, 256, 256 + 1), 256, hidden_channels) if hidden_channels else None
        self.up_16_8 = UpsampleBlock(512, 512, 256)
        self.up_8_4 = UpsampleBlock(256, 256, 256)
        self.pred = nn.Conv2d(256, 1, 3, padding=1)

    def forward(
        self, readout: Tensor, hidden: Tensor, features: XMemFeatures, *, update: bool = True
    ) -> tuple[Tensor, Tensor]:
        """readout [K, C_v, h, w], hidden [K, C_h, h, w]; update: whether new sensory memory is wanted."""
        g16 = self.fuser(torch.cat([repeat_for_objects(features.f16, len(readout)), readout, hidden], dim=1))
        g8 = self.up_16_8(features.f8, g16)
        g4 = self.up_8_4(features.f4, g8)
        logits = self.pred(F.relu(g4))
        if update and self.hidden_update is not None:
            hidden = self.hidden_update(g16, g8, torch.cat([g4, logits], dim=1), hidden)
        return F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False), hidden


class XMem(nn.Module):
    """The network and its inference on one stream.

    key_channels, value_channels, hidden_channels: C_k, C_v, C_h (0: no sensory memory). others: whether the
    value encoder sees the other objects (False: single-object pre-training). deep_update_every: frames
    between deep updates of the sensory memory; -1: with every memorised frame, which then gets no normal
    update. memory: sizes of working and long-term memory.
    """

    stride = 16
    part_of = staticmethod(module_of)  # Q, M or D of a layer's name

    def __init__(
        self,
        *,
        key_channels: int = 64,
        value_channels: int = 512,
        hidden_channels: int = 64,
        others: bool = True,
        deep_update_every: int = -1,
        memory: MemoryOptions = MemoryOptions(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        self.hidden_channels = hidden_channels
        self.deep_update_every = deep_update_every
        self.memory_options = memory
        self.key_encoder = ResNet50Trunk()
        self.value_encoder = ValueEncoder(value_channels, hidden_channels, extra_channels=2 if others else 1)
        self.key_proj = KeyProjection(1024, key_channels)
        self.decoder = Decoder(value_channels, hidden_channels)

    def fold(self) -> None:
        """Fold the batch norms into the convolutions, for inference alone: the same results, fewer passes."""
        fold_batch_norms(self)

    def train(self, mode: bool = True) -> XMem:
        """Training mode, except for batch norms, which stay frozen."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    # The modules of the figure

    def encode_key(self, image: Tensor) -> XMemFeatures:
        """image [1, 3, H, W], normalised, H and W multiples of 16."""
        check_image(image, self.stride)
        f16, f8, f4 = self.key_encoder(image)
        return XMemFeatures(self.key_proj.key(f16), self.key_proj.selection(f16), f16, f8, f4)

    def encode_value(self, image: Tensor, f16: Tensor, masks: Tensor) -> Tensor:
        """Values [K, C_v, h, w] of the objects of one frame. masks [K, 1, H, W] in [0, 1]."""
        return self.value_encoder(image, f16, masks, others_of(masks))

    def deep_update(self, value: Tensor, hidden: Tensor) -> Tensor:
        """Sensory memory [K, C_h, h, w] after a memorised frame with these values."""
        reinforce = self.value_encoder.hidden_reinforce
        return hidden if reinforce is None else reinforce(value, hidden)

    # One stream (pliant.models.protocols.TrackNetwork)

    def start(self, image: Tensor, masks: Tensor) -> XMemState:
        """State after the first annotated frame. image [1, 3, H, W]; masks [K, H, W] in [0, 1]."""
        state = XMemState(*self._empty(image))
        self.memorize(state, image, aggregate(masks), permanent=True)
        return state

    def step(self, state: XMemState, image: Tensor, *, memory_frame: bool = False) -> Tensor:
        """Probabilities [K + 1, H, W] of the next frame, at least float32, sum 1 over rows.

        ``memory_frame``: a hint; the normal update, which a memorised frame does not take, is then left out.
        """
        if state.pending is not None:
            state.hidden, state.pending = state.pending, None
        state.frame += 1
        if not len(state.hidden):
            return image.new_ones(1, *image.shape[2:])
        features = self._features(state, image)
        readout = state.memory.read(features.key, features.selection)
        update = not (memory_frame and self.deep_update_every < 0)
        logits, hidden = self.decoder(readout, state.hidden, features, update=update)
        state.pending = hidden if update else None
        logits = logits[:, 0]
        return aggregate(torch.sigmoid(logits if logits.dtype == torch.float64 else logits.float()))

    def memorize(self, state: XMemState, image: Tensor, probabilities: Tensor, *, permanent: bool = False) -> None:
        """Add a frame to the memory; see ``TrackNetwork.memorize``."""
        known, objects = len(state.hidden), len(probabilities) - 1
        if objects < known:
            raise ValueError(
                f"probabilities has {objects + 1} rows, expected at least {known + 1}: "
                f"the background and the {known} objects known"
            )
        if not objects:
            return
        with_memory = self.deep_update_every < 0
        if state.pending is not None:
            state.hidden, state.pending = (state.hidden if with_memory else state.pending), None
        state.hidden = F.pad(state.hidden, (0, 0, 0, 0, 0, 0, 0, objects - known))
        features = self._features(state, image)
        value = self.encode_value(image, features.f16, probabilities[1:, None].to(image.dtype))
        shrinkage = self.key_proj.shrinkage(features.f16)
        state.memory.add(features.key, shrinkage, features.selection, value, permanent=permanent)
        last = state.last_deep_update
        if with_memory or last is None or state.frame - last >= self.deep_update_every:
            state.hidden = self.deep_update(value, state.hidden)
            state.last_deep_update = state.frame

    def forget(self, state: XMemState, index: int) -> None:
        """Remove object ``index`` (0-based) from the state."""
        if not 0 <= index < len(state.hidden):
            raise ValueError(f"there is no object {index}: the state has {len(state.hidden)}, counted from 0")
        state.memory.forget(index)
        state.hidden = torch.cat([state.hidden[:index], state.hidden[index + 1 :]])
        if state.pending is not None:
            state.pending = torch.cat([state.pending[:index], state.pending[index + 1 :]])

    def _empty(self, image: Tensor) -> tuple[XMemMemory, Tensor]:
        """Memories of no object."""
        rows, columns = image.shape[2] // self.stride, image.shape[3] // self.stride
        return XMemMemory(self.memory_options), image.new_zeros(0, self.hidden_channels, rows, columns)

    def _features(self, state: XMemState, image: Tensor) -> XMemFeatures:
        if state.image is not image:
            state.image, state.features = image, self.encode_key(image)
        return state.features
