"""Pictures packed for the generator: photographs, cut-outs and film frames in one file that workers share.

Decoding a photograph takes longer than making a clip from it, so pictures are scaled and decoded once, into a file
that every worker maps into memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from pliant.errors import DatasetError

__all__ = ["PictureStore", "pack_pictures"]

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
FILMS = {".mp4", ".mkv", ".mov", ".avi", ".webm"}


def pack_pictures(
    file: str | Path,
    *,
    photos: list[Path],
    cutouts: list[Path],
    films: list[Path],
    photo_side: int = 640,
    cutout_side: int = 256,
    film_side: int = 272,
    film_step: int = 3,
) -> Path:
    """Write ``file`` (raw pixels) and ``file`` + ".json" (shapes and places); returns ``file``.

    photos, films: folders or files; their short side becomes ``photo_side`` / ``film_side`` at most, and of films
    every ``film_step``-th run of 4 frames is kept. cutouts: folders or files with alpha, long side ``cutout_side``
    at most; each counts alike however many pictures it holds. An existing pack made from the same arguments is kept.
    Raises ``DatasetError`` where nothing is found.
    """
    file = Path(file)
    recipe = [[str(p) for p in group] for group in (photos, cutouts, films)]
    recipe += [photo_side, cutout_side, film_side, film_step]
    listing = file.with_name(file.name + ".json")
    if file.is_file() and listing.is_file() and json.loads(listing.read_text())["recipe"] == recipe:
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".partial")
    entries: dict[str, list] = {"photos": [], "cutouts": [], "films": []}
    offset = 0
    with partial.open("wb") as pack:

        def put(kind: str, image: np.ndarray, group: int = 0) -> None:
            nonlocal offset
            entries[kind].append([offset, list(image.shape), group])
            pack.write(np.ascontiguousarray(image).tobytes())
            offset += image.nbytes

        for path in _files(photos, PICTURES):
            image = _read(path, cv2.IMREAD_COLOR)
            if image is not None and min(image.shape[:2]) >= 200:
                put("photos", _shrink(image, photo_side, min))
        for group, source in enumerate(cutouts):
            for path in _files([source], PICTURES):
                image = _read(path, cv2.IMREAD_UNCHANGED)
                if image is not None and image.ndim == 3 and image.shape[2] == 4 and _is_object(image):
                    put("cutouts", _shrink(image, cutout_side, max), group)
        for path in _files(films, FILMS):
            for run in _runs(path, film_side, film_step):
                put("films", run)
    if not entries["photos"]:
        raise DatasetError(f"no photographs in {', '.join(map(str, photos)) or 'no folder'}: pass --photos FOLDER.")
    listing.write_text(json.dumps({"recipe": recipe, **entries}))
    partial.replace(file)
    return file


class PictureStore:
    """The pictures of a pack, as read-only views: ``photos`` and ``films`` RGB, ``cutouts`` RGBA, uint8."""

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        listing = json.loads(self.file.with_name(self.file.name + ".json").read_text())
        self._data = np.memmap(self.file, np.uint8, "r")
        self._entries = {kind: listing[kind] for kind in ("photos", "cutouts", "films")}
        groups: dict[int, list[int]] = {}
        for index, (_, _, group) in enumerate(self._entries["cutouts"]):
            groups.setdefault(group, []).append(index)
        self._cutout_groups = list(groups.values())

    def count(self, kind: str) -> int:
        """How many pictures of a kind ("photos", "cutouts", "films") there are."""
        return len(self._entries[kind])

    def get(self, kind: str, index: int) -> np.ndarray:
        """Photo [H, W, 3], cut-out [H, W, 4] or run of film [4, H, W, 3], uint8, RGB first."""
        offset, shape, _ = self._entries[kind][index]
        return self._data[offset : offset + int(np.prod(shape))].reshape(shape)

    def any_cutout(self, rng: np.random.Generator) -> np.ndarray:
        """A cut-out of a source chosen first, so that a folder of thousands does not drown one of hundreds."""
        group = self._cutout_groups[rng.integers(len(self._cutout_groups))]
        return self.get("cutouts", group[rng.integers(len(group))])

    def __repr__(self) -> str:
        return f"PictureStore({', '.join(f'{len(v)} {k}' for k, v in self._entries.items())})"


def _files(sources: list[Path], suffixes: set[str]) -> Iterator[Path]:
    for source in map(Path, sources):
        if not source.exists():
            raise DatasetError(f"{source}: no such file or folder.")
        found = sorted(source.rglob("*")) if source.is_dir() else [source]
        yield from (path for path in found if path.suffix.lower() in suffixes)


def _read(path: Path, flags: int) -> np.ndarray | None:
    image = cv2.imread(str(path), flags)
    if image is None or image.dtype != np.uint8:
        return None
    if image.ndim == 3 and image.shape[2] == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.ndim == 3 else None


def _shrink(image: np.ndarray, side: int, of: type(min)) -> np.ndarray:
    factor = side / of(image.shape[:2])
    if factor >= 1:
        return image
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def _is_object(image: np.ndarray) -> bool:
    """Whether a cut-out is worth pasting: big enough, neither empty nor a full rectangle, more than a few colours."""
    height, width = image.shape[:2]
    solid = image[:, :, 3] > 127
    if max(height, width) < 80 or not 0.08 <= solid.mean() <= 0.95:
        return False
    return len(np.unique((image[solid][:, :3] >> 4).astype(np.int32) @ np.array([1, 16, 256]))) >= 24


def _runs(path: Path, side: int, step: int) -> Iterator[np.ndarray]:
    """Runs of 4 frames, 3 frames apart, that hold no cut."""
    import av

    stride, length = 3, 4
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        factor = min(1.0, side / min(stream.width, stream.height))
        size = round(stream.width * factor), round(stream.height * factor)
        run: list[np.ndarray] = []
        for index, frame in enumerate(container.decode(stream)):
            if index % stride or (index // stride // length) % step:
                continue
            image = frame.reformat(*size, format="rgb24").to_ndarray()
            if run and np.abs(image.astype(np.int16) - run[-1]).mean() > 40:
                run = []
            run.append(image)
            if len(run) == length:
                yield np.stack(run)
                run = []
