"""Readers of masks of many videos: indexed PNG, one PNG an object, YouTube-VIS JSON, MOTS text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pliant.datasets.kitti_mots import IGNORED, MotsObject, read_sequence
from pliant.datasets.labels import png_size, read_labels
from pliant.errors import MaskError, ResultsError, UnknownNameError
from pliant.export.mask_videos import MaskVideo
from pliant.metrics.polygons import polygon_mask
from pliant.metrics.runs import paint
from pliant.video import rle

__all__ = ["READERS", "guess_format", "read_mask_videos"]


def read_mask_videos(path: str | Path, form: str | None = None, like: Path | None = None) -> Iterator[MaskVideo]:
    """The videos of a folder or file.

    Parameters
    ----------
    path:
        What to read.
    form:
        A name of ``READERS``; guessed by default.
    like:
        Annotation file of YouTube-VIS, which names the videos and frames of a results file.

    Raises MaskError and ResultsError, naming the file.
    """
    path = Path(path)
    form = form or guess_format(path)
    if form not in READERS:
        raise UnknownNameError("format of masks", form, READERS)
    return READERS[form](path, like)


def guess_format(path: Path) -> str:
    """The format that a file or folder looks like. Raises MaskError where it looks like none."""
    if path.is_file() and path.suffix == ".json":
        return "youtube-vis"
    if any(path.glob("*.txt")):
        return "mots"
    if any(path.glob("*.png")) or any(path.glob("*/*.png")):
        return "indexed"
    if any(path.glob("*/*/*.png")):
        return "objects"
    raise MaskError(
        f"{path} holds no masks that are known: a JSON file, or a folder of <video>/<frame>.png, "
        "<video>/<object>/<frame>.png or <video>.txt is expected"
    )


def _indexed(path: Path, like: Path | None) -> Iterator[MaskVideo]:
    """``<video>/<frame>.png``, or the frames of one video."""
    folders = [path] if any(path.glob("*.png")) else sorted(folder for folder in path.iterdir() if folder.is_dir())
    for folder in folders:
        files = sorted(folder.glob("*.png"))
        if files:
            frames = tuple(file.stem for file in files)
            yield MaskVideo(folder.resolve().name, png_size(files[0]), frames, _label_reader(files))


def _label_reader(files: list[Path]) -> Callable[[int], np.ndarray]:
    return lambda index: read_labels(files[index])


def _objects(path: Path, like: Path | None) -> Iterator[MaskVideo]:
    """``<video>/<object>/<frame>.png``, non-zero is the object."""
    for folder in sorted(folder for folder in path.iterdir() if folder.is_dir()):
        objects = {}
        for part in sorted(folder.iterdir()):
            if part.is_dir():
                if not part.name.isdigit() or not 1 <= int(part.name) <= 254:
                    raise MaskError(f"{part} is no folder of an object; numbers from 1 to 254 are expected")
                objects[int(part.name)] = part
        frames = sorted({file.stem for part in objects.values() for file in part.glob("*.png")})
        if frames:
            first = next(file for part in objects.values() for file in sorted(part.glob("*.png")))
            yield MaskVideo(
                folder.name, png_size(first), tuple(frames), _object_reader(objects, frames, png_size(first))
            )


def _object_reader(objects: dict[int, Path], frames: list[str], size: tuple[int, int]) -> Callable[[int], np.ndarray]:
    def read(index: int) -> np.ndarray:
        labels = np.zeros(size, np.uint8)
        for number, part in objects.items():
            file = part / f"{frames[index]}.png"
            if file.is_file():
                mask = read_labels(file) != 0
                if mask.shape != size:
                    raise MaskError(f"{file} is {mask.shape}, other masks of the video are {size} (height, width)")
                if labels[mask].any():
                    raise MaskError(f"{file} overlaps another object of the frame; a pixel can have one object only")
                labels[mask] = number
        return labels

    return read


def _youtube_vis(path: Path, like: Path | None) -> Iterator[MaskVideo]:
    """A file of annotations, or a list of results; numbers of objects are their order in the video."""
    document = _load(path)
    named = _load(like) if like is not None else document
    videos = {video["id"]: video for video in named.get("videos", [])} if isinstance(named, dict) else {}
    tracks = document.get("annotations") if isinstance(document, dict) else document
    by_video: dict[int, list[Any]] = {number: [] for number in videos}
    for track in tracks or []:
        by_video.setdefault(track["video_id"], []).append(track)
    for number, entries in by_video.items():
        yield _track_video(path, number, videos.get(number), entries)


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be read as JSON: {error}") from None


def _track_video(path: Path, number: int, video: Any, entries: list[Any]) -> MaskVideo:
    """A video of a YouTube-VIS file."""
    if len(entries) > 254:
        raise ResultsError(f"video {number} of {path} has {len(entries)} objects; a label map has room for 254")
    if video is not None:
        names = [Path(name) for name in video.get("file_names") or []]
        size, name = (video["height"], video["width"]), str(names[0].parent) if names else str(number)
        frames = tuple(file.stem for file in names)
    else:
        codes = [code for entry in entries for code in entry["segmentations"] if isinstance(code, dict)]
        if not codes:
            raise ResultsError(f"video {number} of {path} has no mask, so its size is not known; --like names a file")
        size, name = tuple(codes[0]["size"]), f"{number:05d}"
        frames = tuple(f"{index:05d}" for index in range(len(entries[0]["segmentations"])))
    for entry in entries:
        if len(entry["segmentations"]) != len(frames):
            raise ResultsError(
                f"an object of video {number} in {path} has {len(entry['segmentations'])} segmentations, the video "
                f"has {len(frames)} frames"
            )
    tracks = dict(zip(_numbers(entries), entries, strict=True))
    categories = {identity: entry["category_id"] for identity, entry in tracks.items()}
    scores = {identity: float(entry.get("score", 1)) for identity, entry in tracks.items()}
    return MaskVideo(name, size, frames, _track_reader(tracks, scores, size), categories, scores, number)


def _numbers(entries: list[Any]) -> list[int]:
    """The objects' own numbers where the file has them, as the ones written here do, else 1, 2, ..."""
    own = [entry.get("instance_id") for entry in entries]
    if len(set(own)) == len(own) and all(isinstance(number, int) and 1 <= number <= 254 for number in own):
        return own
    return list(range(1, len(entries) + 1))


