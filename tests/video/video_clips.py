"""Small clips that the tests encode themselves: every container and oddity that people bring."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SIZE = (96, 128)


def picture(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Frame ``index``: a soft background and a bright square that moves 2 pixels a frame, [H, W, 3] uint8."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    image = np.stack((60 + 60 * x / width, 60 + 60 * y / height, np.full(size, 90)), axis=2)
    image[square(index, size)] = (220, 60, 40)
    return image.astype(np.uint8)


def square(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Where the square of `picture` is, bool [H, W]."""
    height, width = size
    mask = np.zeros(size, bool)
    left = 8 + 2 * index % max(1, width - 48)
    mask[height // 4 : height // 4 + height // 3, left : left + 32] = True
    return mask


def encode(
    path: Path,
    *,
    frames: int = 20,
    size: tuple[int, int] = SIZE,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rate: int | Fraction = 25,
    times: list[float] | None = None,
    rotation: int = 0,
    alpha: bool = False,
    audio: bool = False,
    container: str | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Writes ``frames`` pictures as a video, with what is asked for; a tone of the same length as sound."""
    with av.open(str(path), "w", format=container, options=container_options or {}) as out:
        video = out.add_stream(codec, rate=rate, options=options or {})
        video.height, video.width = size
        video.pix_fmt = pixels
        video.codec_context.gop_size = 5
        if rotation:
            video.set_display_rotation(rotation)
        if times is not None:
            video.codec_context.time_base = Fraction(1, 1000)
        sound = out.add_stream("aac", rate=16000, layout="mono") if audio else None
        for index in range(frames):
            image = picture(index, size)
            if alpha:
                image = np.concatenate((image, np.uint8(255) * square(index, size)[..., None]), axis=2)
            frame = av.VideoFrame.from_ndarray(image, format="rgba" if alpha else "rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[index] * 1000), Fraction(1, 1000)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        if sound is not None:
            _tone(out, sound, frames / float(rate))
    return path


def _tone(out: av.container.OutputContainer, sound: av.AudioStream, seconds: float) -> None:
    for begin in range(0, int(seconds * 16000), 1024):
        wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(begin, begin + 1024) / 16000)
        frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, begin, Fraction(1, 16000)
        out.mux(sound.encode(frame))
    out.mux(sound.encode())


def overwrite_packet(path: Path, number: int) -> None:
    """Fills one video packet of a file with noise."""
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    position, size = packets[number]
    data = bytearray(path.read_bytes())
    begin, end = position + 4, position + size  # four bytes of length stay
    data[begin:end] = np.random.default_rng(0).integers(0, 256, end - begin, dtype=np.uint8).tobytes()
    path.write_bytes(data)


def found_square(image: np.ndarray) -> np.ndarray:
    """Where a decoded picture shows the square, bool [H, W]."""
    return (image[..., 0].astype(int) - image[..., 1]) > 90
