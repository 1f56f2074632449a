"""All sequences of a dataset, one after another, from their first masks: results that any evaluator reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from pliant.datasets import Clip
from pliant.datasets.layouts import read_clips
from pliant.errors import OutputError
from pliant.inference.tracker import Tracker
from pliant.video.masks import write_mask

__all__ = ["SequenceProgress", "first_masks", "track_dataset"]


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
    clips = read_clips(root, split)
    out = Path(out)
    there = [clip.name for clip in clips if (out / clip.name).exists()]
    if there and not (overwrite or resume):
        raise OutputError(
            f"{out} already holds {len(there)} of the sequences ({there[0]}, ...); use --overwrite or --resume."
        )
    written = []
    for number, clip in enumerate(clips, start=1):
        if resume and clip.name in there:
            continue
        _track_clip(clip, number, len(clips), out, network, size, memory_every, on_frame)
        written.append(clip.name)
    return written


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


def _track_clip(
    clip: Clip,
    number: int,
    count: int,
    out: Path,
    network: nn.Module,
    size: int,
    memory_every: int,
    on_frame: Callable[[SequenceProgress], None] | None,
) -> None:
    import shutil

    partial = out / f".{clip.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"cannot write into {out}: {error.strerror}.") from error
    tracker = Tracker(network, size=size, memory_every=memory_every)
    given = first_masks(clip)
    for index in range(len(clip)):
        image = clip.frame(index)
        if index in given:
            labels = tracker.add_objects(image, given[index])
        elif tracker.objects:
            labels = tracker.step(image)
        else:
            labels = np.zeros(image.shape[:2], np.uint8)
        write_mask(partial / f"{clip.frames[index].stem}.png", labels)
        if on_frame:
            on_frame(SequenceProgress(clip.name, number, count, index + 1, len(clip)))
    final = out / clip.name
    if final.exists():
        shutil.rmtree(final)
    partial.rename(final)
