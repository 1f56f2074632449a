"""Frames out of a video file, a folder of images, a camera or a stream, decoded ahead in a thread."""

from __future__ import annotations

import glob
import os
import queue
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pliant.errors import SourceError
from pliant.video.frame import Frame, SourceInfo

__all__ = ["Reader", "read"]

_ADDRESS = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_LIVE = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt", "mms")
_AHEAD_BYTES = 64 * 2**20


def read(
    source: str | os.PathLike[str],
    *,
    start: int | None = None,
    frame_rate: float | None = None,
    ahead: int | None = None,
    live: bool | None = None,
    timeout_seconds: float = 10.0,
) -> Reader:
    """Opens a source and decodes it ahead, a few frames at a time, while they are iterated over.

    Args:
        source: a file that FFmpeg reads; a folder of images or a pattern such as ``shots/*.jpg``, in
            natural order; an address (``rtsp://``, ``http://``, ``tcp://``); ``camera:0``; ``-`` for standard
            input.
        start: index of the first frame to give; those before are passed over. Default 0.
        frame_rate: frames a second of images; default 24. Not for other sources, which know theirs.
        ahead: how many frames may wait; default 8, fewer for large ones.
        live: give the newest frames and drop what waits when the caller is slow. Default: for cameras and for
            addresses that cannot wait (rtsp, rtmp, rtp, udp, srt), not for others.
        timeout_seconds: how long a stream may be silent.

    Returns:
        A `Reader`: iterate over it once, close it or use it as a context manager.

    Raises:
        SourceError: there is no such source, or nothing in it can be decoded.

    Example:
        >>> with read("clip.mp4") as frames:          # doctest: +SKIP
        ...     for frame in frames:
        ...         print(frame.name, frame.time_seconds, frame.image.shape)
    """
    source = os.fspath(source)
    if start is not None and start < 0:
        raise ValueError(f"start is the index of a frame, at least 0; got {start}.")
    backend: Any
    files = _image_files(source)
    if files is not None:
        from pliant.video.read_images import ImageSource

        backend, live = ImageSource(source, files, start=start or 0, frame_rate=frame_rate or 24.0), False
    else:
        from pliant.video.read_video import VideoSource

        if frame_rate is not None:
            raise ValueError("frame_rate is for images; a video or stream has its own.")
        address, container_format, is_stream = _address(source)
        if live is None:
            live = container_format is not None or address.split(":", 1)[0].lower() in _LIVE
        backend = VideoSource(
            source,
            address,
            container_format=container_format,
            is_stream=is_stream,
            start=start or 0,
            timeout_seconds=timeout_seconds,
        )
    if ahead is None:
        ahead = max(2, min(8, _AHEAD_BYTES // (backend.info.width * backend.info.height * 3)))
    return Reader(backend, ahead=ahead, live=bool(live))


class Reader:
    """An iterator over the frames of one source, once, and what is known about it.

    Attributes:
        info: size, rate, number of frames and the like, before the first frame is taken.
        warnings: what was noticed while decoding, one sentence each; grows while reading.
        damaged: number of damaged frames given so far.
        dropped: number of frames of a live source that came too fast and were not given.
    """

    def __init__(self, backend: Any, *, ahead: int, live: bool) -> None:
        self.info: SourceInfo = backend.info
        self.warnings: list[str] = backend.warnings
        self.damaged = 0
        self.dropped = 0
        self._backend = backend
        self._live = live
        self._queue: queue.Queue[Frame | BaseException | None] = queue.Queue(max(1, ahead))
        self._closing = threading.Event()
        self._finished = False
        self._thread: threading.Thread | None = None

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        if self._finished:
            raise StopIteration
        if self._thread is None:
            self._thread = threading.Thread(target=self._decode, name="pliant-decode", daemon=True)
            self._thread.start()
        item = self._queue.get()
        if isinstance(item, Frame):
            self.damaged += item.damaged
            return item
        self.close()
        if isinstance(item, BaseException):
            raise item
        raise StopIteration

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends decoding and closes the source. Safe to call twice."""
        self._finished = True
        self._closing.set()
        if self._thread is not None:
            while self._thread.is_alive():  # room in the queue lets a waiting thread see that it is over
                try:
                    self._queue.get_nowait()
                except queue.Empty:
                    self._thread.join(timeout=0.05)
        self._backend.close()

    def _decode(self) -> None:
        end: BaseException | None = None
        try:
            for frame in self._backend:
                if self._closing.is_set():
                    return
                self._put(frame)
        except BaseException as error:  # handed to the caller, where it belongs
            end = error
        if not self._closing.is_set():
            self._queue.put(end)

    def _put(self, frame: Frame) -> None:
        while self._live:
            try:
                self._queue.put_nowait(frame)
                return
            except queue.Full:
                try:
                    self._queue.get_nowait()
                    self.dropped += 1
                except queue.Empty:
                    continue
        self._queue.put(frame)


def _image_files(source: str) -> list[Path] | None:
    """The image files that a folder or pattern means, in natural order; None for what is neither."""
    from pliant.video.masks import IMAGE_SUFFIXES, natural_key

    if _ADDRESS.match(source):
        return None
    path = Path(source)
    if path.is_dir():
        found = [
            p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
        ]
        if not found:
            inside = sorted(p.name for p in path.iterdir())
            raise SourceError(
                f"the folder {source} has no images ({', '.join(IMAGE_SUFFIXES)}); it holds "
                f"{', '.join(inside[:5]) or 'nothing'}{', ...' if len(inside) > 5 else ''}."
            )
    elif not path.exists() and any(sign in source for sign in "*?["):
        found = [Path(name) for name in glob.glob(source, recursive=True) if os.path.isfile(name)]
        if not found:
            raise SourceError(f"no file matches {source}.")
        if len(found) == 1 and found[0].suffix.lower() not in IMAGE_SUFFIXES:
            raise SourceError(f"the pattern {source} means the single file {found[0]}; give it by its name.")
    else:
        return None
    found.sort(key=lambda p: natural_key(str(p)))
    stems: dict[str, Path] = {}
    for file in found:
        if file.stem in stems:
            raise SourceError(
                f"{stems[file.stem]} and {file} would be frames of one name; give a pattern that takes one "
                f"kind, such as {file.with_name('*' + file.suffix)}."
            )
        stems[file.stem] = file
    return found


def _address(source: str) -> tuple[str, str | None, bool]:
    """(what FFmpeg opens, its input format where that must be said, whether it is a stream)."""
    if source == "-":
        return "pipe:0", None, True
    camera = re.fullmatch(r"camera:(.+)", source)
    if camera:
        if sys.platform.startswith("linux"):
            device = camera[1] if camera[1].startswith("/") else f"/dev/video{camera[1]}"
            return (
                _existing(device, f"there is no camera {camera[1]}: {device} does not exist."),
                "v4l2",
                True,
            )
        if sys.platform == "darwin":
            return camera[1], "avfoundation", True
        return f"video={camera[1]}", "dshow", True
    if source.startswith("/dev/video"):
        return _existing(source, f"there is no camera {source}."), "v4l2", True
    if _ADDRESS.match(source) and not source.lower().startswith("file://"):
        return source, None, True
    path = source[7:] if source.lower().startswith("file://") else source
    return _existing(path, f"there is no video, folder or pattern {source}."), None, False


def _existing(path: str, complaint: str) -> str:
    if not os.path.exists(path):
        raise SourceError(complaint)
    return path
