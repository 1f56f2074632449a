"""Label maps out of PNG files: the numbers that are stored, not the colours that they stand for."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from pliant.errors import MaskError

__all__ = ["png_size", "read_labels", "read_values"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read_labels(path: str | Path) -> np.ndarray:
    """The label map of a PNG, [H, W] uint8: the index of palette files, the grey value of grey ones, 0 and 1
    of one-bit ones; of grey with transparency the grey.

    Raises MaskError, naming the file, where it cannot be read, holds colours or 16-bit values.
    """
    labels = read_values(path)
    if labels.dtype != np.uint8:
        raise MaskError(f"{path} is a 16-bit image; an indexed or grey 8-bit PNG is expected")
    return labels


def read_values(path: str | Path) -> np.ndarray:
    """As :func:`read_labels`, but [H, W] uint16 for a 16-bit file."""
    try:
        data = Path(path).read_bytes()
        values = _unfiltered(data)
        if values is None:
            values = _by_pillow(data)
    except FileNotFoundError:
        raise MaskError(f"there is no mask {path}") from None
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error) as error:
        raise MaskError(f"{path} cannot be read as an image ({error}); an indexed PNG is expected") from None
    if values is None:
        raise MaskError(f"{path} is a colour image, an indexed PNG is expected: one number a pixel, 0 background")
    return values


def png_size(path: str | Path) -> tuple[int, int]:
    """Height and width of a PNG from its first bytes. Raises MaskError where it is none."""
    try:
        with open(path, "rb") as file:
            head = file.read(24)
    except OSError as error:
        raise MaskError(f"{path} cannot be read ({error.strerror}); an indexed PNG is expected") from None
    if head[:8] != _SIGNATURE or len(head) < 24:
        raise MaskError(f"{path} is not a PNG; an indexed PNG is expected")
    width, height = struct.unpack(">II", head[16:24])
    return height, width


def _unfiltered(data: bytes) -> np.ndarray | None:
    """An 8-bit indexed or grey PNG whose rows are stored as they are, which is how palette files are written.

    Takes half of Pillow's time, and decoding is a third of an evaluation. None for any other file.
    """
    if data[:8] != _SIGNATURE:
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    if depth != 8 or colour not in (0, 3) or interlaced:
        return None
    size = height * (width + 1)
    rows = zlib.decompress(_image_data(data), bufsize=size)
    if len(rows) != size:
        return None
    rows = np.frombuffer(rows, np.uint8).reshape(height, width + 1)
    return None if rows[:, 0].any() else rows[:, 1:]  # the first byte of a row names its filter


def _image_data(data: bytes) -> bytes:
    """The compressed pixels of a PNG: its IDAT chunks, joined."""
    parts, position = [], 8
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IDAT":
            parts.append(data[position + 8 : position + 8 + length])
        position += 12 + length
    return b"".join(parts)


def _by_pillow(data: bytes) -> np.ndarray | None:
    """Any image that Pillow opens and that has one number a pixel; None for colours."""
    with Image.open(io.BytesIO(data)) as image:
        if image.mode in ("1", "L", "P"):
            return np.asarray(image).astype(np.uint8)
        if image.mode in ("LA", "PA"):
            return np.asarray(image)[:, :, 0].copy()
        if image.mode in ("I;16", "I;16B", "I"):
            return np.asarray(image).astype(np.uint16)
    return None
