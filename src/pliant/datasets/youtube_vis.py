"""YouTube-VIS 2019 and 2021, OVIS: annotations of a split in one JSON file.

::

    {"videos":      [{"id": 1, "width": 1280, "height": 720, "length": 20, "file_names": ["<video>/00000.jpg",
    ...]}],
     "categories":  [{"id": 1, "name": "person"}],
     "annotations": [{"id": 1, "video_id": 1, "category_id": 1, "iscrowd": 0, "segmentations": [RLE or null,
     ...],
                      "areas": [number or null, ...], "occlusion": ["no_occlusion", ...]}]}

A segmentation is compressed or uncompressed RLE or a list of polygons; ``occlusion`` is of OVIS. Only the
training files of the official sets have annotations.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pliant.datasets.clip import Clip
from pliant.errors import DatasetError, MaskError
from pliant.metrics.polygons import polygon_mask
from pliant.metrics.runs import Runs, from_code, from_mask
from pliant.video import rle

__all__ = ["Annotation", "Annotations", "Video", "clips", "read_annotations", "read_segmentation"]


@dataclass(frozen=True)
class Video:
    """A video of the file; ``length`` in annotated frames."""

    id: int
    height: int
    width: int
    length: int
    file_names: tuple[str, ...]


@dataclass(frozen=True)
class Annotation:
    """A track: one segmentation a frame of its video, None where the object is not seen."""

    id: int
    video: int
    category: int
    crowd: bool
    segmentations: tuple[Any, ...]
    areas: tuple[float | None, ...] | None
    occlusion: tuple[str | None, ...] | None


@dataclass(frozen=True)
class Annotations:
    """The file: videos and categories by id, tracks in the order of the file."""

    videos: Mapping[int, Video]
    categories: Mapping[int, str]
    tracks: tuple[Annotation, ...] = field(repr=False)


def read_annotations(path: str | Path, tracks: bool = True) -> Annotations:
    """Read and check an annotation file. Raises DatasetError with what is wrong and where.

    Parameters
    ----------
    path:
        The JSON file.
    tracks:
        It must have annotations, which the files of official validation and test sets do not.
    """
    path = Path(path)
    document = _read_json(path)
    try:
        videos = {video["id"]: _video(video) for video in document["videos"]}
        categories = {category["id"]: str(category["name"]) for category in document["categories"]}
        entries = document.get("annotations") or []
        if tracks and not entries:
            raise DatasetError(
                f"{path} has no annotations: only the training files of the official sets do, so split one "
                "of those for scores of one's own"
            )
        annotations = tuple(_annotation(entry) for entry in entries)
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"{path} is not in the form of YouTube-VIS ({error!r} is missing or no such thing): videos, "
            "categories and annotations are expected"
        ) from None
    _check(path, videos, annotations)
    return Annotations(videos, categories, annotations)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read ({error.strerror}); a JSON file of YouTube-VIS is expected"
        ) from None
    except ValueError as error:
        raise DatasetError(f"{path} is not JSON ({error})") from None


def _video(entry: Mapping[str, Any]) -> Video:
    names = tuple(entry.get("file_names") or ())
    return Video(entry["id"], entry["height"], entry["width"], entry.get("length", len(names)), names)


def _annotation(entry: Mapping[str, Any]) -> Annotation:
    areas, occlusion = entry.get("areas"), entry.get("occlusion")
    return Annotation(
        entry["id"],
        entry["video_id"],
        entry["category_id"],
        bool(entry.get("iscrowd", 0)),
        tuple(entry["segmentations"]),
        None if areas is None else tuple(areas),
        None if occlusion is None else tuple(occlusion),
    )


def _check(path: Path, videos: Mapping[int, Video], tracks: tuple[Annotation, ...]) -> None:
    """What would give wrong numbers later."""
    seen: set[int] = set()
    for track in tracks:
        if track.id in seen:
            raise DatasetError(f"{path} has annotation id {track.id} twice; every annotation needs its own")
        seen.add(track.id)
        if track.video not in videos:
            raise DatasetError(
                f"annotation {track.id} of {path} is of video {track.video}, which the file does not have"
            )
        length = videos[track.video].length
        if len(track.segmentations) != length:
            raise DatasetError(
                f"annotation {track.id} of {path} has {len(track.segmentations)} segmentations, but video "
                f"{track.video} has {length} frames"
            )


def read_segmentation(segmentation: Any, height: int, width: int) -> Runs | None:
    """The mask of a frame, None where there is none. Raises MaskError where it is damaged."""
    if segmentation is None or (isinstance(segmentation, list) and not segmentation):
        return None
    if isinstance(segmentation, list):
        return from_mask(polygon_mask(segmentation, height, width))
    if list(segmentation["size"]) != [height, width]:
        raise MaskError(f"a mask is {segmentation['size']}, its video is {[height, width]} (height, width)")
    return from_code(segmentation)


def clips(annotations: str | Path, images: str | Path) -> list[Clip]:
    """The videos of an annotation file with their tracks as objects 1, 2, ... in the order of the file.

    Parameters
    ----------
    annotations:
        The JSON file.
    images:
        The folder that its ``file_names`` start from (``train/JPEGImages``; in OVIS ``train``).

    Where tracks overlap, the later one lies on top. Tracks after the 254th of a video do not fit a label map
    and are refused. Raises DatasetError.
    """
    content, images = read_annotations(annotations), Path(images)
    by_video: dict[int, list[Annotation]] = {number: [] for number in content.videos}
    for track in content.tracks:
        if not track.crowd:
            by_video[track.video].append(track)
    return [_clip(content, video, by_video[number], images) for number, video in content.videos.items()]


def _clip(content: Annotations, video: Video, tracks: list[Annotation], images: Path) -> Clip:
    name = str(Path(video.file_names[0]).parent) if video.file_names else str(video.id)
    frames = tuple(images / file_name for file_name in video.file_names)
    if not frames or not frames[0].is_file():
        raise DatasetError(
            f"video {name} has no image {frames[0] if frames else ''}; the folder of images is the one that "
            "the file_names of the annotation file start from"
        )
    if len(tracks) > 254:
        raise DatasetError(f"video {name} has {len(tracks)} tracks; a label map has room for 254")
    masks = tuple(
        tuple(track.segmentations[index] for track in tracks) if tracks else None for index in range(video.length)
    )
    categories = {number: content.categories[track.category] for number, track in enumerate(tracks, 1)}
    return Clip(name, frames, masks, tuple(categories), categories, _painter(video.height, video.width))


def _painter(height: int, width: int) -> Callable[[tuple[Any, ...]], np.ndarray]:
    """A reader of labels out of the segmentations of a frame."""

    def read(segmentations: tuple[Any, ...]) -> np.ndarray:
        labels = np.zeros((height, width), np.uint8)
        for number, segmentation in enumerate(segmentations, 1):
            if isinstance(segmentation, list) and segmentation:
                labels[polygon_mask(segmentation, height, width)] = number
            elif segmentation:
                mask = rle.decode(segmentation)
                if mask.shape != (height, width):
                    raise MaskError(f"a mask is {list(mask.shape)}, its video is {[height, width]} (height, width)")
                labels[mask] = number
        return labels

    return read
