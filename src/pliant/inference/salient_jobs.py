"""Salient objects of a video, as a job: everything under one folder, to be continued after an
interruption.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

import pliant
from pliant.inference.connected_objects import ConnectedObjects
from pliant.inference.interruption import interrupted_only_after
from pliant.inference.jobs import Progress
from pliant.inference.salient import Found, SalientStream
from pliant.video import Reader, ResultWriter, SourceInfo
from pliant.video.encode_video import OverlayVideo
from pliant.video.heatmap import draw_heatmap

__all__ = ["salient_to_folder"]

# Above these values maps are drawn in the brightest colour: rates reach 2 and more, modulations end at 1.
_BRIGHTEST = {"dilation": 2.0, "modulation": 1.0}


def salient_to_folder(
    frames: Reader,
    out: str | Path,
    network: nn.Module,
    *,
    threshold: float = 0.5,
    keep_largest: int | None = None,
    smallest: float = 0.0005,
    soft: bool = False,
    show: Sequence[str] = (),
    overwrite: bool = False,
    resume: bool = False,
    overlay: bool = True,
    alpha: str | None = None,
    about: dict[str, Any] | None = None,
    on_frame: Callable[[Progress], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Find salient objects in an opened source and write everything under ``out``; returns the summary.

    soft: also ``soft/<frame name>.png``, the probability in 0 .. 255. show: "dilation" and "modulation",
    written as ``<name>.mp4`` over the frames. threshold, keep_largest, smallest as in ``salient``;
    overwrite, resume, overlay, alpha as in ``ResultWriter``; about: plain values for the summary, which
    also decide whether a run may be resumed; options: of ``SalientStream``. Raises ``OutputError`` as
    ``ResultWriter``.
    """
    objects = ConnectedObjects(smallest=smallest, keep_largest=keep_largest)
    stream = SalientStream(network, show=show, **options)
    decisive = {"threshold": threshold, "keep_largest": keep_largest, "smallest": smallest, **options}
    settings = {"task": "salient", **(about or {}), **decisive}
    writer = ResultWriter(
        out, frames.info, overwrite=overwrite, resume=resume, overlay=overlay, alpha=alpha, settings=settings
    )
    with writer:
        if writer.finished:
            return writer.finish()
        extras = _Extras(Path(out), frames.info, soft, alpha is not None, show)
        try:
            fresh, seconds = _run(frames, stream, objects, writer, extras, threshold, on_frame)
            extras.finish()
        finally:
            extras.close()
        summary = {
            "pliant": pliant.__version__,
            **settings,
            "seconds": round(seconds, 3),
            "frames_per_second": round(fresh / max(seconds, 1e-9), 2),
            "warnings": list(frames.warnings),
        }
        return writer.finish(summary)


def _run(
    frames: Reader,
    stream: SalientStream,
    objects: ConnectedObjects,
    writer: ResultWriter,
    extras: _Extras,
    threshold: float,
    on_frame: Callable[[Progress], None] | None,
) -> tuple[int, float]:
    """The loop over the frames; returns how many no earlier run had done, and the seconds spent on them."""
    done, fresh, started = writer.done, 0, time.perf_counter()
    first = 0 if extras.needs_all else stream.first_needed(done)
    waiting: deque = deque()

    def take(probabilities: list[np.ndarray]) -> None:
        for probability in probabilities:
            count, frame = waiting.popleft()
            extras.write_maps(frame, stream.maps.pop(count - first, {}))
            if count < done:
                continue
            found = Found(frame, probability, objects.label(probability > threshold))
            writer.write(frame, found.labels, extras.planes(found), confidence=found.confidence)
            extras.write_soft(found)
            if on_frame:
                speed = (count + 1 - done) / max(time.perf_counter() - started, 1e-9)
                on_frame(Progress(count + 1, frames.info.frame_count, speed))

    for count, frame in enumerate(frames):
        with interrupted_only_after():  # a frame's files belong together
            if count < done:
                objects.observe(writer.replay(frame))
                started = time.perf_counter()
            else:
                fresh += 1
            if count >= first:
                waiting.append((count, frame))
                take(stream.push(frame.image))
    with interrupted_only_after():
        take(stream.finish())
    return fresh, time.perf_counter() - started


class _Extras:
    """What a job writes beside the files of ``ResultWriter``: soft masks, and videos of the maps."""

    def __init__(self, out: Path, info: SourceInfo, soft: bool, alpha: bool, show: Sequence[str]) -> None:
        self._alpha = alpha
        self.needs_all = bool(show)  # a video is written whole
        self._soft = out / "soft" if soft else None
        if self._soft:
            self._soft.mkdir(exist_ok=True)
        self._videos = {name: OverlayVideo(out / f"{name}.mp4", info) for name in show}

    def planes(self, found: Found) -> dict[int, np.ndarray] | None:
        """Soft edges of each object, where a video with transparency wants them."""
        if not self._alpha:
            return None
        return {i: found.probability * (found.labels == i) for i in found.confidence}

    def write_soft(self, found: Found) -> None:
        if self._soft:
            partial = self._soft / f".{found.frame.name}.part"
            Image.fromarray(np.round(255 * found.probability).astype(np.uint8)).save(partial, "PNG")
            partial.replace(self._soft / f"{found.frame.name}.png")

    def write_maps(self, frame: Any, maps: dict[str, np.ndarray]) -> None:
        for name, video in self._videos.items():
            drawn = draw_heatmap(frame.image, maps[name], 0.0, _BRIGHTEST[name])
            video.write(drawn, frame.time_seconds)

    def finish(self) -> None:
        for video in self._videos.values():
            video.finish()
        self._videos = {}

    def close(self) -> None:
        """Drops what is not finished."""
        for video in self._videos.values():
            video.discard()
