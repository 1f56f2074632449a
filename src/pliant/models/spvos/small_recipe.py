"""How the small tracker is trained: synthetic clips, longer and faster ones as it learns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pliant.datasets.clip import Clip
from pliant.datasets.clip_samples import ClipSamples, hold_back
from pliant.datasets.layouts import read_clips
from pliant.datasets.pictures import PictureStore, pack_pictures
from pliant.datasets.sources import Sources
from pliant.datasets.synthetic import SyntheticClips
from pliant.losses.segmentation import bootstrapped_cross_entropy, dice
from pliant.models.backbones.keras_resnet50 import read_keras_resnet50
from pliant.models.backbones.mobilenet_v2 import read_mobilenet_v2
from pliant.models.spvos import build
from pliant.models.spvos.small import SmallTracker
from pliant.weights import fit_weights, read_state
from pliant.weights.known_files import recognise

__all__ = ["SmallRecipe", "Stage", "from_sources", "normalised"]

MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
STANDARD_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32) * 255


@dataclass(frozen=True)
class Stage:
    """From which share of the schedule on: clip length, side in pixels, speed of the motion, hard-pixel share."""

    start: float
    length: int
    side: int
    speed: float
    hard: float


@dataclass(frozen=True)
class SmallRecipe:
    """``spvos_small`` on synthetic clips, on real ones, or on both by turns.

    pictures: a file of ``pack_pictures`` for synthetic clips. clips: annotated clips.
    initial: ImageNet weights for the key encoder (the folder of the Keras ResNet-50, torchvision's MobileNetV2), or
    weights of the whole network to go on from (safetensors or PyTorch); None: random. The stem and what follows at
    1/4 (ResNet-50) or 1/2 (MobileNetV2) keep their ImageNet weights: they are half of the cost of a step and general
    enough. name: "spvos_small" or "spvos_light". hint_share: the share of clips whose decoder is told where the object
    was one frame before; the others must find it by matching alone, as after a loss. remembered: how many frames of a
    clip join the memory, None: all but the last.
    """

    pictures: Path | None
    clips: tuple[Clip, ...] = ()
    initial: Path | None = None
    seed: int = 0
    name: str = "spvos_small"
    stages: tuple[Stage, ...] = (
        Stage(0.0, 3, 256, 0.6, 0.5),
        Stage(0.1, 4, 256, 1.0, 0.25),
        Stage(0.5, 5, 256, 1.0, 0.15),
        Stage(0.8, 6, 256, 0.8, 0.15),
    )
    max_objects: int = 2
    hint_share: float = 0.7
    remembered: int | None = None

    def build(self) -> SmallTracker:
        network = build(self.name)
        if self.initial is not None:
            _read_initial(network, self.initial, self.name)
        for layer in network.key_encoder.general:
            layer.requires_grad_(False)
        return network

    def parameter_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        encoder = [p for p in network.key_encoder.parameters() if p.requires_grad]
        rest = [p for name, p in network.named_parameters() if not name.startswith("key_encoder.")]
        return [{"params": encoder, "scale": 0.2}, {"params": rest, "scale": 1.0}]

    def sample(self, step: int, index: int, progress: float) -> dict[str, Any]:
        stage = self.stage(progress)
        size, number = (stage.side, stage.side), step * 4096 + index
        if self.clips and (self.pictures is None or index % 2):
            samples = ClipSamples(self.clips, self.seed, size, stage.length, max_objects=self.max_objects)
            frames, labels, count = samples[number]
        else:
            clips = SyntheticClips(self._store, self.seed, size, stage.length, stage.speed, self.max_objects)
            clip = clips[number]
            frames, labels, count = clip.frames, clip.labels, len(clip.own_motion)
        valid = np.arange(self.max_objects) < count
        return {
            "images": normalised(frames),
            "labels": labels,
            "valid": valid,
            "hard": np.float32(stage.hard),
            "hinted": np.bool_(np.random.default_rng([self.seed, number, 1]).random() < self.hint_share),
        }

    def loss(self, network: nn.Module, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        return self.segmentation_loss(self.run(network, batch), batch)

    def run(self, network: nn.Module, batch: dict[str, Tensor]) -> Any:
        """What the network says of a batch of clips."""
        length = batch["images"].shape[1]
        remembered = length - 1 if self.remembered is None else self.remembered
        memory = [t < remembered for t in range(length)]
        return network(batch["images"], self._masks(batch)[:, 0], batch["valid"], memory, batch["hinted"])

    def segmentation_loss(self, odds: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of log-odds [B, T - 1, K + 1, H, W]: "loss", the bootstrapped cross-entropy plus the dice loss, and each."""
        labels, valid = batch["labels"].long(), batch["valid"]
        share = float(batch["hard"][0])
        entropy = bootstrapped_cross_entropy(odds.flatten(0, 1), labels[:, 1:].flatten(0, 1), share)
        probabilities = odds.float().softmax(2)[:, :, 1:].flatten(0, 1)
        masks = self._masks(batch)[:, 1:].flatten(0, 1)
        overlap = dice(probabilities, masks, valid.repeat_interleave(odds.shape[1], 0))
        return {"loss": entropy + overlap, "cross_entropy": entropy, "dice": overlap}

    def _masks(self, batch: dict[str, Tensor]) -> Tensor:
        """[B, T, K, H, W] in {0, 1}."""
        labels = batch["labels"].long()
        objects = torch.arange(1, self.max_objects + 1, device=labels.device)[:, None, None]
        return (labels[:, :, None] == objects).float()

    def stage(self, progress: float) -> Stage:
        """The stage of a share of the schedule."""
        return [stage for stage in self.stages if stage.start <= progress][-1]

    @cached_property
    def _store(self) -> PictureStore:
        return PictureStore(self.pictures)


def normalised(frames: np.ndarray) -> np.ndarray:
    """[T, H, W, 3] uint8 RGB -> [T, 3, H, W] float32 as the networks take it."""
    images = (frames.astype(np.float32) - MEAN) / STANDARD_DEVIATION
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _read_initial(network: SmallTracker, initial: Path, name: str) -> None:
    """ImageNet weights of the key encoder, or weights of the whole network."""
    if initial.is_dir():
        weights = read_keras_resnet50(initial)
        encoder = network.key_encoder
        encoder.load_state_dict({key: weights[key] for key in encoder.state_dict()})
        return
    state = read_state(initial)
    known = recognise(state)
    if known is not None and known.what == "a torchvision MobileNetV2" and name == "spvos_light":
        network.key_encoder.trunk.load_state_dict(read_mobilenet_v2(initial))
    else:
        fit_weights(network, state, initial, family="spvos", name=name)


def from_sources(sources: Sources, kind: type[SmallRecipe] = SmallRecipe, **options: Any) -> SmallRecipe:
    """The recipe for photographs, cut-outs and film, or annotated clips, or both.

    Pictures are packed once into the cache; of annotated clips a fifth is held back. kind, options: another class of
    recipe, and fields of it. Raises ``InputError``.
    """
    sources.need("photos", "clips")
    pictures = None
    if sources.photos:
        pictures = pack_pictures(
            sources.cache / "pictures.bin",
            photos=list(sources.photos),
            cutouts=list(sources.cutouts),
            films=list(sources.films),
        )
    clips = hold_back(read_clips(sources.clips, sources.split))[0] if sources.clips else []
    return kind(pictures, tuple(clips), sources.initial, sources.seed, **options)
