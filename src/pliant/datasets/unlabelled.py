"""Pairs of frames from video without labels: any folder of clips, decoded once, cut into shots, drawn by
index.

``Footage`` finds videos and image sequences and keeps their frames small in a cache;
``FramePairs`` draws pairs of neighbouring frames from them. No mask is ever read: a folder beside the images
stays unopened unless its own images form a sequence of their own.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pliant import video
from pliant.errors import DatasetError, SourceError

__all__ = ["Footage", "FramePairs", "default_cache", "find_shots", "find_sources"]

_VIDEOS = {".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv"}
_MASKS = {"annotations", "labels", "masks"}
_IMAGES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_THUMBNAIL = (32, 18)  # columns and rows on which cuts are looked for
# JPEG in the cache, colours at full resolution: they are what is learnt from.
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
_FORMAT = 1  # of the cache; another number makes it anew


def default_cache() -> Path:
    """Where decoded frames are kept: ``pliant/frames`` below the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pliant" / "frames"


def find_sources(paths: Iterable[str | Path]) -> list[Path]:
    """The clips in files and folders: video files, and folders (at any depth) that hold at least two images, sorted.

    Folders of masks are not followed: those named Annotations, labels or masks, in any case, and hidden ones.
    Raises DatasetError where a path does not exist or holds no clip.
    """
    sources = []
    for path in map(Path, paths):
        if path.is_file():
            sources.append(path)
            continue
        if not path.is_dir():
            raise DatasetError(f"{path}: no such file or folder; expected a video or a folder of clips.")
        found = _clips_below(path)
        if not found:
            raise DatasetError(f"{path} holds no video file and no folder with at least two images.")
        sources += found
    return sorted(set(sources))


def _clips_below(folder: Path) -> list[Path]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name.lower() not in _MASKS and name[0] != ".")
        suffixes = [Path(name).suffix.lower() for name in files]
        found += [Path(place, name) for name, suffix in zip(files, suffixes) if suffix in _VIDEOS]
        if sum(suffix in _IMAGES for suffix in suffixes) >= 2:
            found.append(Path(place))
    return found


def find_shots(thumbnails: np.ndarray) -> list[tuple[int, int]]:
    """First and last + 1 frame of every shot, by sudden changes of both picture and colours.

    thumbnails: [T, h, w, 3] uint8. A cut is where the mean difference exceeds 15 of 255 and more than 18 % of
    the pixels change their colour bin (of 4 x 4 x 4). Frames of 23 real clips, some shaking and fast, reach
    21 and 11 %; of two unrelated frames 98 in 100 exceed 38 and 31 %. A flash becomes a shot of its own.
    """
    count = len(thumbnails)
    if count < 2:
        return [(0, count)] if count else []
    pictures = thumbnails.astype(np.int16)
    change = np.abs(np.diff(pictures, axis=0)).mean((1, 2, 3))  # [T - 1], of frame t + 1 against t
    bins = (thumbnails >> 6) @ np.array([16, 4, 1], np.uint8)
    counts = np.stack([np.bincount(frame.ravel(), minlength=64) for frame in bins])
    moved = np.abs(np.diff(counts, axis=0)).sum(1) / (2 * bins[0].size)
    cuts = np.flatnonzero((change > 15) & (moved > 0.18)) + 1
    edges = [0, *cuts.tolist(), count]
    return list(itertools.pairwise(edges))


