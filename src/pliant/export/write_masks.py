"""Writers of masks of many videos: indexed PNG, one PNG an object, YouTube-VIS JSON, MOTS text."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pliant.errors import MaskError, OutputError, UnknownNameError
from pliant.export.mask_videos import MaskVideo
from pliant.metrics.frames import present_ids
from pliant.video import rle
from pliant.video.masks import write_mask

__all__ = ["WRITERS", "write_mask_videos"]


def write_mask_videos(videos: Iterable[MaskVideo], path: str | Path, form: str) -> int:
    """Write masks in another format; the number of videos.

    Parameters
    ----------
    videos:
        From :func:`pliant.export.read_masks.read_mask_videos`.
    path:
        A folder, or a file for JSON. It must not be there yet.
    form:
        A name of ``WRITERS``.

    Raises OutputError, and what reading raises.
    """
    path = Path(path)
    if form not in WRITERS:
        raise UnknownNameError("format of masks", form, WRITERS)
    if path.exists():
        raise OutputError(f"{path} is there already; name a place that is not, or remove it")
    count = 0

    def counted() -> Iterator[MaskVideo]:
        nonlocal count
        for video in videos:
            yield video
            count += 1

    temporary = path.with_name(f".{path.name}.part")
    _remove(temporary)
    try:
        WRITERS[form](counted(), temporary)
        if not count:
            raise MaskError("there is no video with masks to convert")
        os.replace(temporary, path)
    except OSError as error:
        raise error if isinstance(error, OutputError) else OutputError(f"{path} cannot be written: {error}") from None
    finally:
        _remove(temporary)
    return count


def _remove(path: Path) -> None:
    """What an attempt left behind."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _checked(video: MaskVideo, index: int) -> np.ndarray:
    """The labels of a frame, of the size of the video."""
    labels = video.read(index)
    if labels.shape != video.size:
        raise MaskError(
            f"frame {video.frames[index]} of {video.name} is {labels.shape}, the first one is {video.size} "
            "(height, width)"
        )
    return labels


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {path} cannot be made: {error.strerror}") from None
    return path


def _indexed(videos: Iterable[MaskVideo], path: Path) -> None:
    for video in videos:
        folder = _folder(path / video.name)
        for index, frame in enumerate(video.frames):
            write_mask(folder / f"{frame}.png", _checked(video, index))


def _objects(videos: Iterable[MaskVideo], path: Path) -> None:
    """Every object has a file in every frame, all black where it is not seen."""
    for video in videos:
        ids = _ids(video)
        for number in ids:
            _folder(path / video.name / str(number))
        for index, frame in enumerate(video.frames):
            labels = _checked(video, index)
            for number in ids:
                mask = np.where(labels == number, np.uint8(255), np.uint8(0))
                write_mask(path / video.name / str(number) / f"{frame}.png", mask)


def _ids(video: MaskVideo) -> list[int]:
    """The objects of a video, in rising order; void (255) is none."""
    found: set[int] = set(video.categories)
    for index in range(len(video.frames)):
        found.update(present_ids(_checked(video, index)))
    return sorted(found - {255})


def _tracks(video: MaskVideo) -> dict[int, list[Any]]:
    """Object -> run-length code or None a frame."""
    ids = _ids(video)
    tracks: dict[int, list[Any]] = {number: [] for number in ids}
    for index in range(len(video.frames)):
        for number, code in rle.encode_objects(_checked(video, index), ids).items():
            tracks[number].append(code)
    return tracks


def _results(videos: Iterable[MaskVideo], path: Path) -> None:
    """A list of results, as the servers of YouTube-VIS and OVIS take it."""
    entries: list[Any] = []
    for place, video in enumerate(videos, 1):
        number = place if video.id is None else video.id
        for identity, codes in _tracks(video).items():
            category, score = video.categories.get(identity, 1), video.scores.get(identity, 1.0)
            entry = {"video_id": number, "category_id": category, "score": score, "segmentations": codes}
            entries.append({**entry, "instance_id": identity})
    _write_json(path, entries)


def _annotations(videos: Iterable[MaskVideo], path: Path) -> None:
    """A file of annotations: it names videos and frames, so nothing is lost."""
    document: dict[str, list[Any]] = {"videos": [], "categories": [], "annotations": []}
    for place, video in enumerate(videos, 1):
        number = place if video.id is None else video.id
        height, width = video.size
        names = [f"{video.name}/{frame}.jpg" for frame in video.frames]
        document["videos"].append(
            {"id": number, "height": height, "width": width, "length": len(names), "file_names": names}
        )
        for identity, codes in _tracks(video).items():
            document["annotations"].append(
                {
                    "id": len(document["annotations"]) + 1,
                    "video_id": number,
                    "category_id": video.categories.get(identity, 1),
                    "instance_id": identity,
                    "iscrowd": 0,
                    "height": height,
                    "width": width,
                    "length": len(names),
                    "segmentations": codes,
                    "areas": [None if code is None else rle.area(code) for code in codes],
                    "bboxes": [None if code is None else _box(code) for code in codes],
                }
            )
    categories = sorted({entry["category_id"] for entry in document["annotations"]})
    document["categories"] = [{"id": number, "name": f"category {number}"} for number in categories]
    _write_json(path, document)


def _box(code: Any) -> list[float]:
    """Left, top, width, height of a mask, in pixels."""
    mask = rle.decode(code)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
    return [float(value) for value in box]


def _write_json(path: Path, document: Any) -> None:
    from pliant.evaluation.output import write_bytes

    _folder(path.parent)
    write_bytes(path, json.dumps(document).encode())


def _mots(videos: Iterable[MaskVideo], path: Path) -> None:
    """``<video>.txt``: object k of class c has the id c * 1000 + k; frames are counted from 0."""
    from pliant.evaluation.output import write_bytes

    for video in videos:
        height, width = video.size
        lines = []
        for identity, codes in _tracks(video).items():
            category = video.categories.get(identity, 1)
            for frame, code in enumerate(codes):
                if code is not None:
                    number = category * 1000 + identity
                    lines.append((frame, f"{frame} {number} {category} {height} {width} {code['counts']}\n"))
        lines.sort(key=lambda line: line[0])
        write_bytes(_folder(path) / f"{video.name}.txt", "".join(line for _, line in lines).encode())


# name -> writer of (videos, path)
WRITERS: dict[str, Callable[[Iterable[MaskVideo], Path], None]] = {
    "indexed": _indexed,
    "objects": _objects,
    "youtube-vis": _annotations,
    "youtube-vis-results": _results,
    "mots": _mots,
}
