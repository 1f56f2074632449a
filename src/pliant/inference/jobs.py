"""Whole jobs: a video to a folder of results, and all sequences of a dataset."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

import pliant
from pliant.errors import MaskError
from pliant.inference.interruption import interrupted_only_after
from pliant.inference.policy_video import PolicyVideo
from pliant.inference.snapshot import load_snapshot, save_snapshot
from pliant.inference.tracker import Tracker, given_masks
from pliant.video import Reader, ResultWriter

__all__ = ["Progress", "track_to_folder"]

_SNAPSHOT = ".tracker.pt"
_SNAPSHOT_EVERY = 30.0  # seconds


@dataclass(frozen=True)
class Progress:
    """Where a job is: frames done, frames in all (None: not known), frames a second."""

    done: int
    total: int | None
    frames_per_second: float


def track_to_folder(
    frames: Reader,
    out: str | Path,
    network: nn.Module,
    *,
    mask: Any = None,
    boxes: dict[int, list] | None = None,
    size: int = 480,
    memory_every: int = 3,
    overwrite: bool = False,
    resume: bool = False,
    overlay: bool = True,
    alpha: str | None = None,
    show_policy: bool = False,
    about: dict[str, Any] | None = None,
    on_frame: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Follow objects through an opened source and write everything under ``out``; returns the summary.

    mask, boxes as in ``pliant.track``; overwrite, resume, overlay, alpha as in ``pliant.video.ResultWriter``; about:
    plain values for the summary ("model", ...), which also decide whether a run may be resumed. show_policy: also
    policy.mp4, what the network's gates decided where (frames of an earlier run are shown as they are).
    An interruption (also Ctrl-C) leaves whole files and a snapshot: the same call with ``resume`` goes on to the same
    result. Raises ``MaskError`` where nothing is marked, ``OutputError`` as ``ResultWriter``.
    """
    about = {"size": size, "memory_every": memory_every, **(about or {})}
    given = given_masks(mask, boxes, frames.info)
    if not given.frames:
        raise MaskError("nothing to follow: give a mask (--mask) or a box (--box).")
    tracker = Tracker(network, size=size, memory_every=memory_every)
    writer = ResultWriter(
        out, frames.info, overwrite=overwrite, resume=resume, overlay=overlay, alpha=alpha,
        objects=given.objects, settings=about,
    )  # fmt: skip
    with writer, _policies(Path(out) / "policy.mp4", frames, network, show_policy) as policies:
        if writer.finished:
            return writer.finish()
        snapshot = Path(out) / _SNAPSHOT
        known = _recall(tracker, snapshot, writer.done)
        seconds = _follow(frames, tracker, given, writer, snapshot, known, alpha is not None, on_frame, policies)
        fresh = max(1, len(seconds))
        summary = {
            "pliant": pliant.__version__,
            **about,
            "seconds": round(sum(seconds), 3),
            "frames_per_second": round(fresh / max(sum(seconds), 1e-9), 2),
            "warnings": [*given.warnings, *frames.warnings],
        }
        result = writer.finish(summary)
        snapshot.unlink(missing_ok=True)
    return result


@contextmanager
def _policies(path: Path, frames: Reader, network: nn.Module, wanted: bool) -> Iterator[PolicyVideo | None]:
    """The video of decisions where it is wanted; complete only if the block is left without an error."""
    if not wanted:
        yield None
        return
    video = PolicyVideo(path, frames.info, network)
    finished = False
    try:
        yield video
        finished = True
    finally:
        video.close(finished=finished)


def _recall(tracker: Tracker, snapshot: Path, done: int) -> int:
    """Put the tracker where the snapshot left it; returns how many frames it has seen."""
    if not snapshot.is_file():
        return 0
    if not done:
        snapshot.unlink()
        return 0
    state, about = load_snapshot(snapshot)
    if about["frames"] > done:  # the journal lost its end: begin the tracking anew, masks are still checked
        return 0
    tracker.state = state
    return about["frames"]


def _follow(
    frames: Reader,
    tracker: Tracker,
    given: Any,
    writer: ResultWriter,
    snapshot: Path,
    known: int,
    soft_edges: bool,
    on_frame: Callable[[Progress], None] | None,
    policies: PolicyVideo | None,
) -> list[float]:
    """The loop; returns the seconds that each frame took, those of an earlier run left out."""
    seconds: list[float] = []
    done, seen = writer.done, known
    saved = time.monotonic()
    try:
        for count, frame in enumerate(frames):
            if count < known:
                writer.replay(frame)
                if policies:
                    policies.add(frame, None)
                continue
            with interrupted_only_after():
                started = time.perf_counter()
                marked = given.frames.get(count)
                labels = _labels(tracker, frame, marked)
                seen = count + 1
                if policies:
                    policies.add(frame, tracker)
                if count < done:
                    writer.replay(frame)
                    continue
                soft = tracker.probabilities if soft_edges else None
                planes = None if soft is None else {i: soft[k + 1] for k, i in enumerate(tracker.objects)}
                writer.write(
                    frame, labels, planes, given=marked is not None, confidence=tracker.confidence, lost=tracker.lost
                )
                seconds.append(time.perf_counter() - started)
            if time.monotonic() - saved > _SNAPSHOT_EVERY:
                save_snapshot(snapshot, tracker.state, {"frames": seen})
                saved = time.monotonic()
            if on_frame:
                recent = seconds[-50:]
                on_frame(Progress(seen, frames.info.frame_count, len(recent) / max(sum(recent), 1e-9)))
    except KeyboardInterrupt:
        if tracker.objects and seen > known:
            save_snapshot(snapshot, tracker.state, {"frames": seen})
        raise
    return seconds


def _labels(tracker: Tracker, frame: Any, marked: Any) -> np.ndarray:
    if marked is not None:
        labels, complete = marked(frame.image)
        return tracker.add_objects(frame.image, labels, complete=complete)
    if not tracker.objects:
        return np.zeros(frame.image.shape[:2], np.uint8)
    return tracker.skip() if frame.damaged else tracker.step(frame.image)