@dataclass(frozen=True)
class _Clip:
    """One cached source: the JPEG codes of its frames, one after the other in one file."""

    data: Path
    ends: np.ndarray  # of each frame's code
    shots: list[tuple[int, int]]

    def frame(self, index: int) -> np.ndarray:
        start = self.ends[index - 1] if index else 0
        code = np.fromfile(self.data, np.uint8, count=self.ends[index] - start, offset=start)
        return cv2.cvtColor(cv2.imdecode(code, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


class Footage:
    """All clips in some files and folders, their frames at ``short_side``, decoded once into ``cache``.

    paths: see ``find_sources``. short_side: pixels of the shorter side of the kept frames (smaller ones stay).
    report: called with (clips done, clips in all, name of the next) while decoding.
    A file that cannot be read is left out with a warning; raises DatasetError if no pair of frames remains.
    """

    def __init__(
        self,
        paths: Iterable[str | Path],
        short_side: int = 288,
        cache: str | Path | None = None,
        report: Callable[[int, int, str], None] | None = None,
    ) -> None:
        self._clips: list[_Clip] = []
        sources = find_sources(paths)
        for number, source in enumerate(sources):
            if report is not None:
                report(number, len(sources), source.name)
            try:
                self._clips.append(_cached(source, short_side, Path(cache or default_cache())))
            except SourceError as error:
                logging.getLogger(__name__).warning("%s (left out)", error)
        self.shots = [
            (clip, first, last)
            for clip, entry in enumerate(self._clips)
            for first, last in entry.shots
            if last - first >= 2
        ]
        if not self.shots:
            raise DatasetError(f"no two frames of one shot in {len(sources)} clips (first: {sources[0]}).")

    def __repr__(self) -> str:
        frames = sum(len(clip.ends) for clip in self._clips)
        parts = f"{len(self._clips)} clips, {len(self.shots)} shots, {frames} frames"
        return f"Footage({parts})"

    def frame(self, clip: int, index: int) -> np.ndarray:
        """Frame ``index`` of clip ``clip``: [H, W, 3] uint8 RGB."""
        return self._clips[clip].frame(index)


def _cached(source: Path, short_side: int, cache: Path) -> _Clip:
    name = f"{source.stem[:40]}-{_fingerprint(source, short_side)}"
    data, index = cache / f"{name}.jpegs", cache / f"{name}.json"
    if not (data.is_file() and index.is_file()):
        _decode(source, short_side, data, index)
    entry = json.loads(index.read_text())
    return _Clip(data, np.asarray(entry["ends"], np.int64), [tuple(shot) for shot in entry["shots"]])


def _fingerprint(source: Path, short_side: int) -> str:
    files = [source]
    if source.is_dir():
        files = sorted(path for path in source.iterdir() if path.suffix.lower() in _IMAGES)
    facts = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    text = json.dumps([_FORMAT, short_side, str(source.resolve()), facts])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _decode(source: Path, short_side: int, data: Path, index: Path) -> None:
    """Write the frames of ``source`` to ``data`` and what is known of them to ``index``, which marks them
    complete.
    """
    ends, thumbnails = [], []
    data.parent.mkdir(parents=True, exist_ok=True)
    temporary = data.with_suffix(f".{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for image in _small_frames(source, short_side):
                bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
                file.write(cv2.imencode(".jpg", bgr, _JPEG)[1].tobytes())
                ends.append(file.tell())
                thumbnails.append(cv2.resize(image, _THUMBNAIL, interpolation=cv2.INTER_AREA))
        if not ends:
            raise SourceError(f"{source} has no frames.")
        temporary.replace(data)
        temporary.write_text(json.dumps({"ends": ends, "shots": find_shots(np.stack(thumbnails))}))
        temporary.replace(index)
    finally:
        temporary.unlink(missing_ok=True)


def _small_frames(source: Path, short_side: int) -> Iterator[np.ndarray]:
    size: tuple[int, int] | None = None  # columns, rows, of the first frame and so of all
    for frame in video.read(source):
        if size is None:
            scale = min(1.0, short_side / min(frame.image.shape[:2]))
            size = (round(frame.image.shape[1] * scale), round(frame.image.shape[0] * scale))
        yield cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)


class FramePairs:
    """Pairs of frames of one shot, drawn with a random generator: the same generator gives the same pair.

    frames: where from; a shot is drawn in proportion to its frames. size: side of the square crops, the same
    for both frames. max_gap: largest distance in frames; neighbours for the first third of the training, then
    1 to max_gap apart.
    """

    def __init__(self, frames: Footage, size: int = 256, max_gap: int = 3) -> None:
        self.frames, self.size, self.max_gap = frames, size, max_gap
        lengths = np.array([last - first for _, first, last in frames.shots], np.float64)
        self._share = lengths.cumsum() / lengths.sum()

    def draw(self, random: np.random.Generator, progress: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Target and reference, uint8 [size, size, 3] RGB; progress: 0..1 of the training.

        A pair whose mean difference is below 0.5 of 255 teaches nothing and is drawn again, up to eight
        times.
        """
        largest = 1 if progress < 1 / 3 else self.max_gap
        for _ in range(8):
            target, reference = self._pair(random, largest)
            if np.abs(target.astype(np.int16) - reference).mean() >= 0.5:
                break
        return target, reference

    def _pair(self, random: np.random.Generator, largest: int) -> tuple[np.ndarray, np.ndarray]:
        shot = np.searchsorted(self._share[:-1], random.random(), side="right")
        clip, first, last = self.frames.shots[shot]
        gap = min(int(random.integers(1, largest + 1)), last - 1 - first)
        start = int(random.integers(first, last - gap))
        pair = [self.frames.frame(clip, start + gap), self.frames.frame(clip, start)]
        if random.random() < 0.5:
            pair.reverse()  # in reversed time things enter where they left
        place, flip = random.random(2), random.random() < 0.5
        return tuple(_crop(image, self.size, place, flip) for image in pair)


def _crop(image: np.ndarray, size: int, place: np.ndarray, flip: bool) -> np.ndarray:
    """A square of ``size`` at ``place`` (0..1 of the room there is); an image with a side below it is
    enlarged.
    """
    height, width = image.shape[:2]
    if min(height, width) < size:
        scale = size / min(height, width)
        width, height = max(size, round(width * scale)), max(size, round(height * scale))
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    top, left = (int(part * (side - size + 1)) for part, side in zip(place, (height, width)))
    image = image[top : top + size, left : left + size]
    return np.ascontiguousarray(image[:, ::-1] if flip else image)
