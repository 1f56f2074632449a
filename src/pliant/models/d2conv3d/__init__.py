"""3DC-Seg and D²Conv3D: salient objects of a clip, nothing given; and ``salient_small``, which runs on a
CPU.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from pliant.models.d2conv3d.network import ClipSegmenter
from pliant.models.d2conv3d.presets import PRESETS, SmallPreset

__all__ = ["PRESETS", "ClipSegmenter", "build"]


def build(name: str, **options: Any) -> nn.Module:
    """The network ``name`` of ``PRESETS`` with random weights; ``options`` replace fields of its preset."""
    preset = replace(PRESETS[name], **options)
    if isinstance(preset, SmallPreset):
        from pliant.models.d2conv3d.small import SmallSegmenter

        return SmallSegmenter(preset)
    return ClipSegmenter(preset)
