"""The small tracker with gates: dense and sparse frames taking turns, a decision a stage (see ``gated_stages``).

Gated are the three stages of the key encoder with all that hangs on them (key, context, the decoder's features), and
the decoder's three stages; the stem, the value encoder and the last convolution stay dense.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.models.memory_bank import MemoryBank
from pliant.models.spvos.gated_conv import Method, Record
from pliant.models.spvos.gated_stages import GatedFrames, StageGate, nearness
from pliant.models.spvos.readout import Readout
from pliant.models.spvos.small import SmallPreset, SmallState, SmallTracker, upsample
from pliant.models.spvos.sparse_network import Strategy
from pliant.nn.fused_conv import conv2d
from pliant.nn.pooling import max_pool_rectified

__all__ = ["SparseSmallState", "SparseSmallTracker", "build"]

QUERY, DECODER = ("layer1", "layer2", "layer3"), ("start", "block8", "block4")


@dataclass(slots=True)
class SparseSmallState(SmallState):
    """A stream of the small tracker, with what its gated stages keep: one row a stream, one row an object."""

    query: GatedFrames | None = None
    decoder: GatedFrames | None = None
    shared: tuple[Tensor, Tensor, Tensor] | None = None
    readout: Readout = field(default_factory=Readout)
    keep_policies: bool = True  # records always hold the maps of decisions here

    @property
    def records(self) -> list[Record]:
        """What the gates decided on the last frame; empty where it was dense."""
        return [*self.query.records.values(), *self.decoder.records.values()]

    def nbytes(self) -> int:
        features = sum(x.nbytes for x in self.features or ())  # the gated stages' own outputs, not held twice
        own = (self.query, self.decoder, self.readout)
        return SmallState.nbytes(self) - features + sum(each.nbytes() for each in own)


class SparseSmallTracker(SmallTracker):
    """``SmallTracker`` with gated stages.

    method: "triple" (SpVOS), "static" (DynConv) or "residual" (Skip-Convolution). strategy: "mixed", memory frames are
    dense; "semi-mixed", annotated ones; "fully", none. target: the share of multiply-adds in gated stages that
    training aims at, on its own clips; None: no aim but less. temperature: of the Gumbel softmax.
    """

    def __init__(
        self,
        preset: SmallPreset | None = None,
        *,
        method: Method = "triple",
        strategy: Strategy = "mixed",
        target: float | None = 0.35,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(preset)
        self.method, self.strategy, self.target = method, strategy, target
        preset = self.preset
        _, d8, d4 = preset.decoder_channels
        inputs = {
            "layer1": (64, 1),
            "layer2": (256, 2),
            "layer3": (512, 2),
            "start": (preset.value_channels + preset.context_channels + 2, 1),
            "block8": (d8, 1),
            "block4": (d4, 1),
        }
        self.gate = nn.ModuleDict(
            {stage: StageGate(method, *inputs[stage], temperature) for stage in (*QUERY, *DECODER)}
        )

    # One stream

    def step(self, state: SparseSmallState, image: Tensor, *, memory_frame: bool = False) -> Tensor:
        """As ``SmallTracker.step``. ``memory_frame``: it will be memorised; a mixed network computes it densely."""
        sparse = not (memory_frame and self.strategy == "mixed")
        state.query.begin(sparse)
        state.decoder.begin(sparse)
        if not sparse:  # a dense frame is dense to the bit
            state.readout.clear()
        return super().step(state, image)

    def memorize(
        self, state: SparseSmallState, image: Tensor, probabilities: Tensor, *, permanent: bool = False
    ) -> None:
        """As ``SmallTracker.memorize``. A frame that the strategy wants dense and that was not is computed anew."""
        wanted = self.strategy == "mixed" or (self.strategy == "semi-mixed" and permanent)
        if state.query.sparse and wanted:
            state.query.begin(False)
            self._see(state, image)
        super().memorize(state, image, probabilities, permanent=permanent)
        state.readout.clear()

    def forget(self, state: SparseSmallState, index: int) -> None:
        """Remove object ``index`` (0-based) from the state; what is kept of the others stays."""
        super().forget(state, index)
        state.decoder.forget(index)
        state.readout.clear()

    def new_frames(self) -> GatedFrames:
        """What gated stages keep, with nothing in it yet."""
        return GatedFrames(self.method, cold=self.strategy == "fully")

    def _new_state(self, bank: MemoryBank, last: Tensor) -> SparseSmallState:
        state = SparseSmallState(bank, 0, last, query=self.new_frames(), decoder=self.new_frames())
        state.query.begin(self.strategy == "fully")
        return state

    def _see(self, state: SparseSmallState, image: Tensor) -> None:
        state.features = self.encode(state.query, image, state.last[None])
        # Kept in the memory, whereas the layer's own output is written over on the next frame.
        state.key = state.query.convolve("layer3", "layer3.key", self.key, state.features[2]).clone()
        state.shared = self.describe(state.query, state.features)  # on every frame: the next may reuse it

    def _read(self, state: SparseSmallState) -> Tensor:
        return state.readout.read(state.key, lambda query: self._look_up(state, query))

    def _shared(self, state: SparseSmallState) -> tuple[Tensor, Tensor, Tensor]:
        return state.shared

    def _decode(self, state: SparseSmallState, *inputs: Tensor) -> Tensor:
        return self.decode(state.decoder, *inputs, last=state.last)

    # The gated parts, the same in training and inference

    def encode(self, frames: GatedFrames, image: Tensor, last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features at 1/4, 1/8, 1/16 of images [N, 3, H, W]; last [N, K, h, w]: where the objects were."""
        image = image.contiguous(memory_format=torch.channels_last)
        x = max_pool_rectified(conv2d(self.key_encoder.stem, image, relu=True))
        near = nearness(last.amax(1))
        found = []
        for stage in QUERY:
            frames.open(stage, self.gate[stage], x, near)
            for index, block in enumerate(getattr(self.key_encoder, stage)):
                x = frames.block(stage, f"{stage}.{index}", block, x)
            found.append(x)
        return tuple(found)

    def describe(self, frames: GatedFrames, features: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Context, and the decoder's features at 1/4 and 1/8."""
        f4, f8, f16 = features
        return (
            frames.convolve("layer3", "layer3.context", self.context, f16),
            frames.convolve("layer1", "layer1.skip4", self.decoder.skip4, f4),
            frames.convolve("layer2", "layer2.skip8", self.decoder.skip8, f8),
        )

    def decode(
        self,
        frames: GatedFrames,
        readout: Tensor,
        context: Tensor,
        hint: Tensor,
        skip4: Tensor,
        skip8: Tensor,
        *,
        last: Tensor,
    ) -> Tensor:
        """As ``Decoder.forward``; last [N, h, w]: where each object was."""
        decoder, near = self.decoder, nearness(last)
        x = torch.cat([readout, context, hint], 1).contiguous(memory_format=torch.channels_last)
        frames.open("start", self.gate["start"], x, near)
        x = frames.block("start", "start.block", decoder.start, x)
        x = upsample(frames.convolve("start", "start.down8", decoder.down8, x), 2)
        x = F.relu_(x.add_(skip8))
        frames.open("block8", self.gate["block8"], x, near)
        x = frames.block("block8", "block8.block", decoder.block8, x)
        x = upsample(frames.convolve("block8", "block8.down4", decoder.down4, x), 2)
        x = F.relu_(x.add_(skip4))
        frames.open("block4", self.gate["block4"], x, near)
        return conv2d(decoder.logit, frames.block("block4", "block4.block", decoder.block4, x))

    # Training

    def forward(
        self, images: Tensor, masks: Tensor, valid: Tensor, memory: list[bool], hinted: Tensor | None = None
    ) -> tuple[Tensor, list[Record]]:
        """As ``SmallTracker.forward``, with what the gates of sparse frames decided, for the sparse losses."""
        return super().forward(images, masks, valid, memory, hinted)

    def _open_clip(self, images: Tensor, memory: list[bool]) -> SparseSmallClip:
        return SparseSmallClip(self, images, memory)


class SparseSmallClip:
    """The frames of a batch of clips in training, one after another (see ``SmallClip``)."""

    def __init__(self, network: SparseSmallTracker, images: Tensor, memory: list[bool]) -> None:
        self._network, self._images = network, images
        self._query, self._decoder = network.new_frames(), network.new_frames()
        dense = {"fully": [], "semi-mixed": [0], "mixed": [t for t in range(len(memory)) if t == 0 or memory[t]]}
        self._dense = dense[network.strategy]
        self._records: list[Record] = []

    def see(self, index: int, last: Tensor) -> list[Tensor]:
        network, query = self._network, self._query
        for frames in (query, self._decoder):
            frames.begin(index not in self._dense)
        features = network.encode(query, self._images[:, index], last)
        key = query.convolve("layer3", "layer3.key", network.key, features[2])
        found = [key.clone(), features[2], *network.describe(query, features)]
        self._records += query.records.values()
        return found

    def decode(self, *inputs: Tensor, last: Tensor) -> Tensor:
        logits = self._network.decode(self._decoder, *inputs, last=last.flatten(0, 1))
        self._records += self._decoder.records.values()
        return logits

    def finish(self, odds: Tensor) -> tuple[Tensor, list[Record]]:
        return odds, self._records


def build(
    *,
    method: Method = "triple",
    strategy: Strategy = "mixed",
    target: float | None = 0.35,
    temperature: float = 1.0,
    **options,
) -> SparseSmallTracker:
    """A small tracker with gates and random weights; ``options`` are fields of ``SmallPreset``."""
    return SparseSmallTracker(
        SmallPreset(**options), method=method, strategy=strategy, target=target, temperature=temperature
    )