def _track_reader(
    tracks: dict[int, Any], scores: dict[int, float], size: tuple[int, int]
) -> Callable[[int], np.ndarray]:
    def read(index: int) -> np.ndarray:
        labels = np.zeros(size, np.uint8)
        for number in sorted(scores, key=lambda number: scores[number]):  # the surest on top
            segmentation = tracks[number]["segmentations"][index]
            if isinstance(segmentation, list) and segmentation:
                labels[polygon_mask(segmentation, *size)] = number
            elif segmentation:
                labels[rle.decode(segmentation)] = number
        return labels

    return read


def _mots(path: Path, like: Path | None) -> Iterator[MaskVideo]:
    """``<video>.txt``: objects are numbered in the order of their ids; ignored regions are left out."""
    for file in sorted(path.glob("*.txt")):
        frames = read_sequence(file.parent, file.stem, error=ResultsError)
        objects = [item for frame in frames for item in frame if item.category != IGNORED]
        if not objects:
            raise ResultsError(f"{file} holds no object, so the size of the video is not known")
        ids = sorted({item.id for item in objects})
        if len(ids) > 254:
            raise ResultsError(f"{file} has {len(ids)} objects; a label map has room for 254")
        # 1001, 1002, ... of one class become 1, 2, ...; where numbers of two classes meet, all are counted anew.
        own = [identity % 1000 for identity in ids]
        kept = len(set(own)) == len(own) and 0 not in own and max(own) <= 254
        numbers = dict(zip(ids, own if kept else range(1, len(ids) + 1), strict=True))
        categories = {numbers[item.id]: item.category for item in objects}
        names = tuple(f"{index:06d}" for index in range(len(frames)))
        yield MaskVideo(file.stem, objects[0].size, names, _mots_reader(frames, numbers, objects[0].size), categories)


def _mots_reader(
    frames: list[list[MotsObject]], numbers: dict[int, int], size: tuple[int, int]
) -> Callable[[int], np.ndarray]:
    def read(index: int) -> np.ndarray:
        shown = [item for item in frames[index] if item.id in numbers]
        return paint([item.mask for item in shown], [numbers[item.id] for item in shown], size)

    return read


# name -> reader of (path, annotation file or None)
READERS: dict[str, Callable[[Path, Path | None], Iterator[MaskVideo]]] = {
    "indexed": _indexed,
    "objects": _objects,
    "youtube-vis": _youtube_vis,
    "mots": _mots,
}
