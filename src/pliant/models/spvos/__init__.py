"""SpVOS (Lin, Chen, Yu): follow given masks by matching against a memory, sparsely. Stands on STCN."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn

from pliant.errors import UnknownNameError
from pliant.models.spvos.aggregation import aggregate, aggregate_log_odds, pad_to_multiple, unpad
from pliant.models.spvos.presets import BUILDERS, PRESETS

__all__ = ["PRESETS", "aggregate", "aggregate_log_odds", "build", "pad_to_multiple", "unpad"]


def build(name: str, **options: Any) -> nn.Module:
    """The network of preset ``name`` with random weights; ``options`` replace those of the preset.

    Raises ``UnknownNameError`` for another name, ``TypeError`` for an option that the network does not have.
    """
    if name not in PRESETS:
        raise UnknownNameError("preset of spvos", name, PRESETS)
    module, function = BUILDERS[PRESETS[name].builder].split(":")
    return getattr(importlib.import_module(module), function)(**{**PRESETS[name].options, **options})
