"""XMem (Cheng, Schwing): follow given masks with three memories; and Tri-XMem, its sparse form from SpVOS."""

from __future__ import annotations

import importlib
from typing import Any

from pliant.errors import UnknownNameError
from pliant.models.xmem.memory import MemoryOptions
from pliant.models.xmem.network import XMem
from pliant.models.xmem.presets import PRESETS

__all__ = ["PRESETS", "MemoryOptions", "XMem", "build"]


def build(name: str, **options: Any) -> XMem:
    """The network of preset ``name`` with random weights; ``options`` replace those of the preset.

    Raises ``UnknownNameError`` for another name, ``TypeError`` for an option that the network does not have.
    """
    if name not in PRESETS:
        raise UnknownNameError("preset of xmem", name, PRESETS)
    module, builder = PRESETS[name].builder.split(":")
    return getattr(importlib.import_module(module), builder)(**{**PRESETS[name].options, **options})
