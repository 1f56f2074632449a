"""The one palette: colours of object ids in masks, overlays and contact sheets (DAVIS and PASCAL VOC)."""

from __future__ import annotations

import numpy as np

__all__ = ["PALETTE", "colour_name"]


def _voc() -> np.ndarray:
    """Bit 3k + c of the index becomes bit 7 - k of channel c: neighbouring ids get colours far apart."""
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for k in range(8):
        for channel in range(3):
            colours[:, channel] |= ((index >> 3 * k + channel & 1) << 7 - k).astype(np.uint8)
    return colours


PALETTE = _voc()  # [256, 3] uint8 RGB; row = object id, row 0 (black) is background
PALETTE.flags.writeable = False

_NAMES = {
    "black": (0, 0, 0), "white": (255, 255, 255), "grey": (128, 128, 128), "red": (255, 0, 0),
    "dark red": (128, 0, 0), "green": (0, 255, 0), "dark green": (0, 128, 0), "blue": (0, 0, 255),
    "dark blue": (0, 0, 128), "yellow": (255, 255, 0), "olive": (128, 128, 0), "magenta": (255, 0, 255),
    "purple": (128, 0, 128), "cyan": (0, 255, 255), "teal": (0, 128, 128), "orange": (255, 128, 0),
    "pink": (255, 150, 180), "brown": (130, 70, 20), "light blue": (130, 180, 255),
    "light green": (150, 255, 150),
}  # fmt: skip


def colour_name(colour: tuple[int, int, int]) -> str:
    """The plain name nearest to an RGB colour with its numbers: ``"red (255, 0, 0)"``."""
    red, green, blue = (int(value) for value in colour)
    name = min(_NAMES, key=lambda n: sum((a - b) ** 2 for a, b in zip(_NAMES[n], (red, green, blue))))
    return f"{name} ({red}, {green}, {blue})"
