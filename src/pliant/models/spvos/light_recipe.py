"""Training of ``spvos_light``: it learns to see and to follow as ``spvos_small`` does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from pliant.datasets.crops import Crops
from pliant.datasets.sources import Sources
from pliant.errors import InputError
from pliant.models.spvos.imitation import following_loss, imitation_loss
from pliant.models.spvos.small import SmallTracker, build
from pliant.models.spvos.small_recipe import SmallRecipe, Stage, from_sources, normalised
from pliant.weights import read_weights

__all__ = ["LightRecipe", "from_teacher"]


@dataclass(frozen=True)
class LightRecipe(SmallRecipe):
    """``spvos_light`` after a teacher, in every step on pictures and on clips.

    teacher: weights of ``spvos_small``. crops: pictures beside a clip, on which keys and context regress the
    teacher's; the clip's masks come half from the teacher, half from the generator.
    """

    name: str = "spvos_light"
    stages: tuple[Stage, ...] = (
        Stage(0.0, 3, 256, 0.8, 0.5),
        Stage(0.5, 4, 256, 1.0, 0.3),
    )
    teacher: Path | None = None
    crops: int = 2

    def parameter_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        encoder = [p for p in network.key_encoder.parameters() if p.requires_grad]
        rest = [p for name, p in network.named_parameters() if not name.startswith("key_encoder.")]
        # Regression bears larger steps than masks alone do.
        return [{"params": encoder, "scale": 2.0}, {"params": rest, "scale": 4.0}]

    def sample(self, step: int, index: int, progress: float) -> dict[str, Any]:
        side, first = self.stage(progress).side, (step * 4096 + index) * self.crops
        crops = Crops(self._store, self.seed, (side, side))
        pictures = normalised(np.stack([crops[first + i] for i in range(self.crops)]))
        return {"crops": pictures, **super().sample(step, index, progress)}

    def loss(self, network: nn.Module, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        if not isinstance(network, SmallTracker):
            raise InputError("imitation of a teacher runs in one process: start it without torchrun.")
        seen = imitation_loss(network, self._teacher, batch["crops"].flatten(0, 1))
        length = batch["images"].shape[1]
        followed = following_loss(
            network, self._teacher, batch["images"], self._masks(batch), batch["valid"],
            [t < length - 1 for t in range(length)], batch["hinted"], float(batch["hard"][0]),
        )  # fmt: skip
        return {**seen, **followed, "loss": seen["loss"] + followed["loss"]}

    @cached_property
    def _teacher(self) -> SmallTracker:
        teacher = build()
        read_weights(teacher, self.teacher, family="spvos", name="spvos_small")
        return teacher.eval().requires_grad_(False)


def from_teacher(sources: Sources) -> SmallRecipe:
    """The recipe of ``spvos_light``: after a teacher where ``sources`` names one, else as ``spvos_small`` learns."""
    if sources.teacher is None:
        return from_sources(sources, name="spvos_light")
    sources.need("photos")
    return from_sources(sources, LightRecipe, teacher=sources.teacher)
