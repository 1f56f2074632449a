"""Connected regions of a foreground as objects whose ids stay the same over time."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

__all__ = ["ConnectedObjects"]

_LAST_ID = 255


@dataclass(slots=True)
class _Object:
    """Where an object was seen last: its mask, middle (x, y), motion a frame, and frames since then."""

    mask: np.ndarray
    middle: np.ndarray
    motion: np.ndarray
    unseen: int = 0


class ConnectedObjects:
    """Gives the connected regions of a mask numbers that stay with them from frame to frame.

    A region takes the id of the object that it overlaps most where that object is expected, moved on as
    before; of a near one where none overlaps. Where two objects touch, the region is shared out among them,
    each pixel to the nearer one. An object that is gone keeps its id for ``memory`` frames. Ids run from 1
    in order of appearance, larger regions first; there are at most 255, after which regions that are new
    stay background.

    smallest: share of the frame below which a region is dropped. keep_largest: at most so many regions a
    frame. memory: frames. The state depends on nothing but the labels returned so far: ``observe`` rebuilds
    it from them.
    """

    def __init__(self, *, smallest: float = 0.0005, keep_largest: int | None = None, memory: int = 12) -> None:
        if keep_largest is not None and keep_largest < 1:
            raise ValueError(f"keep_largest must be 1 or more, got {keep_largest}")
        if not 0 <= smallest < 1:
            raise ValueError(f"smallest is a share of the frame in [0, 1), got {smallest}")
        self.smallest, self.keep_largest, self.memory = smallest, keep_largest, memory
        self._objects: dict[int, _Object] = {}
        self._ids_given = 0

    def label(self, mask: np.ndarray) -> np.ndarray:
        """Labels [H, W] uint8 of a mask [H, W] bool, 0 where it is background."""
        regions = self._regions(mask)
        expected = {identity: _moved(thing) for identity, thing in self._objects.items()}
        chosen = self._match(regions, expected)
        labels = np.zeros(mask.shape, np.uint8)
        for region, identity in zip(regions, chosen):
            if identity is None:
                continue
            touching = [other for other in expected if self._joins(other, region, expected, chosen)]
            if len(touching) > 0 and identity in expected:
                labels[region] = _nearest(region, {i: expected[i] for i in (identity, *touching)})[region]
            else:
                labels[region] = identity
        self.observe(labels)
        return labels

    def observe(self, labels: np.ndarray) -> None:
        """Take labels of the next frame as what was found in it."""
        present = [int(i) for i in np.flatnonzero(np.bincount(labels.ravel(), minlength=256)) if i]
        for identity in present:
            mask = labels == identity
            middle = _middle(mask)
            old = self._objects.get(identity)
            motion = np.zeros(2)
            if old is not None:
                motion = 0.5 * old.motion + 0.5 * (middle - old.middle) / (old.unseen + 1)
            self._objects[identity] = _Object(mask, middle, motion)
            self._ids_given = max(self._ids_given, identity)
        for identity in list(self._objects):
            if identity not in present:
                self._objects[identity].unseen += 1
                if self._objects[identity].unseen > self.memory:
                    del self._objects[identity]

    def _regions(self, mask: np.ndarray) -> list[np.ndarray]:
        """Regions [H, W] bool, largest first; those closer than a hundredth of the frame's side are one."""
        gap = max(1, round(0.01 * min(mask.shape)))
        joined = cv2.dilate(mask.astype(np.uint8), np.ones((gap, gap), np.uint8))
        count, numbers = cv2.connectedComponents(joined)
        numbers[~mask] = 0
        areas = np.bincount(numbers.ravel(), minlength=count)
        order = [i for i in np.argsort(-areas[1:], kind="stable") + 1 if areas[i] > 0]
        kept = [i for i in order if areas[i] >= self.smallest * mask.size][: self.keep_largest]
        return [numbers == i for i in kept]

    def _match(self, regions: list[np.ndarray], expected: dict[int, np.ndarray]) -> list[int | None]:
        """The id of each region: the best total overlap with what is expected, nearness second; new ids
        last.
        """
        known = list(expected)
        scores = np.zeros((len(regions), len(known)))
        for row, region in enumerate(regions):
            for column, identity in enumerate(known):
                scores[row, column] = _likeness(region, expected[identity])
        chosen: list[int | None] = [None] * len(regions)
        for row, column in zip(*linear_sum_assignment(-scores)):
            if scores[row, column] > 0:
                chosen[row] = known[column]
        for row in range(len(regions)):
            if chosen[row] is None and self._ids_given < _LAST_ID:
                self._ids_given += 1
                chosen[row] = self._ids_given
        return chosen

    def _joins(self, other: int, region: np.ndarray, expected: dict[int, np.ndarray], chosen: list[int | None]) -> bool:
        """Whether an object that was seen a frame ago and has no region of its own lies in this one."""
        if other in chosen or self._objects[other].unseen:
            return False
        area = expected[other].sum()
        return area > 0 and (expected[other] & region).sum() > 0.5 * area


def _middle(mask: np.ndarray) -> np.ndarray:
    moments = cv2.moments(mask.astype(np.uint8), binaryImage=True)
    return np.array([moments["m10"], moments["m01"]]) / moments["m00"]


def _moved(thing: _Object) -> np.ndarray:
    """The mask where it is expected now."""
    x, y = thing.motion * (thing.unseen + 1)
    height, width = thing.mask.shape
    shift = np.float32([[1, 0, x], [0, 1, y]])
    return cv2.warpAffine(thing.mask.astype(np.uint8), shift, (width, height), flags=cv2.INTER_NEAREST) > 0


def _likeness(region: np.ndarray, expected: np.ndarray) -> float:
    """Intersection over union where they overlap; at most 0.05, falling to 0 within their own size, where not.

    No more than that for any overlap: the best total must not give a large region to a speck that it swallowed and its
    own id to a speck that it lost.
    """
    overlap = np.count_nonzero(region & expected)
    area, other = np.count_nonzero(region), np.count_nonzero(expected)
    if overlap:
        return overlap / (area + other - overlap)
    if not other or not 0.25 < area / other < 4:
        return 0.0
    distance = float(np.hypot(*(_middle(region) - _middle(expected))))
    return 0.05 * max(0.0, 1 - distance / (1.5 * np.sqrt(max(area, other))))


def _nearest(region: np.ndarray, objects: dict[int, np.ndarray]) -> np.ndarray:
    """For each pixel of ``region`` the id whose mask is nearest, [H, W] uint8."""
    ids = np.array(list(objects), np.uint8)
    distances = [cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3) for mask in objects.values()]
    return np.where(region, ids[np.argmin(distances, axis=0)], 0).astype(np.uint8)
