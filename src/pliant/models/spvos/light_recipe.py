"""Training of ``spvos_light``: its encoder imitates that of ``spvos_small`` first, then all of it follows objects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from pliant.datasets.crops import Crops
from pliant.datasets.sources import Sources
from pliant.errors import InputError
from pliant.models.spvos.imitation import copy_common, imitating_parameters, imitation_loss
from pliant.models.spvos.small import SmallTracker, build
from pliant.models.spvos.small_recipe import SmallRecipe, from_sources, normalised
from pliant.weights import read_weights

__all__ = ["LightRecipe", "from_teacher"]


@dataclass(frozen=True)
class LightRecipe(SmallRecipe):
    """``spvos_light`` after a teacher.

    teacher: weights of ``spvos_small``; all but what makes the encoder's outputs is copied from it. imitation: the
    share of the schedule in which crops of pictures pass both encoders and the squared error is the loss; the clips of
    ``SmallRecipe`` follow, at a quarter of the learning rate. crops: pictures a sample in the first part.
    """

    name: str = "spvos_light"
    teacher: Path | None = None
    imitation: float = 0.6
    crops: int = 2

    def build(self) -> SmallTracker:
        network = super().build()
        copy_common(network, self._teacher)
        return network

    def parameter_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        own, rest = imitating_parameters(network)
        # Imitation bears larger steps than clips; ``schedule`` takes them back.
        return [{"params": own, "scale": 3.0}, {"params": rest, "scale": 3.0}]

    def sample(self, step: int, index: int, progress: float) -> dict[str, Any]:
        if progress > self.imitation:
            return super().sample(step, index, self._clip_progress(progress))
        side, first = self.stages[0].side, (step * 4096 + index) * self.crops
        crops = Crops(self._store, self.seed, (side, side))
        return {"images": normalised(np.stack([crops[first + i] for i in range(self.crops)]))}

    def loss(self, network: nn.Module, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        if "labels" in batch:
            return super().loss(network, batch, self._clip_progress(progress))
        if not isinstance(network, SmallTracker):
            raise InputError("imitation of a teacher runs in one process: start it without torchrun.")
        return imitation_loss(network, self._teacher, batch["images"].flatten(0, 1))

    def schedule(self, progress: float) -> float:
        """In each part a short rise and half a cosine: from 1 to a tenth, then from a quarter to nearly nothing."""
        if progress <= self.imitation:
            part = progress / self.imitation
            return min(1.0, part / 0.02) * (0.1 + 0.9 * _fall(part))
        part = self._clip_progress(progress)
        return 0.25 * min(1.0, part / 0.05) * (0.02 + 0.98 * _fall(part))

    def _clip_progress(self, progress: float) -> float:
        return (progress - self.imitation) / (1 - self.imitation)

    @cached_property
    def _teacher(self) -> SmallTracker:
        teacher = build()
        read_weights(teacher, self.teacher, family="spvos", name="spvos_small")
        return teacher.eval().requires_grad_(False)


def _fall(part: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(1.0, part)))


def from_teacher(sources: Sources) -> SmallRecipe:
    """The recipe of ``spvos_light``: after a teacher where ``sources`` names one, else as ``spvos_small`` learns."""
    if sources.teacher is None:
        return from_sources(sources, name="spvos_light")
    sources.need("photos")
    return from_sources(sources, LightRecipe, teacher=sources.teacher)
