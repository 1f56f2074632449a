"""pliant: follow, find and separate objects in video with networks whose computation bends to the content.

Public names are imported on first use, so that ``import pliant`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> the module that defines it. The one list; a test holds it to reality.
_PUBLIC = {
    "InputError": "pliant.errors",
    "PliantError": "pliant.errors",
    "Tracker": "pliant.inference.tracker",
    "build": "pliant.models",
    "evaluate": "pliant.evaluation",
    "load": "pliant.models",
    "mask_from_box": "pliant.video.boxes",
    "salient": "pliant.inference.salient",
    "track": "pliant.inference.tracker",
}
# Folders that people reach as attributes: pliant.ops.warp, pliant.nn.DeformConv2d, ...
_FOLDERS = ("datasets", "evaluation", "inference", "metrics", "models", "nn", "ops", "training", "video")

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
    elif name in _FOLDERS:
        value = importlib.import_module(f"pliant.{name}")
    else:
        raise AttributeError(f"module 'pliant' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_FOLDERS])
