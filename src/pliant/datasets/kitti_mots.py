"""KITTI MOTS (and MOTSChallenge) on disk.

::

    training/image_02/<4 digits>/000000.png     images
    instances/<sequence>/000000.png             16 bit: class * 1000 + number, 0 background, 10000 ignored
    region instances_txt/<sequence>.txt                the same as text; label_02/<sequence>.txt for TrackEval
    val.seqmap                                  "0002 empty 000000 000233" a line: sequence and last frame

A line of text is "frame id class height width rle", the last in COCO's compressed form. Class 1 is car, 2
pedestrian, 10 the ignored region.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pliant.datasets.clip import Clip
from pliant.datasets.labels import read_values
from pliant.errors import DatasetError, InputError, MaskError
from pliant.metrics.runs import Runs, from_code, from_mask, paint

__all__ = ["CLASSES", "IGNORED", "VAL_SEQUENCES", "MotsObject", "clips", "read_seqmap", "read_sequence"]

CLASSES = {1: "car", 2: "pedestrian"}
IGNORED = 10  # class of regions that are not annotated
VAL_SEQUENCES = ("0002", "0006", "0007", "0008", "0010", "0013", "0014", "0016", "0018")


class MotsObject(NamedTuple):
    """One mask of a frame."""

    id: int
    category: int
    size: tuple[int, int]  # height, width
    mask: Runs


def read_seqmap(path: Path) -> dict[str, int]:
    """Sequence -> last frame, in the order of the file. Raises DatasetError."""
    try:
        lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
        return {words[0].zfill(4): int(words[3]) for words in lines}
    except OSError as error:
        raise DatasetError(f"the map of sequences {path} cannot be read ({error.strerror})") from None
    except (IndexError, ValueError):
        raise DatasetError(
            f'{path} is not a map of sequences; lines like "0002 empty 000000 000233" are expected: '
            "sequence, two "
            "fields that are not used, last frame"
        ) from None


def read_sequence(
    folder: Path, sequence: str, last_frame: int | None = None, error: type[InputError] = DatasetError
) -> list[list[MotsObject]]:
    """The masks of each frame of a sequence, in the order of the file.

    Parameters
    ----------
    folder:
        Holds ``<sequence>/<6 digits>.png``, or else ``<sequence>.txt``.
    last_frame:
        Number of the last frame, from 0; by default the last one that has a mask.
    error:
        Raised, naming sequence, frame and id, where a file is missing or damaged, a class is unknown, an id
        occurs twice in a frame, masks of a frame overlap, or a frame lies beyond the last.
    """
    text, images = folder / f"{sequence}.txt", folder / sequence
    if images.is_dir():
        entries = _from_images(images, sequence, last_frame, error)
    elif text.is_file():
        entries = _from_text(text, sequence, error)
    else:
        raise error(f"there is nothing of sequence {sequence}: neither {text} nor a folder {images}")
    entries = list(entries)
    if last_frame is None:
        last_frame = max((frame for frame, _ in entries), default=-1)
    frames: list[list[MotsObject]] = [[] for _ in range(last_frame + 1)]
    for frame, found in entries:
        where = f"frame {frame} of sequence {sequence} in {folder}"
        if not 0 <= frame <= last_frame:
            raise error(f"{where} (id {found.id}) lies beyond the map of sequences, whose last frame is {last_frame}")
        if found.category not in (*CLASSES, IGNORED):
            raise error(f"{where} has class {found.category} (id {found.id}); 1 (car), 2 (pedestrian), 10 are known")
        frames[frame].append(found)
    for frame, objects in enumerate(frames):
        _check_frame(objects, f"frame {frame} of sequence {sequence} in {folder}", error)
    return frames


def _from_text(path: Path, sequence: str, error: type[InputError]) -> Iterator[tuple[int, MotsObject]]:
    """The rows of a text file; blank lines are skipped."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            frame, identity, category, height, width, counts = line.split()
            size = int(height), int(width)
            mask = from_code({"size": list(size), "counts": counts})
            yield int(frame), MotsObject(int(identity), int(category), size, mask)
        except (ValueError, MaskError) as fault:
            raise error(
                f'line {number} of {path} (sequence {sequence}) cannot be used: "frame id class height width rle" '
                f"is expected ({fault})"
            ) from None


