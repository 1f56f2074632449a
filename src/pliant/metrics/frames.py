"""J and F of every object of a frame, from two label maps, fast."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pliant.metrics.bitmaps import Box, Packed, Window, dilate, f_measure, pack, union_box
from pliant.metrics.contours import contour_radius

__all__ = ["frame_scores", "mask_scores", "pair_scores", "present_ids"]


def frame_scores(
    prediction: np.ndarray, truth: np.ndarray, ids: Sequence[int], radius: int | None = None
) -> tuple[list[float], list[float]]:
    """J and F of each object in one frame, two lists in the order of ``ids``.

    Parameters
    ----------
    prediction, truth:
        Label maps [H, W] of integers, compared id by id.
    ids:
        The objects; an id that neither map holds scores 1 and 1.
    radius:
        As in :func:`pliant.metrics.contours.contour_accuracy`.

    Equals :func:`~pliant.metrics.regions.region_similarity` and
    :func:`~pliant.metrics.contours.contour_accuracy` of ``prediction == id`` and ``truth == id``, bit for
    bit.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction is {prediction.shape}, truth is {truth.shape}; sizes must agree")
    radius = contour_radius(*truth.shape) if radius is None else radius
    around = _around_objects(prediction, truth)
    prediction, truth = prediction[around], truth[around]
    scores = [mask_scores(prediction == number, truth == number, radius) for number in ids]
    return [j for j, _ in scores], [f for _, f in scores]


def _around_objects(prediction: np.ndarray, truth: np.ndarray) -> tuple[slice, slice]:
    """The part of two label maps that holds all objects and a margin, which cuts no boundary that the image
    does not."""
    box = union_box((pack(prediction != 0).box, pack(truth != 0).box))
    if box is None:
        return slice(0, 1), slice(0, 1)
    return slice(max(box.top - 1, 0), box.bottom + 1), slice(max(8 * box.left - 8, 0), 8 * box.right + 8)


def mask_scores(prediction: np.ndarray, truth: np.ndarray, radius: int | None = None) -> tuple[float, float]:
    """J and F of two masks [H, W] bool."""
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction is {prediction.shape}, truth is {truth.shape}; sizes must agree")
    radius = contour_radius(*truth.shape) if radius is None else radius
    packed = pack(prediction), pack(truth)
    box = union_box(mask.box for mask in packed)
    if box is None:
        return 1.0, 1.0
    window = Window(box, truth.shape, radius)
    p, t = (window.bits(mask) for mask in packed)
    j = (p & t).bit_count() / (p | t).bit_count()
    p, t = window.boundary(p), window.boundary(t)
    if p == t:  # nothing to dilate: both boundaries lie within any distance of each other
        return j, 1.0
    return j, f_measure(p, t, dilate(p, window.stride, radius), dilate(t, window.stride, radius))


def pair_scores(
    prediction: np.ndarray, truth: np.ndarray, proposals: int, objects: int, void: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """J and F of every proposal 1..``proposals`` with every object 1..``objects``, two arrays [proposals,
    objects].

    Parameters
    ----------
    prediction, truth:
        Label maps [H, W] of integers.
    void:
        [H, W] bool, pixels that are taken out of both maps first; so the edge of the void can become a
        boundary of the masks it cuts, in both.
    """
    if void is not None:
        prediction, truth = np.where(void, 0, prediction), np.where(void, 0, truth)
    radius = contour_radius(*truth.shape)
    rows = [pack(prediction == number) for number in range(1, proposals + 1)]
    columns = [pack(truth == number) for number in range(1, objects + 1)]
    box = union_box(mask.box for mask in rows + columns)
    j, f = np.ones((proposals, objects)), np.ones((proposals, objects))
    if box is None:
        return j, f
    rows = [_Outlined.of(mask, box, truth.shape, radius) for mask in rows]
    columns = [_Outlined.of(mask, box, truth.shape, radius) for mask in columns]
    for q, proposal in enumerate(rows):
        for k, target in enumerate(columns):
            j[q, k], f[q, k] = proposal.scores(target)
    return j, f


class _Outlined:
    """A mask, its boundary, the boundary dilated, as integers in a common window; how many pixels each has."""

    __slots__ = ("bits", "boundary", "contour", "near", "pixels", "reach")

    @classmethod
    def of(cls, packed: Packed, common: Box, size: tuple[int, int], radius: int) -> _Outlined:
        """``common`` is the box around all masks that will be compared."""
        self = cls()
        box = packed.box
        if box is None:
            self.bits = self.boundary = self.near = self.pixels = self.contour = 0
            self.reach = (0, 0, 0, 0)
            return self
        # Worked out in the mask's own rows, then moved to its place in the common window.
        own = Window(Box(box.top, box.bottom, common.left, common.right), size, radius)
        place = (own.top - max(common.top - 1, 0)) * own.stride
        bits = own.bits(packed)
        boundary = own.boundary(bits)
        room = radius * own.stride  # rows above that the dilation reaches
        near = dilate(boundary << room, own.stride, radius)
        self.bits, self.boundary = bits << place, boundary << place
        self.near = near << (place - room) if place >= room else near >> (room - place)
        self.pixels, self.contour = bits.bit_count(), boundary.bit_count()
        # Rows and columns that the dilated boundary can touch.
        margin = radius + 1
        self.reach = (box.top - margin, box.bottom + margin, 8 * box.left - margin, 8 * box.right + margin)
        return self

    def apart(self, other: _Outlined) -> bool:
        """Whether no pixel of one can be near one of the other."""
        (top, bottom, left, right), (top_2, bottom_2, left_2, right_2) = self.reach, other.reach
        return bottom <= top_2 or bottom_2 <= top or right <= left_2 or right_2 <= left

    def scores(self, other: _Outlined) -> tuple[float, float]:
        """J and F of this proposal with an object."""
        if not self.pixels and not other.pixels:
            return 1.0, 1.0
        if not self.contour or not other.contour or self.apart(other):
            f = 1.0 if self.contour == other.contour == 0 else 0.0
        else:
            precision = (self.boundary & other.near).bit_count() / self.contour
            recall = (other.boundary & self.near).bit_count() / other.contour
            f = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        both = 0 if self.apart(other) else (self.bits & other.bits).bit_count()
        return both / (self.pixels + other.pixels - both), f


def present_ids(labels: np.ndarray) -> list[int]:
    """The values other than 0 in a label map [H, W] uint8, rising."""
    present = np.zeros(256, bool)
    present[labels.ravel()] = True
    return [number for number in range(1, 256) if present[number]]
