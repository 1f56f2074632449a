"""Photographs and film with what an image-saliency network sees in them, shown by a camera that moves.

Where nothing moves on its own, what a person would point at is decided by looks. No annotated picture teaches that
here: U2-NetP (Apache-2.0) does, once for every picture of a pack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from pliant.datasets.footage_look import compress, expose, light, wander
from pliant.datasets.pictures import PictureStore

__all__ = ["SalientPictures", "write_saliency"]

_SIDE = 160  # of a stored map


def write_saliency(store: PictureStore, network: Callable[[np.ndarray], np.ndarray], file: str | Path) -> Path:
    """Maps of all photographs [N, 160, 160] and runs of film [M, 4, 160, 160], uint8, into ``file`` (.npz).

    network: image [H, W, 3] uint8 RGB -> map in [0, 1] (``SaliencyNetwork``). An existing file is kept.
    """
    file = Path(file)
    if file.is_file():
        return file

    def seen(image: np.ndarray) -> np.ndarray:
        small = cv2.resize(network(np.ascontiguousarray(image)), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        return np.round(255 * small.clip(0, 1)).astype(np.uint8)

    photos = [seen(store.get("photos", i)) for i in range(store.count("photos"))]
    films = [[seen(frame) for frame in store.get("films", i)] for i in range(store.count("films"))]
    partial = file.with_name(file.name + ".partial")
    with partial.open("wb") as out:
        np.savez(
            out,
            photos=np.array(photos, np.uint8).reshape(-1, _SIDE, _SIDE),
            films=np.array(films, np.uint8).reshape(-1, 4, _SIDE, _SIDE),
        )
    partial.replace(file)
    return file


@dataclass(frozen=True)
class SalientPictures:
    """Clips by index, the same for ever for a seed: frames [T, H, W, 3] uint8 and saliency [T, H, W] in [0, 1].

    saliency: a file of ``write_saliency``. Half of the clips are photographs before a moving camera, half runs of
    film, to and fro where the clip is longer than the run. Pictures in which nothing is clear are left out.
    """

    store: PictureStore
    saliency: Path
    seed: int = 0
    size: tuple[int, int] = (256, 256)
    length: int = 4
    speed: float = 1.0

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.seed, index])
        kind = "films" if len(self._clear["films"]) and rng.random() < 0.5 else "photos"
        chosen = int(self._clear[kind][rng.integers(len(self._clear[kind]))])
        picture, seen = self.store.get(kind, chosen), self._maps[kind][chosen]
        if kind == "photos":
            pictures, maps = [picture] * self.length, [seen] * self.length
            pace = self.speed * float(np.exp(rng.uniform(np.log(0.05), np.log(0.8))))
        else:
            order = np.abs((np.arange(self.length) + rng.integers(6) + 3) % 6 - 3)  # 0 1 2 3 2 1 0 ...
            pictures, maps = [picture[i] for i in order], [seen[i] for i in order]
            pace = 0.3 * self.speed * rng.random() * (rng.random() < 0.5)
        return self._filmed(pictures, maps, pace, rng)

    def _filmed(
        self, pictures: list[np.ndarray], maps: list[np.ndarray], pace: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        height, width = self.size
        rows, columns = pictures[0].shape[:2]
        weight = maps[0].astype(np.float64)
        middle = np.array([weight.sum(0) @ np.arange(_SIDE), weight.sum(1) @ np.arange(_SIDE)]) / weight.sum()
        middle = (middle + 0.5) / _SIDE * [columns, rows]
        zoom = max(height / rows, width / columns) * float(np.exp(rng.uniform(0.0, 0.5)))
        shift = wander(rng, self.length, 0.04 * pace * width, (2,))
        angle = rng.normal(0, 0.05) + wander(rng, self.length, 0.02 * pace)
        scale = zoom * np.exp(wander(rng, self.length, 0.02 * pace))
        place = rng.uniform(0.3, 0.7, 2) * [width, height]  # where the salient thing is to be
        reach = np.array([width, height]) / (2 * zoom)
        centre = middle - (place - np.array([width, height]) / 2) / zoom
        centre = np.clip(centre, reach, np.maximum(reach, np.array([columns, rows]) - reach))
        flip = -1.0 if rng.random() < 0.5 else 1.0
        exposure, sharpness = light(rng, self.length), rng.uniform(0, 1)
        frames = np.empty((self.length, *self.size, 3), np.uint8)
        saliency = np.empty((self.length, *self.size), np.float32)
        whole = np.diag([columns / _SIDE, rows / _SIDE, 1.0])  # from a map to its picture
        for t, (picture, seen) in enumerate(zip(pictures, maps)):
            cosine, sine = np.cos(angle[t]) * scale[t], np.sin(angle[t]) * scale[t]
            turn = np.array([[cosine * flip, -sine], [sine * flip, cosine]])
            matrix = np.column_stack([turn, np.array([width, height]) / 2 + shift[t] - turn @ centre])
            image = cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
            frames[t] = expose(image.astype(np.float32), exposure[t], rng, sharpness)
            found = cv2.warpAffine(seen, (matrix @ whole), (width, height), borderMode=cv2.BORDER_REFLECT_101)
            saliency[t] = found.astype(np.float32) / 255
        compress(frames, rng)
        return frames, saliency

    @cached_property
    def _maps(self) -> dict[str, np.ndarray]:
        with np.load(self.saliency) as maps:
            return {kind: maps[kind] for kind in ("photos", "films")}

    @cached_property
    def _clear(self) -> dict[str, np.ndarray]:
        """Pictures in which something is salient beyond doubt: 1 to 60 % of it, little undecided."""
        return {kind: np.flatnonzero([_is_clear(seen) for seen in maps]) for kind, maps in self._maps.items()}


def _is_clear(seen: np.ndarray) -> bool:
    share, undecided = (seen > 128).mean(), ((seen > 50) & (seen < 205)).mean()
    return bool(seen.max() > 220 and 0.01 < share < 0.6 and undecided < 0.5 * share)
