"""Frames into video files: one with the source's timing and sound, or one with transparency."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from pliant.errors import OutputError
from pliant.video.frame import SourceInfo

__all__ = ["ALPHA_CODINGS", "AlphaVideo", "OverlayVideo"]

_CLOCK = Fraction(1, 90_000)  # divides the usual frame rates, 1001 ones too, and is what MPEG uses
# Sound that may lie in an MP4 file as it is; other sound is coded again as AAC.
_AUDIO_KEPT = ("aac", "mp3", "ac3", "eac3", "opus", "alac", "flac")

# name -> (suffix, encoder, pixels, options): the two ways in which editing programs take transparency
ALPHA_CODINGS = {
    "vp9": (
        ".webm",
        "libvpx-vp9",
        "yuva420p",
        {"deadline": "realtime", "cpu-used": "8", "crf": "24", "b": "0"},
    ),
    "prores": (".mov", "prores_ks", "yuva444p10le", {"profile": "4444"}),
}


class _Video:
    """A video file that exists under a temporary name until `finish`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.stem}.part{path.suffix}")
        self._container: Any = None
        self._stream: Any = None

    def _open(self, info: SourceInfo, encoder: str, pixels: str, options: dict[str, str]) -> None:
        try:
            self._container = av.open(str(self._temporary), "w", metadata_errors="ignore")
            rate = Fraction(info.frame_rate or 25).limit_denominator(1001)
            stream = self._container.add_stream(encoder, rate=rate, options=options)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise OutputError(f"the video {self._path} cannot be written: {error}.") from error
        # Coding in half resolution of colour wants even sizes; the last row or column is repeated.
        stream.width, stream.height = info.width + info.width % 2, info.height + info.height % 2
        stream.pix_fmt = pixels
        stream.codec_context.time_base = _CLOCK
        stream.codec_context.colorspace = stream.codec_context.color_primaries = 1  # BT.709
        stream.codec_context.color_trc = stream.codec_context.color_range = 1
        if info.pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = info.pixel_aspect
        self._stream = stream

    def _write(self, image: np.ndarray, seconds: float) -> None:
        height, width = image.shape[:2]
        if height % 2 or width % 2:
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        frame = av.VideoFrame.from_ndarray(image, format="rgba" if image.shape[2] == 4 else "rgb24")
        frame = frame.reformat(
            format=self._stream.pix_fmt, dst_colorspace=1, dst_color_range=1, interpolation="FAST_BILINEAR"
        )
        frame.pts, frame.time_base = round(seconds / _CLOCK), _CLOCK
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> Path:
        """Writes what is held back, closes the file and gives it its name."""
        self._container.mux(self._stream.encode())
        self._container.close()
        self._container = None
        os.replace(self._temporary, self._path)
        return self._path

    def discard(self) -> None:
        """Closes and removes the unfinished file."""
        if self._container is not None:
            # A full disk also stops the closing; what counts is that the file goes.
            with contextlib.suppress(av.error.FFmpegError, OSError):
                self._container.close()
            self._container = None
        self._temporary.unlink(missing_ok=True)


class OverlayVideo(_Video):
    """H.264 in MP4 with the frames' own times and the sound of the source.

    Args:
        path: where the finished file shall lie.
        info: of the source; its size, rate and sound.
    """

    def __init__(self, path: Path, info: SourceInfo) -> None:
        super().__init__(path)
        # The fastest preset: people look at this file once, and the processor has better to do.
        self._open(info, "libx264", "yuv420p", {"preset": "ultrafast", "crf": "23"})
        self._sound = _Sound(info, self._container) if info.has_audio and info.kind == "video" else None
        self._step = 1 / (info.frame_rate or 25)
        self._end = 0.0

    def write(self, image: np.ndarray, seconds: float) -> None:
        """Appends [H, W, 3] uint8 RGB at a time later than the last, and the sound up to it."""
        self._write(image, seconds)
        self._end = seconds + self._step
        if self._sound is not None:
            self._sound.write_until(seconds)

    def finish(self) -> Path:
        """As in the base, with the sound of the last frame."""
        if self._sound is not None:
            self._sound.write_until(self._end)
            self._sound.close()
        return super().finish()

    def discard(self) -> None:
        """As in the base; closes the source of the sound."""
        if self._sound is not None:
            self._sound.close()
        super().discard()


class AlphaVideo(_Video):
    """One object on transparency, as VP9 in WebM or ProRes 4444 in MOV.

    Args:
        path: where the finished file shall lie, with the suffix of the coding.
        info: of the source.
        coding: ``"vp9"`` or ``"prores"``.
    """

    def __init__(self, path: Path, info: SourceInfo, coding: str) -> None:
        super().__init__(path)
        _, encoder, pixels, options = ALPHA_CODINGS[coding]
        self._open(info, encoder, pixels, dict(options))
        self._empty = np.zeros((info.height, info.width, 4), np.uint8)
        self._begun = False

    def write(self, image: np.ndarray, alpha: np.ndarray, seconds: float) -> None:
        """Appends [H, W, 3] uint8 RGB with alpha [H, W], bool or 0..1, at a time later than the last."""
        if not self._begun and seconds > 0:
            self._write(self._empty, 0.0)  # an object that comes later: nothing until then
        self._begun = True
        opacity = np.uint8(255) * alpha if alpha.dtype == np.bool_ else np.round(255 * alpha).astype(np.uint8)
        self._write(np.dstack((image, opacity)), seconds)


class _Sound:
    """The first audio stream of the source, copied into another container as the pictures go on."""

    def __init__(self, info: SourceInfo, target: Any) -> None:
        source = info.source[7:] if info.source.lower().startswith("file://") else info.source
        self._source = av.open(source, metadata_errors="ignore")
        self._target = target
        self._begin = info.start_seconds
        stream = self._source.streams.audio[0]
        self._copied = stream.codec_context.name in _AUDIO_KEPT
        if self._copied:
            self._stream = target.add_stream_from_template(stream)
        else:
            self._stream = target.add_stream("aac", rate=stream.codec_context.sample_rate)
        self._waiting = self._pieces(stream)
        self._next = next(self._waiting, None)

    def write_until(self, seconds: float) -> None:
        """Copies what is heard before a time."""
        while self._next is not None and self._next[0] < seconds:
            packets = self._next[1]
            self._target.mux(packets if self._copied else self._stream.encode(packets))
            self._next = next(self._waiting, None)

    def close(self) -> None:
        """Ends the sound and closes its source."""
        if not self._copied:
            self._target.mux(self._stream.encode())
        self._source.close()

    def _pieces(self, stream: Any) -> Iterator[tuple[float, Any]]:
        """(time, packet or decoded frame), shifted so that the source begins at 0."""
        offset = round(self._begin / stream.time_base)
        try:
            for packet in self._source.demux(stream):
                if self._copied and packet.pts is not None and packet.size:
                    packet.pts -= offset
                    packet.dts = packet.dts - offset if packet.dts is not None else None
                    packet.stream = self._stream
                    yield float(packet.pts * stream.time_base), packet
                elif not self._copied:
                    for frame in packet.decode():
                        frame.pts -= offset
                        yield float(frame.pts * frame.time_base), frame
        except av.error.FFmpegError:
            return  # damaged sound ends early; the pictures matter
