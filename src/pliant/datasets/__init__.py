"""The layouts that people have on disk, read into :class:`Clip`."""

from __future__ import annotations

from pliant.datasets.clip import Clip

__all__ = ["Clip"]
