"""Masks out of JSON: run-length codes or polygons as COCO and YouTube-VIS write them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pliant.errors import MaskError
from pliant.video import rle
from pliant.video.masks import GivenMasks, frame_of

__all__ = ["read_json"]

# One piece of an object: (key, equal for the same object in all frames; name for people; frame; segmentation)
_Piece = tuple[Any, str, int, Any]


def read_json(
    path: str | Path, *, size: tuple[int, int] | None = None, names: Sequence[str] | None = None
) -> GivenMasks:
    """The masks of a COCO or YouTube-VIS file: annotations, a list of results, or bare codes.

    Annotations of the same ``track_id`` or ``instance_id`` are one object; without, a COCO file of several
    images is linked by category where no image has two of a kind. Ids from 1 to 254 stay, others are
    numbered.

    Args:
        path: the file.
        size: (height, width) for polygons, where the file does not say.
        names: names of the frames, without suffix, to place ``file_name`` by.

    Raises:
        MaskError: no JSON, no annotations, several videos, damaged codes, more objects than ids.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise MaskError(f"the mask file {path} is not readable JSON: {error}.") from error
    pieces = _pieces(data, path, names)
    if not pieces:
        raise MaskError(f"the mask file {path} holds no annotations.")
    ids, objects = _numbered(pieces)
    masks: dict[int, list[tuple[int, np.ndarray]]] = {}
    for key, _, frame, segmentation in pieces:
        try:
            mask = _mask(segmentation, size)
        except (MaskError, TypeError, ValueError) as error:
            raise MaskError(f"{path}, object {ids[key]}, frame {frame}: {str(error).rstrip('.')}.") from error
        masks.setdefault(frame, []).append((ids[key], mask))
    given = GivenMasks({}, objects)
    for frame in sorted(masks):
        given.frames[frame] = _painted(masks[frame], frame, path, given.warnings)
    return given


def _pieces(data: Any, path: Path, names: Sequence[str] | None) -> list[_Piece]:
    if isinstance(data, Mapping) and "counts" in data:
        return [(1, "object", 0, data)]
    categories: dict[Any, str] = {}
    entries, videos, images = data, [], []
    if isinstance(data, Mapping):
        categories = {c["id"]: str(c.get("name", c["id"])) for c in data.get("categories") or []}
        entries = data.get("annotations")
        videos, images = data.get("videos") or [], data.get("images") or []
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise MaskError(
            f"the mask file {path} is neither COCO nor YouTube-VIS: expected annotations with "
            "segmentation(s), a list of results, or run-length codes."
        )
    if entries and all("counts" in entry for entry in entries):
        return [(n, f"entry {n}", 0, entry) for n, entry in enumerate(entries, 1)]
    if any("segmentations" in entry for entry in entries):
        return _video_pieces(entries, videos, categories, path, names)
    return _image_pieces(entries, images, categories, path, names)


def _video_pieces(
    entries: list, videos: list, categories: Mapping, path: Path, names: Sequence[str] | None
) -> list[_Piece]:
    """YouTube-VIS: one entry an object, one code or null a frame."""
    found = {entry.get("video_id") for entry in entries}
    if len(found) > 1:
        shown = ", ".join(str(video) for video in sorted(found, key=str)[:5])
        raise MaskError(
            f"the mask file {path} holds {len(found)} videos ({shown}{', ...' if len(found) > 5 else ''}); "
            "cut out the annotations of this one."
        )
    files = next((v.get("file_names") for v in videos if v.get("id") in found), None)
    pieces = []
    for number, entry in enumerate(entries, 1):
        key = entry.get("track_id", entry.get("instance_id", entry.get("id", number)))
        name = categories.get(entry.get("category_id"), f"object {key}")
        for position, segmentation in enumerate(entry["segmentations"]):
            if segmentation:
                frame = position
                if files and names:
                    frame = _placed(files[position], position, names, path)
                pieces.append((key, name, frame, segmentation))
    return pieces


