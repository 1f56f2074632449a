"""Crops of a pack's photographs and film frames, at any scale: pictures to imitate a network on, without masks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pliant.datasets.pictures import PictureStore

__all__ = ["Crops"]


@dataclass(frozen=True)
class Crops:
    """Crops by index, the same for ever for a seed: [rows, columns, 3] uint8 RGB.

    One in four comes from a film where the pack holds any. A crop covers from all of a picture down to ``size`` of
    its pixels, is flipped by half, and its colours are drawn brighter, darker or to a side.
    """

    store: PictureStore
    seed: int = 0
    size: tuple[int, int] = (256, 256)

    def __getitem__(self, index: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, index])
        picture = self._picture(rng)
        rows, columns = self.size
        largest = min(picture.shape[0] / rows, picture.shape[1] / columns)
        factor = np.exp(rng.uniform(min(0.0, np.log(largest)), np.log(largest)))  # picture pixels a crop pixel
        height, width = int(rows * factor), int(columns * factor)
        top = rng.integers(picture.shape[0] - height + 1)
        left = rng.integers(picture.shape[1] - width + 1)
        crop = picture[top : top + height, left : left + width, :3]
        crop = cv2.resize(crop, (columns, rows), interpolation=cv2.INTER_AREA if factor > 1 else cv2.INTER_LINEAR)
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        light = crop * rng.normal(1, 0.12, 3) * rng.normal(1, 0.15) + rng.normal(0, 8)
        return np.clip(light, 0, 255).astype(np.uint8)

    def _picture(self, rng: np.random.Generator) -> np.ndarray:
        if self.store.count("films") and rng.random() < 0.25:
            return self.store.get("films", rng.integers(self.store.count("films")))[rng.integers(4)]
        return self.store.get("photos", rng.integers(self.store.count("photos")))
