"""The results of one video under one folder: masks, overlay, transparency, numbers, contact sheet."""

from __future__ import annotations

import errno
import json
import os
import queue
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pliant.errors import OutputError, PliantError
from pliant.video import rle
from pliant.video.contact_sheet import ContactSheet
from pliant.video.draw import draw_overlay
from pliant.video.encode_video import ALPHA_CODINGS, AlphaVideo, OverlayVideo
from pliant.video.frame import Frame, SourceInfo
from pliant.video.journal import Journal
from pliant.video.masks import write_mask

__all__ = ["ResultWriter"]

_JOURNAL = ".journal.jsonl"
_SOFT = ".soft"  # transparency of finished frames, kept until the run ends
_RESULTS = ("summary.json", "results.json", "overlay.mp4", "contact_sheet.png", "masks", "alpha", _JOURNAL)
_WAITING_FRAMES = 4


class ResultWriter:
    """Writes what was found in a video, a frame at a time, in a thread of its own.

    Under ``out``: ``masks/<frame name>.png`` (indices, DAVIS palette), ``overlay.mp4``,
    ``alpha/object_<id>.webm`` or ``.mov``, ``results.json`` (YouTube-VIS: run-length codes),
    ``summary.json``, ``contact_sheet.png``. Every file gets its name when it is whole. A run that was broken
    off keeps its masks and a journal; with ``resume`` the first ``done`` frames are given to `replay` instead
    of `write`, and all ends as without the break.

    Args:
        out: the folder; made where it is missing.
        info: of the source.
        overwrite: replace results that are there.
        resume: continue a run that was broken off.
        overlay: write ``overlay.mp4``.
        alpha: ``"vp9"`` or ``"prores"``: also a video with transparency for each object.
        objects: id -> name, for people. More may be put into the attribute of that name later.
        settings: whatever changes the result; a run is continued only with equal ones.

    Attributes:
        done: number of frames that an earlier run has finished.
        finished: the earlier run was complete; there is nothing to do.

    Raises:
        OutputError: before any work: the folder holds results, cannot be written, or the disk has too little
            room; later: what went wrong with which frame.

    Example:
        >>> with read("clip.mp4") as frames, ResultWriter("out", frames.info) as results:   # doctest: +SKIP
        ...     for frame in frames:
        ...         results.write(frame, find_objects(frame.image))
        ...     results.finish({"model": "mine"})
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        info: SourceInfo,
        *,
        overwrite: bool = False,
        resume: bool = False,
        overlay: bool = True,
        alpha: str | None = None,
        objects: Mapping[int, str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if alpha is not None and alpha not in ALPHA_CODINGS:
            raise ValueError(f"alpha is one of {', '.join(ALPHA_CODINGS)} or None; got {alpha!r}.")
        self.out, self.info = Path(out), info
        self.objects: dict[int, str] = dict(objects or {})
        self.done, self.finished = 0, False
        self._alpha = alpha
        self._given_frames = 0
        self._closed = False
        self._prepare(overwrite, resume)
        if self.finished:
            return
        _check_room(self.out, info, overlay, alpha, len(self.objects))
        header = {"source": info.source, "size": list(info.size), "alpha": alpha, **(settings or {})}
        self._journal = Journal(self.out / _JOURNAL, header, resume=resume)
        self._recall()
        self._sheet = ContactSheet()
        self._known: set[int] = set()  # ids seen so far
        self._overlay = OverlayVideo(self.out / "overlay.mp4", info) if overlay else None
        self._alpha_videos: dict[int, AlphaVideo] = {}
        self._queue: queue.Queue[tuple | None] = queue.Queue(_WAITING_FRAMES)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="pliant-write", daemon=True)
        self._thread.start()

    def write(
        self,
        frame: Frame,
        labels: np.ndarray,
        probabilities: Mapping[int, np.ndarray] | None = None,
        *,
        given: bool = False,
        confidence: Mapping[int, float] | None = None,
        lost: Sequence[int] | None = None,
    ) -> None:
        """Takes the next frame; returns at once unless writing falls behind. The arrays may not change later.

        Args:
            frame: as it was read.
            labels: [H, W] uint8, 0 is background.
            probabilities: id -> [H, W], 0..1: soft edges for the videos with transparency.
            given: a person marked this frame.
            confidence: id -> 0..1.
            lost: ids that are not seen here; default: those seen before that have no pixel.
        """
        if labels.shape != self.info.size or labels.dtype != np.uint8:
            raise ValueError(
                f"labels are [H, W] = {list(self.info.size)} uint8; got {labels.dtype} of shape "
                f"{list(labels.shape)}."
            )
        if self._given_frames < self.done:
            raise ValueError(f"{self.done} frames are finished already: give them to replay first.")
        record = {
            "index": frame.index,
            "name": frame.name,
            "time": frame.time_seconds,
            "damaged": frame.damaged,
            "given": given,
        }
        if confidence is not None:
            record["confidence"] = {int(k): round(float(v), 4) for k, v in confidence.items()}
        if lost is not None:
            record["lost"] = sorted(int(identity) for identity in lost)
        soft = dict(probabilities) if probabilities is not None and self._alpha else None
        self._put((frame, labels, soft, record, True))

    def replay(self, frame: Frame) -> np.ndarray:
        """Takes a frame that an earlier run has finished, for overlay and contact sheet; returns its labels.

        Raises:
            OutputError: the frame is not the one that was finished.
        """
        if self._given_frames >= self.done:
            raise ValueError(f"only {self.done} frames are finished.")
        record = self._past[self._given_frames]
        if (record["index"], record["name"]) != (frame.index, frame.name):
            raise OutputError(
                f"frame {frame.name} of {self.info.source} was frame {record['name']} in the run that is "
                f"continued in {self.out}; use --overwrite to begin anew."
            )
        with Image.open(self._mask_path(frame.name)) as image:
            labels = np.array(image)
        self._put((frame, labels, self._stored_soft(frame.name), record, False))
        return labels

    def finish(self, summary: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Completes all files and ends the run.

        Args:
            summary: what shall be in ``summary.json`` beside what is known here (frames, objects with
                confidence and lost spans, files).

        Returns:
            What ``summary.json`` holds.
        """
        if self.finished:
            return json.loads((self.out / "summary.json").read_text(encoding="utf-8"))
        self._join()
        self._raise_error()
        try:
            return self._complete(dict(summary or {}))
        except Exception as error:
            raise self._explained(error, "the results") from error

    def __enter__(self) -> ResultWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends without finishing: half files go, masks and journal stay. Safe after `finish`."""
        if self.finished or self._closed:
            return
        self._closed = True
        self._join()
        for video in (self._overlay, *self._alpha_videos.values()):
            if video is not None:
                video.discard()
        self._journal.close()

    # What happens before the first frame

    def _prepare(self, overwrite: bool, resume: bool) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise OutputError(f"{self.out} is a file; results need a folder.")
        there = [name for name in _RESULTS if (self.out / name).exists()]
        if resume and not overwrite:
            self.finished = "summary.json" in there and _JOURNAL not in there
            if self.finished:
                self.done = int(json.loads((self.out / "summary.json").read_text(encoding="utf-8"))["frames"])
                return
        elif there and not overwrite:
            if _JOURNAL in there:
                raise OutputError(
                    f"{self.out} holds an unfinished run; use --resume to continue it, --overwrite to "
                    "begin anew, or another folder."
                )
            raise OutputError(
                f"{self.out} already holds results ({', '.join(there[:3])}); use --overwrite to replace "
                "them, or another folder."
            )
        try:
            (self.out / "masks").mkdir(parents=True, exist_ok=True)
            probe = self.out / ".probe.part"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            reason = error.strerror or error
            raise OutputError(
                f"the folder {self.out} cannot be written: {reason}; choose another one."
            ) from error
        if overwrite or not resume or _JOURNAL not in there:
            self._clear()
        halves = [self.out / f".{name}.part" for name in _RESULTS] + [self.out / ".overlay.part.mp4"]
        for half in (*halves, *self.out.glob("masks/.*.part"), *self.out.glob("alpha/.object_*.part.*")):
            half.unlink(missing_ok=True)

    def _clear(self) -> None:
        """Removes results of an earlier run, and nothing else."""
        for name in _RESULTS:
            path = self.out / name
            if not path.is_dir():
                path.unlink(missing_ok=True)
        for pattern in ("masks/*.png", "alpha/object_*.webm", "alpha/object_*.mov"):
            for path in self.out.glob(pattern):
                path.unlink()
        shutil.rmtree(self.out / _SOFT, ignore_errors=True)

    def _recall(self) -> None:
        """Finds how far an earlier run came: journal lines whose masks are there."""
        self._past = self._journal.records()
        whole = next(
            (n for n, record in enumerate(self._past) if not self._mask_path(record["name"]).exists()),
            len(self._past),
        )
        if whole < len(self._past):
            self._journal.truncate(whole)
            self._past = self._past[:whole]
        self.done = whole

    # What the thread does

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._process(*item)
                except BaseException as error:  # raised in the caller's next call
                    self._error = self._explained(error, f"frame {item[0].name}")

    def _process(self, frame: Frame, labels: np.ndarray, soft: dict | None, record: dict, new: bool) -> None:
        if new:
            ids = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
            codes = rle.encode_objects(labels, [int(identity) for identity in ids if identity])
            record["masks"] = {identity: code["counts"] for identity, code in codes.items()}
            if soft:
                self._store_soft(frame.name, soft)
            write_mask(self._mask_path(frame.name), labels)
        if self._overlay is not None:
            self._overlay.write(draw_overlay(frame.image, labels), frame.time_seconds)
        if self._alpha is not None:
            self._write_alpha(frame, labels, soft or {})
        present = {int(identity) for identity in record["masks"]}
        self._sheet.add(
            frame.index,
            frame.time_seconds,
            frame.image,
            labels,
            given=record["given"],
            confidence={int(k): v for k, v in record.get("confidence", {}).items()},
            lost=record.get("lost", sorted(self._known - present)),
        )
        self._known |= present
        if new:
            self._journal.append(record)

    def _write_alpha(self, frame: Frame, labels: np.ndarray, soft: dict[int, np.ndarray]) -> None:
        ids = {*self.objects, *soft, *(int(i) for i in np.unique(labels) if i)}
        for identity in sorted(ids):
            if identity not in self._alpha_videos:
                (self.out / "alpha").mkdir(exist_ok=True)
                path = self.out / "alpha" / f"object_{identity}{ALPHA_CODINGS[self._alpha][0]}"
                self._alpha_videos[identity] = AlphaVideo(path, self.info, self._alpha)
            alpha = soft.get(identity, labels == identity)
            self._alpha_videos[identity].write(frame.image, np.asarray(alpha), frame.time_seconds)

    def _store_soft(self, name: str, soft: dict[int, np.ndarray]) -> None:
        folder = self.out / _SOFT / name
        folder.mkdir(parents=True, exist_ok=True)
        for identity, values in soft.items():
            # Eight bits are what the videos hold; both now and on a replay they get the same.
            grey = np.round(255 * np.asarray(values, np.float32)).astype(np.uint8)
            Image.fromarray(grey).save(folder / f"{identity}.png", compress_level=1)
            soft[identity] = grey / np.float32(255)

    def _stored_soft(self, name: str) -> dict[int, np.ndarray] | None:
        if self._alpha is None:
            return None
        soft = {}
        for path in (self.out / _SOFT / name).glob("*.png"):
            with Image.open(path) as image:
                soft[int(path.stem)] = np.asarray(image) / np.float32(255)
        return soft

    def _put(self, item: tuple) -> None:
        if self.finished or self._closed:
            raise ValueError("this run has ended; nothing can be written any more.")
        self._raise_error()
        self._given_frames += 1
        self._queue.put(item)

    def _join(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _explained(self, error: BaseException, what: str) -> BaseException:
        cause = error.__cause__ if isinstance(error, OutputError) else error
        if getattr(cause, "errno", None) == errno.ENOSPC:
            return OutputError(
                f"the disk of {self.out} is full: {what} could not be written; free some space and continue "
                "with --resume."
            )
        if isinstance(error, PliantError) or not isinstance(error, OSError):
            return error
        return OutputError(f"{what} could not be written to {self.out}: {error.strerror or error}.")

    def _mask_path(self, name: str) -> Path:
        return self.out / "masks" / f"{name}.png"

    # What happens after the last frame

    def _complete(self, summary: dict[str, Any]) -> dict[str, Any]:
        records = self._journal.records()
        files = ["masks", "results.json", "summary.json"]
        if self._overlay is not None and records:
            self._overlay.finish()
            files.insert(1, "overlay.mp4")
        elif self._overlay is not None:
            self._overlay.discard()
        for video in self._alpha_videos.values():
            files.append(video.finish().relative_to(self.out).as_posix())
        ids = sorted({*self.objects, *(int(identity) for record in records for identity in record["masks"])})
        seen = {identity: _seen(identity, records) for identity in ids}
        means = {identity: _mean_confidence(identity, records) for identity in ids}
        if records:
            size = f"{self.info.width} x {self.info.height}"
            title = f"{Path(self.info.source).name}   {size}   {len(records)} frames"
            shown = {identity: mean for identity, mean in means.items() if mean is not None}
            sheet = self._sheet.draw(title=title, objects=self.objects, seen=seen, confidence=shown)
            self._replace("contact_sheet.png", lambda path: Image.fromarray(sheet).save(path, "PNG"))
            files.append("contact_sheet.png")
        self._write_json("results.json", _youtube_vis(ids, means, records, self.info.size))
        summary = {
            "source": self.info.source,
            "width": self.info.width,
            "height": self.info.height,
            "frames": len(records),
            "damaged_frames": [record["index"] for record in records if record["damaged"]],
            "given_frames": [record["index"] for record in records if record["given"]],
            "objects": {
                str(identity): {
                    "name": self.objects.get(identity, ""),
                    "frames_seen": int(np.sum(seen[identity])),
                    "mean_confidence": means[identity],
                    "lost": _lost_spans(seen[identity], [record["index"] for record in records]),
                }
                for identity in ids
            },
            "files": files,
            **summary,
        }
        self._write_json("summary.json", summary)
        shutil.rmtree(self.out / _SOFT, ignore_errors=True)
        self._journal.remove()
        self.finished = True
        return summary

    def _write_json(self, name: str, data: Any) -> None:
        text = json.dumps(data, indent=2 if name == "summary.json" else None)
        self._replace(name, lambda path: path.write_text(text + "\n", encoding="utf-8"))

    def _replace(self, name: str, write: Any) -> None:
        temporary = self.out / f".{name}.part"
        write(temporary)
        os.replace(temporary, self.out / name)


def _check_room(out: Path, info: SourceInfo, overlay: bool, alpha: str | None, objects: int) -> None:
    """A rough guess of what the results take, from files that were measured; refuses what cannot fit."""
    per_pixel = (
        0.02 + (0.15 if overlay else 0) + {None: 0, "vp9": 0.05, "prores": 0.9}[alpha] * max(1, objects)
    )
    frames = info.frame_count if info.frame_count is not None else 250
    needed = int(info.width * info.height * frames * per_pixel)
    free = shutil.disk_usage(out).free
    if free < needed:
        raise OutputError(
            f"the disk of {out} has {free / 1e6:.0f} MB free and the results of {frames} frames of "
            f"{info.width} x {info.height} take about {needed / 1e6:.0f} MB; free some "
            "space or choose another folder."
        )


def _seen(identity: int, records: list[dict]) -> list[bool]:
    """For every frame, whether the object is there: it has pixels and is not said to be lost."""
    key = str(identity)
    return [key in record["masks"] and identity not in record.get("lost", ()) for record in records]


def _mean_confidence(identity: int, records: list[dict]) -> float | None:
    values = [r["confidence"][str(identity)] for r in records if str(identity) in r.get("confidence", {})]
    return round(float(np.mean(values)), 4) if values else None


def _lost_spans(seen: list[bool], indices: list[int]) -> list[list[int]]:
    """[first, last] frame index of every stretch without the object after it was first seen."""
    if True not in seen:
        return [[indices[0], indices[-1]]] if indices else []
    begin = seen.index(True)
    gone = np.concatenate(([False], ~np.asarray(seen[begin:], bool), [False]))
    edges = np.flatnonzero(gone[1:] != gone[:-1]) + begin
    return [[indices[first], indices[end - 1]] for first, end in zip(edges[::2], edges[1::2])]


def _youtube_vis(ids: list[int], means: Mapping, records: list[dict], size: tuple[int, int]) -> list[dict]:
    results = []
    for identity in ids:
        counts = [record["masks"].get(str(identity)) for record in records]
        codes = [None if text is None else {"size": list(size), "counts": text} for text in counts]
        score = means[identity] if means[identity] is not None else 1.0
        results.append(
            {"video_id": 1, "id": identity, "category_id": 1, "score": score, "segmentations": codes}
        )
    return results