def _from_images(
    folder: Path, sequence: str, last_frame: int | None, error: type[InputError]
) -> Iterator[tuple[int, MotsObject]]:
    """The masks of a folder of 16-bit images."""
    numbers = {}
    for path in sorted(folder.glob("*.png")):
        if not path.stem.isdigit():
            raise error(f"{path} is no frame of sequence {sequence}; names of six digits are expected")
        numbers[int(path.stem)] = path
    last_frame = max(numbers, default=-1) if last_frame is None else last_frame
    missing = [frame for frame in range(last_frame + 1) if frame not in numbers]
    if missing:
        raise error(
            f"frame {missing[0]} of sequence {sequence} is missing: there is no "
            f"{folder / f'{missing[0]:06d}.png'}"
            + (f"; {len(missing) - 1} more are missing" if len(missing) > 1 else "")
        )
    for frame, path in numbers.items():
        try:
            values = read_values(path)
        except MaskError as fault:
            raise error(f"frame {frame} of sequence {sequence} cannot be used: {fault}") from None
        for value in np.unique(values).tolist():
            if value:
                yield frame, MotsObject(value, value // 1000, values.shape, from_mask(values == value))


def _check_frame(objects: Sequence[MotsObject], where: str, error: type[InputError]) -> None:
    """Ids once, sizes equal, masks apart."""
    ids = [item.id for item in objects]
    twice = next((number for number in ids if ids.count(number) > 1), None)
    if twice is not None:
        raise error(f"{where} has id {twice} more than once; an id may occur once a frame")
    sizes = {item.size for item in objects}
    if len(sizes) > 1:
        raise error(f"{where} has masks of different sizes (height, width): {sorted(sizes)}")
    starts = np.concatenate([item.mask.starts for item in objects]) if objects else np.zeros(0)
    order = np.argsort(starts, kind="stable")
    ends = np.concatenate([item.mask.ends for item in objects])[order] if objects else starts
    clash = np.flatnonzero(starts[order][1:] < ends[:-1])
    if len(clash):
        owner = np.repeat(ids, [len(item.mask.starts) for item in objects])[order]
        first, second = owner[clash[0]], owner[clash[0] + 1]
        raise error(f"{where}: the masks of ids {first} and {second} overlap; masks of a frame must not")


def clips(root: str | Path, labels: str | Path, sequences: Sequence[str]) -> list[Clip]:
    """Sequences with cars and pedestrians as objects, numbered 1, 2, ... in the order of their ids.

    Parameters
    ----------
    root:
        The folder of image folders: ``training/image_02``.
    labels:
        The folder ``instances`` with 16-bit images, or one of text files.
    sequences:
        Their names, four digits; those of the validation set are ``VAL_SEQUENCES``.

    The ignored region becomes 255. Raises DatasetError.
    """
    return [_clip(Path(root) / name, Path(labels), name) for name in sequences]


def _clip(images: Path, labels: Path, name: str) -> Clip:
    frames = sorted([*images.glob("*.png"), *images.glob("*.jpg")])
    if not frames:
        raise DatasetError(f"sequence {name} has no image: there is no PNG or JPEG in {images}")
    objects = read_sequence(labels, name, len(frames) - 1)
    seen = sorted({(item.id, item.category) for frame in objects for item in frame if item.category != IGNORED})
    if len(seen) > 254:
        raise DatasetError(f"sequence {name} has {len(seen)} objects; a label map has room for 254")
    numbers = {identity: number for number, (identity, _) in enumerate(seen, 1)}
    categories = {numbers[identity]: CLASSES[category] for identity, category in seen}

    def read(frame: list[MotsObject]) -> np.ndarray:
        return paint([item.mask for item in frame], [numbers.get(item.id, 255) for item in frame], frame[0].size)

    return Clip(name, tuple(frames), tuple(frame or None for frame in objects), tuple(categories), categories, read)
