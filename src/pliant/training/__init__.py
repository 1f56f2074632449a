"""Training: ``RECIPES``, a literal table, and the one loop that runs them."""

from __future__ import annotations

import importlib
from typing import Any

from pliant.datasets.sources import Sources
from pliant.errors import InputError, UnknownNameError

__all__ = ["RECIPES", "recipe"]

# As SpVOS was published.
_SPVOS = {"steps": 160_000, "batch_size": 16, "learning_rate": 2e-5, "weight_decay": 0.05}

# Gates on trained filters: a short run at a low rate.
_GATES = {"steps": 400, "batch_size": 4, "learning_rate": 5e-5, "warmup": 20, "average": 0.99}

# First without steering, which costs half as much, then on from there.
_SALIENT = {"steps": 3000, "batch_size": 8, "learning_rate": 5e-4, "average": 0.995}

# name -> (module:function of Sources that gives the recipe, settings that differ from the loop's)
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "spvos_small": ("pliant.models.spvos.small_recipe:from_sources", {"steps": 4000, "batch_size": 8}),
    "spvos_light": ("pliant.models.spvos.light_recipe:from_teacher", {"steps": 6000, "batch_size": 8}),
    **{
        f"spvos_small_{name}": (f"pliant.models.spvos.small_sparse_recipe:{name}", _GATES)
        for name in ("triple", "static", "residual", "triple_fully", "static_fully", "residual_fully")
    },
    "salient_small_plain": ("pliant.models.d2conv3d.recipe:plain_from_sources", _SALIENT),
    "salient_small": ("pliant.models.d2conv3d.recipe:small_from_sources", _SALIENT),
    # The paper's: 20 epochs of the 4,200 frames of DAVIS 2017 train.
    "d2conv3d": (
        "pliant.models.d2conv3d.recipe:from_folder",
        {"steps": 21_000, "batch_size": 4, "learning_rate": 1e-5, "clip_norm": 10.0, "average": 0.0},
    ),
    "stcn": ("pliant.models.spvos.recipe:stcn", _SPVOS),
    "spvos_triple": ("pliant.models.spvos.recipe:triple", _SPVOS),
    "spvos_static": ("pliant.models.spvos.recipe:static", _SPVOS),
    "spvos_residual": ("pliant.models.spvos.recipe:residual", _SPVOS),
    "rpmnet": ("pliant.models.rpmnet.recipe:from_sources", {"learning_rate": 3e-4, "warmup": 500}),
}


def recipe(name: str, sources: Sources) -> tuple[Any, dict[str, Any]]:
    """The recipe ``name`` for what ``sources`` holds, and its settings.

    Raises ``UnknownNameError``; ``InputError`` where it has no use for the teacher that is named.
    """
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    place, settings = RECIPES[name]
    module, function = place.split(":")
    chosen = getattr(importlib.import_module(module), function)(sources)
    if sources.teacher is not None and not hasattr(chosen, "teacher"):
        raise InputError(f"{name} does not learn from a teacher: leave --teacher out.")
    return chosen, dict(settings)
