"""All sequences of a dataset, one after another, from their first masks or from none: results for any evaluator."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from pliant.datasets import Clip
from pliant.datasets.layouts import read_clips
from pliant.errors import OutputError
from pliant.inference.salient import salient_labels
from pliant.inference.tracker import Tracker
from pliant.video.masks import write_mask

__all__ = ["SequenceProgress", "first_masks", "salient_dataset", "track_dataset"]


@dataclass(frozen=True)
class SequenceProgress:
    """Where a job is: sequence and its place among all, frames done in it."""

    sequence: str
    number: int
    sequences: int
    done: int
    total: int


def track_dataset(
    root: str | Path,
    split: str,
    out: str | Path,
    network: nn.Module,
    *,
    size: int = 480,
    memory_every: int = 3,
    overwrite: bool = False,
    resume: bool = False,
    on_frame: Callable[[SequenceProgress], None] | None = None,
) -> list[str]:
    """Follow the objects of every sequence of ``split`` below ``root`` into ``out/<sequence>/<frame>.png``.

    root: DAVIS or YouTube-VOS layout. Objects start at the frames at which their masks are given; later masks of
    known objects are not looked at. A sequence's folder gets its name when it is complete, so that ``resume`` skips
    what is done. Returns the names of the sequences written. Raises ``DatasetError`` for another layout,
    ``OutputError`` where ``out`` holds results and neither ``overwrite`` nor ``resume`` is asked for.
    """

    def labels(clip: Clip) -> Iterator[np.ndarray]:
        tracker = Tracker(network, size=size, memory_every=memory_every)
        given = first_masks(clip)
        for index in range(len(clip)):
            image = clip.frame(index)
            if index in given:
                yield tracker.add_objects(image, given[index])
            elif tracker.objects:
                yield tracker.step(image)
            else:
                yield np.zeros(image.shape[:2], np.uint8)

    return _write_all(root, split, Path(out), labels, overwrite, resume, on_frame)


def salient_dataset(
    root: str | Path,
    split: str,
    out: str | Path,
    network: nn.Module,
    *,
    one_object: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    on_frame: Callable[[SequenceProgress], None] | None = None,
    **options: Any,
) -> list[str]:
    """What is salient in every sequence of ``split`` below ``root``, into ``out/<sequence>/<frame>.png``.

    No mask of the dataset is looked at. one_object: all of it is object 1, as DAVIS 2016 has it; otherwise connected
    regions have ids of their own. options: threshold, keep_largest, smallest and those of ``SalientStream``. The
    rest is as for ``track_dataset``.
    """

    def labels(clip: Clip) -> Iterator[np.ndarray]:
        for found in salient_labels((clip.frame(index) for index in range(len(clip))), network, **options):
            yield (found != 0).astype(np.uint8) if one_object else found

    return _write_all(root, split, Path(out), labels, overwrite, resume, on_frame)


def first_masks(clip: Clip) -> dict[int, np.ndarray]:
    """Frame -> labels of the objects whose first mask is there; nothing of objects seen before."""
    seen: set[int] = set()
    result = {}
    for index in clip.annotated:
        labels = clip.labels(index)
        new = set(np.unique(labels).tolist()) - seen - {0, 255}
        if new:
            result[index] = np.where(np.isin(labels, list(new)), labels, 0).astype(np.uint8)
            seen |= new
        if seen >= set(clip.ids):
            break
    return result


def _write_all(
    root: str | Path,
    split: str,
    out: Path,
    labels: Callable[[Clip], Iterator[np.ndarray]],
    overwrite: bool,
    resume: bool,
    on_frame: Callable[[SequenceProgress], None] | None,
) -> list[str]:
    clips = read_clips(root, split)
    there = [clip.name for clip in clips if (out / clip.name).exists()]
    if there and not (overwrite or resume):
        raise OutputError(
            f"{out} already holds {len(there)} of the sequences ({there[0]}, ...); use --overwrite or --resume."
        )
    written = []
    for number, clip in enumerate(clips, start=1):
        if resume and clip.name in there:
            continue
        with _sequence_folder(out, clip.name) as folder:
            for index, found in enumerate(labels(clip)):
                write_mask(folder / f"{clip.frames[index].stem}.png", found)
                if on_frame:
                    on_frame(SequenceProgress(clip.name, number, len(clips), index + 1, len(clip)))
        written.append(clip.name)
    return written


@contextmanager
def _sequence_folder(out: Path, name: str) -> Iterator[Path]:
    """A folder that gets its name when all is in it."""
    partial, final = out / f".{name}.partial", out / name
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"cannot write into {out}: {error.strerror}.") from error
    yield partial
    if final.exists():
        shutil.rmtree(final)
    partial.rename(final)
