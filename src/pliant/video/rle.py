"""Run-length codes of masks as COCO and YouTube-VIS write them.

A mask is read column by column, from the top; the code is the lengths of its runs, the first one of zeros
(0 when the mask begins with a one): ``{"size": [height, width], "counts": [...]}``. In the compressed form
``counts`` is a string: from the fourth run on the difference to the run two before, cut into groups of five
bits, lowest first, bit 5 saying that more follow and bit 4 of the last being the sign, each group written as
the character 48 + group.

Both forms are written and read exactly as pycocotools does; here without compiled code and in whole arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pliant.errors import MaskError

__all__ = ["area", "decode", "encode", "encode_objects", "read"]


def encode(mask: np.ndarray, *, compress: bool = True) -> dict[str, Any]:
    """The run-length code of one mask, ready for JSON.

    Args:
        mask: [H, W], any dtype; everything that is not zero belongs to the object.
        compress: write ``counts`` as a string (what results files carry), else as a list of integers.

    Returns:
        ``{"size": [H, W], "counts": str or list of int}``.

    Must equal ``pycocotools.mask.encode(np.asfortranarray(mask))`` with ``counts`` decoded to text.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"a mask is [H, W]; this array has the shape {list(mask.shape)}.")
    columns = (mask if mask.dtype == np.bool_ else mask != 0).T.ravel()
    edges = np.flatnonzero(columns[1:] != columns[:-1]) + 1
    counts = _lengths(edges, columns.size, begins_with_one=bool(columns.size and columns[0]))
    return _as_code(counts, mask.shape, compress)


def encode_objects(labels: np.ndarray, ids: Iterable[int]) -> dict[int, dict[str, Any] | None]:
    """The compressed run-length codes of several objects of one label image, in one pass over its pixels.

    Args:
        labels: [H, W], integers, 0 is background.
        ids: the objects to encode.

    Returns:
        id -> code, or ``None`` where the object has no pixel (as YouTube-VIS writes it).
    """
    labels = np.asarray(labels)
    if labels.ndim != 2:
        raise ValueError(f"labels are [H, W]; this array has the shape {list(labels.shape)}.")
    columns = labels.T.ravel()
    starts = np.concatenate(([0], np.flatnonzero(columns[1:] != columns[:-1]) + 1))[: columns.size]
    values = columns[starts]
    ends = np.append(starts[1:], columns.size)
    codes: dict[int, dict[str, Any] | None] = {}
    for identity in ids:
        own = values == identity  # two runs of one object never touch: they would be one run
        if not own.any():
            codes[identity] = None
            continue
        edges = np.stack((starts[own], ends[own]), axis=1).ravel()
        begins = edges[0] == 0
        edges = edges[1 if begins else 0 : -1 if edges[-1] == columns.size else None]
        counts = _lengths(edges, columns.size, begins_with_one=bool(begins))
        codes[identity] = _as_code(counts, labels.shape, compress=True)
    return codes


def decode(code: Mapping[str, Any]) -> np.ndarray:
    """The mask of a run-length code, bool [H, W].

    Args:
        code: ``{"size": [H, W], "counts": ...}``, counts a list of integers, or compressed, text or bytes.

    Raises:
        MaskError: the code is damaged: strange characters, negative runs, or a sum other than H * W.
    """
    height, width, counts = read(code)
    values = np.arange(counts.size) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, counts).reshape(width, height).T)


def area(code: Mapping[str, Any]) -> int:
    """Number of pixels of the object, without decoding the mask. ``code`` as in `decode`."""
    return int(read(code)[2][1::2].sum())


def _lengths(edges: np.ndarray, size: int, *, begins_with_one: bool) -> np.ndarray:
    """Run lengths between positions of change; the first run is one of zeros."""
    lengths = np.diff(np.concatenate(([0], edges, [size])))
    return np.concatenate(([0], lengths)) if begins_with_one else lengths


def _as_code(counts: np.ndarray, shape: tuple[int, ...], compress: bool) -> dict[str, Any]:
    size = [int(shape[0]), int(shape[1])]
    return {"size": size, "counts": _compress(counts) if compress else counts.tolist()}


def _compress(counts: np.ndarray) -> str:
    values = counts.astype(np.int64)
    values[3:] -= counts[1:-2]
    # Arithmetic shifts by 0, 5, 10, ...: a group is the last one where what remains equals its own sign bit.
    groups = values[:, None] >> np.arange(0, 65, 5).clip(max=63)
    sign = -(groups >> 4 & 1)
    last = (groups >> 5 == sign).argmax(axis=1)
    place = np.arange(groups.shape[1])
    characters = (groups & 31 | np.where(place < last[:, None], 32, 0)) + 48
    return characters[place <= last[:, None]].astype(np.uint8).tobytes().decode("ascii")


def _decompress(text: str | bytes) -> np.ndarray:
    data = text.encode("ascii", "replace") if isinstance(text, str) else bytes(text)
    groups = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    if groups.size and (groups.min() < 0 or groups.max() > 63 or groups[-1] & 32):
        raise MaskError(
            "a compressed run-length code is damaged: it is cut off or has characters that none can have."
        )
    last = groups & 32 == 0
    ends = np.flatnonzero(last)
    starts = np.concatenate(([0], ends[:-1] + 1))[: ends.size]
    place = np.arange(groups.size) - np.repeat(starts, ends - starts + 1)
    if groups.size and place.max() > 11:
        raise MaskError("a compressed run-length code is damaged: one of its numbers has more than 60 bits.")
    values = np.add.reduceat((groups & 31) << 5 * place, starts) if ends.size else groups
    values = np.where(groups[ends] & 16, values - (np.int64(1) << 5 * (place[ends] + 1)), values)
    values[1::2] = values[1::2].cumsum()
    values[2::2] = values[2::2].cumsum()
    return values


def read(code: Mapping[str, Any]) -> tuple[int, int, np.ndarray]:
    """Height, width and run lengths [n] int64 of a code, the first run one of zeros. Raises as `decode`."""
    try:
        height, width = (int(value) for value in code["size"])
        counts = code["counts"]
        if isinstance(counts, (str, bytes)):
            counts = _decompress(counts)
        counts = np.asarray(counts, np.int64).reshape(-1)
    except MaskError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise MaskError(
            'a run-length code must be {"size": [height, width], "counts": text or list of integers}; '
            f"this is {str(code)[:80]!r}."
        ) from error
    if (counts < 0).any() or counts.sum() != height * width:
        raise MaskError(
            f"a run-length code is damaged: its runs cover {counts.sum()} pixels of {height} x {width} = "
            f"{height * width}{', some are negative' if (counts < 0).any() else ''}."
        )
    return height, width, counts