def _image_pieces(
    entries: list, images: list, categories: Mapping, path: Path, names: Sequence[str] | None
) -> list[_Piece]:
    """COCO: one entry an object and image."""
    known = {image["id"]: image for image in images}
    order = list(dict.fromkeys([*known, *(entry.get("image_id") for entry in entries)]))
    used = list(dict.fromkeys(entry.get("image_id") for entry in entries))
    tracked = all("track_id" in entry or "instance_id" in entry for entry in entries)
    kinds = Counter((entry.get("image_id"), entry.get("category_id")) for entry in entries)
    if len(used) > 1 and not tracked and max(kinds.values()) > 1:
        raise MaskError(
            f"the mask file {path} has several objects of one category in an image and does not say which is "
            "which in the next; give every annotation a track_id."
        )
    pieces = []
    for number, entry in enumerate(entries, 1):
        image = known.get(entry.get("image_id"), {})
        frame = order.index(entry.get("image_id")) if len(used) > 1 else 0
        if image.get("file_name") and (names or len(used) > 1):
            frame = _placed(image["file_name"], frame, names, path)
        category = entry.get("category_id")
        key = number if len(used) == 1 else category
        if tracked:
            key = entry.get("track_id", entry.get("instance_id"))
        segmentation = entry.get("segmentation")
        if isinstance(segmentation, list):
            segmentation = {"polygons": segmentation, "size": (image.get("height"), image.get("width"))}
        if segmentation:
            pieces.append((key, categories.get(category, f"category {category}"), frame, segmentation))
    return pieces


def _placed(file_name: str, position: int, names: Sequence[str] | None, path: Path) -> int:
    frame = frame_of(Path(file_name).stem, names)
    if frame is None and names is not None:
        raise MaskError(f"{path} speaks of {file_name}, and the video has no frame of that name.")
    return position if frame is None else frame


def _numbered(pieces: list[_Piece]) -> tuple[dict[Any, int], dict[int, str]]:
    """Ids of all keys: kept where they can be, else in the order of the file."""
    keys = list(dict.fromkeys(piece[0] for piece in pieces))
    kept = all(isinstance(key, int) and 1 <= key <= 254 for key in keys)
    if not kept and len(keys) > 254:
        raise MaskError(f"the mask file has {len(keys)} objects; there is room for 254.")
    ids = {key: key if kept else number for number, key in enumerate(keys, 1)}
    names = {piece[0]: piece[1] for piece in pieces}
    return ids, {ids[key]: names[key] for key in keys}


def _mask(segmentation: Any, size: tuple[int, int] | None) -> np.ndarray:
    if isinstance(segmentation, list):
        segmentation = {"polygons": segmentation, "size": (None, None)}
    if "polygons" not in segmentation:
        return rle.decode(segmentation)
    height, width = segmentation["size"]
    if not height or not width:
        if size is None:
            raise MaskError("a polygon needs the height and width of its image")
        height, width = size
    mask = np.zeros((int(height), int(width)), bool)
    for polygon in segmentation["polygons"]:
        mask |= _filled(np.asarray(polygon, np.float64).reshape(-1, 2), mask.shape)
    return mask


def _filled(polygon: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres lie in a polygon [N, 2] of (x, y); the first pixel goes from 0 to 1."""
    height, width = shape
    crossings = np.zeros((height, width + 1), np.int64)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0)):
        top, bottom = np.clip(np.ceil(np.sort([y0, y1]) - 0.5), 0, height).astype(int)
        rows = np.arange(top, bottom)  # those whose centre line the edge crosses
        if rows.size:
            x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            np.add.at(crossings, (rows, np.clip(np.ceil(x - 0.5), 0, width).astype(int)), 1)
    return crossings.cumsum(axis=1)[:, :width] % 2 == 1


def _painted(masks: list[tuple[int, np.ndarray]], frame: int, path: Path, warnings: list[str]) -> np.ndarray:
    """One label image: larger objects first, so that smaller ones stay whole where they overlap."""
    shapes = {mask.shape for _, mask in masks}
    if len(shapes) > 1:
        raise MaskError(f"{path}: the masks of frame {frame} have different sizes: {sorted(shapes)}.")
    labels = np.zeros(shapes.pop(), np.uint8)
    covered = np.zeros(labels.shape, bool)
    overlap = 0
    for identity, mask in sorted(masks, key=lambda item: -int(item[1].sum())):
        overlap += int((covered & mask).sum())
        covered |= mask
        labels[mask] = identity
    if overlap:
        warnings.append(
            f"objects overlap in frame {frame} of {path} in {overlap} pixels: these went to the smaller one."
        )
    return labels
