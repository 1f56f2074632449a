"""Which layout a folder has, seen by what is in it."""

from __future__ import annotations

from pathlib import Path

from pliant.datasets import davis, youtube_vos
from pliant.datasets.clip import Clip

__all__ = ["read_clips"]


def read_clips(root: str | Path, split: str) -> list[Clip]:
    """The sequences of a split: ``root`` in DAVIS layout, or holding the split's folder in YouTube-VOS layout, or
    being that folder. Raises ``DatasetError`` that says what was expected and found."""
    root = Path(root)
    if (root / "ImageSets").is_dir():
        return davis.clips(root, split)
    return youtube_vos.clips(root / split if (root / split).is_dir() else root)
