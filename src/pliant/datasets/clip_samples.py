"""Short training clips cut out of real annotated ones: frames, crops, flips and light drawn by a seed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pliant.datasets.clip import Clip
from pliant.errors import DatasetError

__all__ = ["ClipSamples", "hold_back"]


@dataclass(frozen=True)
class ClipSamples:
    """Samples by index, the same for ever for a seed.

    clips: with at least two annotated frames each. size: rows, columns. length: frames. max_gap: largest distance in
    annotated frames between neighbours of a sample. max_objects: objects kept of the first frame, others become
    background.
    """

    clips: tuple[Clip, ...]
    seed: int = 0
    size: tuple[int, int] = (256, 256)
    length: int = 3
    max_gap: int = 5
    max_objects: int = 2

    def __post_init__(self) -> None:
        if not any(len(clip.annotated) > 1 for clip in self.clips):
            raise DatasetError("no clip has two annotated frames: there is nothing to learn to follow from.")

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, int]:
        """(frames [T, H, W, 3] uint8 RGB, labels [T, H, W] uint8, number of objects) of sample ``index``.

        Raises ``DatasetError`` where 50 draws show no object.
        """
        for attempt in range(50):
            rng = np.random.default_rng([self.seed, index, attempt, 1])
            sample = self._draw(rng)
            if sample is not None:
                return sample
        raise DatasetError("50 samples in a row showed no object: are the masks empty?")

    def _draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int] | None:
        usable = [clip for clip in self.clips if len(clip.annotated) > 1]
        clip = usable[rng.integers(len(usable))]
        annotated = clip.annotated
        gap = int(rng.integers(1, self.max_gap + 1))
        places = np.cumsum([0, *rng.integers(1, gap + 1, self.length - 1)])
        places = places + rng.integers(max(1, len(annotated) - places[-1]))
        chosen = [annotated[min(int(place), len(annotated) - 1)] for place in places]
        if rng.random() < 0.5:
            chosen = chosen[::-1]
        images, labels = [clip.frame(i) for i in chosen], [clip.labels(i) for i in chosen]
        box = _crop(rng, labels[0])
        flip, gain, offset = rng.random() < 0.5, rng.uniform(0.85, 1.15, 3), rng.uniform(-12, 12)
        frames = np.stack([_fit(image, box, self.size, cv2.INTER_AREA, flip) for image in images])
        frames = np.clip(frames * gain + offset, 0, 255).astype(np.uint8)
        masks = np.stack([_fit(label, box, self.size, cv2.INTER_NEAREST, flip) for label in labels])
        ids, counts = np.unique(masks[0], return_counts=True)
        ids = ids[(ids > 0) & (ids < 254) & (counts >= 0.001 * masks[0].size)]
        if not len(ids):
            return None
        kept = rng.permutation(ids)[: self.max_objects]
        table = np.zeros(256, np.uint8)
        table[kept] = np.arange(1, len(kept) + 1)
        return frames, table[masks], len(kept)


def hold_back(clips: list[Clip]) -> tuple[list[Clip], list[Clip]]:
    """(to learn from, to measure on): a fifth of the clips, at least one; of a single clip its last quarter."""
    if len(clips) > 1:
        count = max(1, len(clips) // 5)
        return clips[:-count], clips[-count:]
    (clip,) = clips
    cut = max(2, len(clip) - max(4, len(clip) // 4))

    def part(span: slice, name: str) -> Clip:
        return Clip(name, clip.frames[span], clip.annotations[span], clip.ids, clip.categories, clip.read)

    return [part(slice(None, cut), clip.name)], [part(slice(cut, None), f"{clip.name} (end)")]


def _crop(rng: np.random.Generator, labels: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, rows and columns of a crop that holds a pixel of an object where there is one."""
    height, width = labels.shape
    share = rng.uniform(0.45, 1.0)
    side = max(16, int(min(height, width) * share))
    rows = columns = min(side, height, width)
    inside = np.argwhere((labels > 0) & (labels < 254))
    y, x = inside[rng.integers(len(inside))] if len(inside) else (height // 2, width // 2)
    top = int(np.clip(y - rng.integers(rows), 0, height - rows))
    left = int(np.clip(x - rng.integers(columns), 0, width - columns))
    return top, left, rows, columns


def _fit(image: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, int], how: int, flip: bool) -> np.ndarray:
    top, left, rows, columns = box
    part = cv2.resize(image[top : top + rows, left : left + columns], size[::-1], interpolation=how)
    return part[:, ::-1] if flip else part
