"""Frames and masks in and out of files, streams, folders; overlays and contact sheets. No torch in here.

Names are imported on first use: decoding libraries load when a video is opened.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "Frame": "pliant.video.frame",
    "GivenMasks": "pliant.video.masks",
    "Reader": "pliant.video.reader",
    "ResultWriter": "pliant.video.write",
    "SourceInfo": "pliant.video.frame",
    "mask_from_box": "pliant.video.boxes",
    "read": "pliant.video.reader",
    "read_masks": "pliant.video.masks",
    "write_mask": "pliant.video.masks",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'pliant.video' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
