"""A video file, a camera or a stream as a source, through PyAV (FFmpeg)."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from pliant.errors import SourceError
from pliant.video.frame import Frame, SourceInfo

__all__ = ["VideoSource"]

_MOST_WARNINGS = 20


class VideoSource:
    """Frames of the first video stream in a container.

    Every packet of the stream must come out as a picture. One that does not, because the decoder dropped it
    or raised, is given as a damaged frame in its place with the last good picture: no count or time shifts.
    """

    def __init__(
        self,
        source: str,
        address: str,
        *,
        container_format: str | None,
        is_stream: bool,
        start: int,
        timeout_seconds: float,
    ) -> None:
        self._source = source
        self._start = start
        self.warnings: list[str] = []
        self._container = self._open(address, container_format, timeout_seconds if is_stream else None)
        try:
            self._stream = self._video_stream()
            self._frames = self._decoded()
            self._first = next(self._frames, None)
            if self._first is None:
                raise SourceError(f"no frame of {source} can be decoded{self._why()}.")
            self.info = self._known(is_stream)
        except BaseException:
            self._container.close()
            raise

    def __iter__(self) -> Iterator[Frame]:
        """Frames in the order of their times, from the start index on."""
        info, last_time, image, index = self.info, -1.0, None, 0
        first, self._first = self._first, None
        for picture, pts, damaged in self._chained(first):
            time = self._seconds(pts, index, last_time)
            last_time = time
            if picture is not None and index >= self._start:
                image = self._rgb(picture)
            elif picture is not None:
                image = picture  # passed over: turned into pixels only if a damaged frame needs it
            if index >= self._start:
                if not isinstance(image, np.ndarray):
                    image = self._rgb(image)
                yield Frame(image, time, f"{index:05d}", index, damaged)
            index += 1
        self._note_missing_end(index, last_time, info)

    def close(self) -> None:
        """Closes the file or stream."""
        self._container.close()

    def _open(self, address: str, container_format: str | None, timeout: float | None) -> Any:
        try:
            return av.open(address, format=container_format, timeout=timeout, metadata_errors="ignore")
        except av.error.FFmpegError as error:
            raise SourceError(_why_not_opened(self._source, address, error, timeout)) from error
        except (OSError, ValueError) as error:
            raise SourceError(f"{self._source} cannot be opened: {error}.") from error

    def _video_stream(self) -> Any:
        streams = [s for s in self._container.streams.video if not s.disposition & _COVER_PICTURE]
        if not streams:
            kinds = sorted({stream.type for stream in self._container.streams})
            raise SourceError(f"{self._source} has no video in it, only {', '.join(kinds) or 'nothing'}.")
        stream = streams[0]
        if stream.codec_context is None:
            raise SourceError(f"the video in {self._source} has a coding that this FFmpeg cannot decode.")
        stream.thread_type = "AUTO"
        return stream

    def _known(self, is_stream: bool) -> SourceInfo:
        stream, (picture, pts, _) = self._stream, self._first
        turned = picture.rotation % 180 != 0
        width, height = (picture.height, picture.width) if turned else (picture.width, picture.height)
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        count, exact = stream.frames or None, bool(stream.frames)
        if count is None and not is_stream and rate:
            seconds = float(stream.duration * stream.time_base) if stream.duration else None
            if seconds is None and self._container.duration:
                seconds = self._container.duration / av.time_base
            count = max(1, round(seconds * rate)) if seconds else None
        pixel = stream.sample_aspect_ratio
        begin = self._container.start_time
        return SourceInfo(
            source=self._source,
            kind="stream" if is_stream else "video",
            width=width,
            height=height,
            frame_rate=float(rate) if rate else None,
            frame_count=None if is_stream else count,
            frame_count_is_exact=exact and not is_stream,
            has_audio=bool(self._container.streams.audio),
            codec=stream.codec_context.name,
            pixel_aspect=(1 / pixel if turned else pixel) if pixel and pixel != 1 else None,
            start_seconds=begin / av.time_base if begin is not None else float((pts or 0) * stream.time_base),
        )

    def _chained(self, first: tuple | None) -> Iterator[tuple[Any, int | None, bool]]:
        if first is not None:
            yield first
        yield from self._frames

    def _decoded(self) -> Iterator[tuple[Any, int | None, bool]]:
        """(picture, time stamp, damaged) in the order of time; no picture: None, and damaged."""
        waiting: list[int] = []  # time stamps of packets whose picture is not yet out, a heap
        lost: set[int] = set()  # given as damaged; the picture may still come, out of order and late
        last_pts, begun = None, False
        # In VP8 a packet may rightly give no picture, as it only serves others: there only errors count.
        hidden_packets = self._stream.codec_context.name in ("vp8", "libvpx")
        for packet in self._packets():
            expected = packet is not None and packet.size and not packet.is_discard
            if expected and packet.pts is not None and not hidden_packets:
                heapq.heappush(waiting, packet.pts)
            try:
                pictures = self._stream.decode(packet)
            except av.error.FFmpegError as error:
                self._warn(f"{self._source}: a frame {self._place(packet)} is damaged: {_reason(error)}.")
                if expected and packet.pts is None and begun:
                    yield None, None, True
                elif expected and hidden_packets:
                    heapq.heappush(waiting, packet.pts)
                continue
            for picture in pictures:
                if picture.pts in lost:
                    continue
                missing = 0
                while waiting and picture.pts is not None and waiting[0] <= picture.pts:
                    pts = heapq.heappop(waiting)
                    if pts in (last_pts, picture.pts):
                        continue
                    last_pts = pts
                    missing += 1
                    if begun:
                        lost.add(pts)
                        yield None, pts, True
                if missing and not begun:
                    self._warn(
                        f"the first {missing} frame(s) of {self._source} cannot be decoded and were left "
                        "out: it does not begin with a whole picture."
                    )
                begun, last_pts = True, picture.pts
                yield picture, picture.pts, picture.is_corrupt
        if begun:
            for pts in sorted(set(waiting) - {last_pts}):
                yield None, pts, True

    def _packets(self) -> Iterator[Any]:
        """Packets of the video stream; where reading breaks off, a warning, then None for the rest."""
        try:
            yield from self._container.demux(self._stream)
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            self._warn(f"{self._source} breaks off: {_reason(error)}.")
            yield None

    def _rgb(self, picture: Any) -> np.ndarray:
        """[H, W, 3] uint8, turned upright, transparent parts on black, all of one size."""
        info, quarter_turns = self.info, round(picture.rotation / 90) % 4
        size = (info.height, info.width) if quarter_turns % 2 else (info.width, info.height)
        if (picture.width, picture.height) != size:
            self._warn(
                f"the frames of {self._source} change their size to {picture.width} x {picture.height}; "
                f"they were brought back to {size[0]} x {size[1]}."
            )
            picture = picture.reformat(*size)
        if any(component.is_alpha for component in picture.format.components):
            pixels = picture.to_ndarray(format="rgba")
            alpha = pixels[..., 3:].astype(np.uint16)
            image = ((pixels[..., :3] * alpha + 127) // 255).astype(np.uint8)
        else:
            image = picture.to_ndarray(format="rgb24")
        return np.ascontiguousarray(np.rot90(image, quarter_turns)) if quarter_turns else image

    def _seconds(self, pts: int | None, index: int, last: float) -> float:
        """Time from the beginning of the file; strictly growing, also where stamps are missing or go back."""
        step = 1 / self.info.frame_rate if self.info.frame_rate else 0.04
        if pts is None:
            return last + step if last >= 0 else index * step
        time = float(pts * self._stream.time_base) - self.info.start_seconds
        return time if time > last else last + min(step, 1e-3)

    def _note_missing_end(self, count: int, last_time: float, info: SourceInfo) -> None:
        if not info.frame_count_is_exact or count >= 0.95 * info.frame_count:
            return
        duration = float((self._stream.duration or 0) * self._stream.time_base)
        if last_time < 0.9 * duration:
            self._warn(
                f"{self._source} ends after {count} of {info.frame_count} frames: it was cut off or damaged."
            )

    def _place(self, packet: Any) -> str:
        if packet is None or not packet.size:
            return "at its end"
        if packet.pts is None:
            return "at an unknown time"
        return f"near {float(packet.pts * packet.time_base):.2f} s"

    def _why(self) -> str:
        return f" ({self.warnings[0].rstrip('.')})" if self.warnings else ""

    def _warn(self, message: str) -> None:
        if message not in self.warnings and len(self.warnings) < _MOST_WARNINGS:
            self.warnings.append(message)


_COVER_PICTURE = av.stream.Disposition.attached_pic


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).rstrip(".")


def _why_not_opened(source: str, address: str, error: Exception, timeout: float | None) -> str:
    if isinstance(error, (av.error.ExitError, av.error.TimeoutError)):
        return f"{source} sent nothing for {timeout:g} seconds."
    if isinstance(error, av.error.InvalidDataError):
        try:
            with open(address, "rb") as file:
                begin = file.read(12)
        except OSError:
            begin = b"?"
        if not begin:
            return f"the file {source} is empty."
        if begin[4:8] == b"ftyp":  # MP4, MOV: the index comes last and is what a broken recording lacks
            return f"the video {source} has no index: its recording was cut off or is still going on."
        return f"{source} is not a video that FFmpeg knows, or is damaged at its beginning."
    return f"{source} cannot be opened: {_reason(error)}."
