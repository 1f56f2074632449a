"""How SpVOS is trained (section IV of the paper, data as STCN): three frames, two of them memory, growing gaps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pliant.datasets import davis, youtube_vos
from pliant.datasets.clip import Clip
from pliant.datasets.clip_augmentation import augment_clip, sample_frames
from pliant.datasets.sources import Sources
from pliant.errors import DatasetError
from pliant.losses.segmentation import bootstrapped_cross_entropy
from pliant.losses.sparsity import global_sparse_loss, layer_sparse_loss, relaxed_bounds
from pliant.models.spvos import build
from pliant.models.spvos.gated_conv import Record
from pliant.weights import read_state, read_weights

__all__ = ["SpvosRecipe", "hard_share", "residual", "sparse_loss", "static", "stcn", "training_clips", "triple"]

MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
STANDARD_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32) * 255
# From this share of the schedule on, frames are at most so many apart.
MAX_SKIP = ((0.0, 5), (0.1, 10), (0.2, 15), (0.3, 20), (0.4, 25), (0.9, 5))
DAVIS_REPEATS = 5  # of its 60 videos, beside YouTube-VOS's 3,465
YOUTUBE_STEP = 5  # frames between annotations
OBJECTS = 2


def hard_share(progress: float) -> float:
    """Share of the hardest pixels that count: all until 1/8 of the schedule, falling to 0.15 at 7/16.

    STCN's 20,000 and 70,000 iterations of the paper's 160,000.
    """
    fall = (progress - 1 / 8) / (7 / 16 - 1 / 8)
    return 1 - 0.85 * min(max(fall, 0.0), 1.0)


def sparse_loss(records: Sequence[Record], progress: float, target: float | None) -> Tensor:
    """L_layer + L_global (Eq. 13, β = 1) of what gated layers decided; without a target the computed share of MACs.

    A layer's share is pooled over frames, samples and objects.
    """
    layers: dict[str, list[Record]] = {}
    for record in records:
        layers.setdefault(record.name, []).append(record)
    computed = torch.stack([torch.stack([r.computed for r in each]).sum() for each in layers.values()])
    positions = [sum(r.positions for r in each) for each in layers.values()]
    costs = [each[0].cost for each in layers.values()]
    if target is None:
        return global_sparse_loss(computed, positions, costs, 0.0).sqrt()
    lower, upper = relaxed_bounds(progress, target)
    shares = computed / torch.tensor(positions, device=computed.device)
    return layer_sparse_loss(shares, lower, upper) + global_sparse_loss(computed, positions, costs, target)


def training_clips(root: Path) -> list[Clip]:
    """Annotated clips of three frames or more in ``root``: DAVIS, YouTube-VOS, or a folder that holds both.

    DAVIS's train list counts five times where YouTube-VOS is beside it. Raises ``DatasetError`` where there is none.
    """
    found = []
    roots = [root, *sorted(path for path in root.iterdir() if path.is_dir())] if root.is_dir() else []
    for folder in roots:
        if (folder / "JPEGImages" / "480p").is_dir():
            found.append((DAVIS_REPEATS, davis.clips(folder)))
        elif (folder / "JPEGImages").is_dir() and (folder / "Annotations").is_dir():
            found.append((1, youtube_vos.clips(folder)))
    clips = [clip for repeats, each in found for clip in each * (repeats if len(found) > 1 else 1)]
    clips = [clip for clip in clips if len(clip.annotated) >= 3]
    if not clips:
        raise DatasetError(f"{root} holds no annotated clip in DAVIS or YouTube-VOS layout (nor do its folders).")
    return clips


@dataclass(frozen=True)
class SpvosRecipe:
    """A network of this family on annotated clips. initial: a checkpoint, or converted torchvision ResNets."""

    name: str
    clips: tuple[Clip, ...]
    initial: Path | None = None
    seed: int = 0
    side: int = 384

    def build(self) -> nn.Module:
        network = build(self.name)
        if self.initial is not None:
            state = read_state(self.initial)
            if any(key.startswith("decoder.") for key in state):
                read_weights(network, self.initial, family="spvos", name=self.name)
            else:  # encoders alone
                network.load_state_dict(state, strict=False)
        return network.train()

    def parameter_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        return [{"params": [p for p in network.parameters() if p.requires_grad], "scale": 1.0}]

    def schedule(self, progress: float) -> float:
        """Factor on the learning rate: linear from 1/20 over 8,000 of 160,000 iterations, constant to a fifth of the
        schedule, then half a cosine to 1/20.
        """
        rise = min(1.0, progress / 0.05)
        fall = min(1.0, max(0.0, (progress - 0.2) / 0.8))
        return 0.05 + 0.95 * rise * 0.5 * (1 + math.cos(math.pi * fall))

    def sample(self, step: int, index: int, progress: float) -> dict[str, Any]:
        """Three augmented frames of a clip and at most two of its objects; up to five tries to find one."""
        generator = np.random.default_rng((self.seed, step, index))
        max_skip = [skip for start, skip in MAX_SKIP if start <= progress][-1]
        for _ in range(5):
            clip = self.clips[generator.integers(len(self.clips))]
            sparse = len(clip.annotated) < len(clip)
            skip = max(1, max_skip // YOUTUBE_STEP) if sparse else max_skip
            chosen = [clip.annotated[i] for i in sample_frames(len(clip.annotated), skip, generator)]
            pairs = [(clip.frame(t), clip.labels(t)) for t in chosen]
            frames, labels = augment_clip([f for f, _ in pairs], [m for _, m in pairs], self.side, generator)
            present = [i for i in np.unique(labels[0]) if 0 < i < 255]
            if present:
                break
        objects = generator.permutation(present)[:OBJECTS] if present else []
        targets = np.zeros(labels.shape, np.int64)
        for number, each in enumerate(objects, 1):
            targets[labels == each] = number
        images = ((frames - MEAN) / STANDARD_DEVIATION).transpose(0, 3, 1, 2)
        valid = np.arange(OBJECTS) < len(objects)
        return {"images": np.ascontiguousarray(images, np.float32), "labels": targets, "valid": valid}

    def loss(self, network: nn.Module, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        """L = L_seg + L_sp (Eq. 10, γ = 1): bootstrapped cross-entropy of frames 2 and 3, and ``sparse_loss``."""
        labels = batch["labels"]
        numbers = torch.arange(1, OBJECTS + 1, device=labels.device)[:, None, None]
        masks = (labels[:, :1] == numbers).to(batch["images"].dtype)
        result = network(batch["images"], masks, batch["valid"], [True, True, False])
        odds, records = result if isinstance(result, tuple) else (result, [])
        share = hard_share(progress)
        entropy = sum(bootstrapped_cross_entropy(odds[:, t], labels[:, t + 1], share) for t in range(odds.shape[1]))
        if not records:
            return {"loss": entropy, "cross_entropy": entropy}
        owner = getattr(network, "module", network)
        sparsity = sparse_loss(records, progress, owner.target)
        computed = sum(r.computed.detach() * r.cost for r in records) / sum(r.positions * r.cost for r in records)
        return {"loss": entropy + sparsity, "cross_entropy": entropy, "sparsity": sparsity, "computed": computed}


def _from_sources(name: str, sources: Sources) -> SpvosRecipe:
    sources.need("clips")
    return SpvosRecipe(name, tuple(training_clips(Path(sources.clips))), sources.initial, sources.seed)


def stcn(sources: Sources) -> SpvosRecipe:
    """The dense network."""
    return _from_sources("stcn", sources)


def triple(sources: Sources) -> SpvosRecipe:
    """SpVOS."""
    return _from_sources("spvos_triple", sources)


def static(sources: Sources) -> SpvosRecipe:
    """With DynConv's decision."""
    return _from_sources("spvos_static", sources)


def residual(sources: Sources) -> SpvosRecipe:
    """With Skip-Convolution's."""
    return _from_sources("spvos_residual", sources)
