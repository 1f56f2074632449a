"""Training: ``RECIPES``, a literal table, and the one loop that runs them."""

from __future__ import annotations

import importlib
from typing import Any

from pliant.datasets.sources import Sources
from pliant.errors import UnknownNameError

__all__ = ["RECIPES", "recipe"]

# name -> (module:function of Sources that gives the recipe, settings that differ from the loop's)
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "spvos_small": ("pliant.models.spvos.small_recipe:from_sources", {"steps": 4000, "batch_size": 8}),
}


def recipe(name: str, sources: Sources) -> tuple[Any, dict[str, Any]]:
    """The recipe ``name`` for what ``sources`` holds, and its settings. Raises ``UnknownNameError``."""
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    place, settings = RECIPES[name]
    module, function = place.split(":")
    return getattr(importlib.import_module(module), function)(sources), dict(settings)
