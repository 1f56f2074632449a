"""Following marked objects: ``Tracker`` frame by frame, ``track`` through a whole source."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from pliant.inference.frames import Geometry, as_image, as_labels, prepare

__all__ = ["Given", "Tracked", "Tracker", "TrackerState", "given_masks", "track"]


@dataclass(slots=True)
class TrackerState:
    """Everything that changes while one stream is followed; ``copy.deepcopy`` makes an independent one."""

    ids: list[int] = field(default_factory=list)  # object k of the network is ids[k]
    geometry: Geometry | None = None
    network: Any = None  # the network's own state
    frame: int = -1  # frames seen, minus one
    since_memory: int = 0
    image: np.ndarray | None = None  # the frame seen last
    given: Tensor | None = None  # network input of that frame
    raw: Tensor | None = None  # its probabilities at the network's size [K + 1, H', W']
    probabilities: Tensor | None = None  # at the picture's size [K + 1, H, W]
    labels: np.ndarray | None = None
    confidence: dict[int, float] = field(default_factory=dict)


class Tracker:
    """Follows objects through frames that come one after another; memory has a ceiling.

    >>> tracker = pliant.Tracker(pliant.load())            # doctest: +SKIP
    >>> tracker.add_objects(first_image, first_labels)
    >>> for image in images:
    ...     labels = tracker.step(image)

    model: a tracking network (``pliant.load``); several trackers may share one. It is used in the precision and on
    the device that its weights have. size: short side in pixels at which the network looks; masks come back at the
    picture's own size. memory_every: a frame joins the memory when so many have passed.

    Images are [H, W, 3] uint8 RGB, labels [H, W] uint8 with 0 the background; arrays or tensors.
    """

    def __init__(self, model: nn.Module, *, size: int = 480, memory_every: int = 3) -> None:
        for attribute in ("start", "step", "memorize", "forget"):
            if not hasattr(model, attribute):
                raise TypeError(f"{type(model).__name__} does not follow objects: it has no {attribute}().")
        if size < 32:
            raise ValueError(f"size is the short side in pixels, at least 32, got {size}.")
        if memory_every < 1:
            raise ValueError(f"memory_every counts frames, at least 1, got {memory_every}.")
        self.model = model.eval()
        self.size, self.memory_every = size, memory_every
        parameter = next(model.parameters())
        self._dtype, self._device = parameter.dtype, parameter.device
        self.state = TrackerState()

    @property
    def objects(self) -> tuple[int, ...]:
        """Ids that are followed, in order of appearance."""
        return tuple(self.state.ids)

    @property
    def probabilities(self) -> np.ndarray | None:
        """[K + 1, H, W] float32 of the last frame, row 0 the background, then ``objects``; None before the first."""
        last = self.state.probabilities
        return None if last is None else last.float().cpu().numpy()

    @property
    def confidence(self) -> dict[int, float]:
        """Id -> mean probability over the object's pixels in the last frame; 0 where it was not found."""
        return dict(self.state.confidence)

    @property
    def lost(self) -> tuple[int, ...]:
        """Ids of which the last frame shows nothing."""
        return tuple(identity for identity, value in self.state.confidence.items() if value == 0)

    @torch.inference_mode()
    def add_objects(
        self, image: np.ndarray | Tensor, labels: np.ndarray | Tensor, *, complete: bool = False
    ) -> np.ndarray:
        """Start to follow what ``labels`` marks in ``image``, or correct what is followed; returns all labels.

        New ids join; ids already followed take the mask given here. Objects not named keep what the tracker sees
        for them in this frame, or with ``complete`` are taken to be absent. The frame is remembered for ever. A
        frame that ``step`` has just seen is not counted again. Raises ``ValueError`` for labels that mark nothing,
        or do not fit the image.
        """
        image = as_image(image)
        labels = as_labels(labels, image)
        marked = [int(i) for i in np.unique(labels) if i]
        if not marked and not (complete and self.state.ids):
            raise ValueError("the labels mark no object: every pixel is 0.")
        state = self.state
        if not state.ids:
            self._begin(image, labels, marked)
            return state.labels.copy()
        if state.image is None or state.image.shape != image.shape or not np.array_equal(state.image, image):
            self.step(image)
        new = [identity for identity in marked if identity not in state.ids]
        old = list(state.ids)
        state.ids.extend(new)
        given = state.geometry.masks(labels, state.ids, self._device)
        anything = given.amax(0)
        masks = torch.zeros_like(given)
        for k, identity in enumerate(state.ids):
            if identity in marked:
                masks[k] = given[k]
            elif not complete and k < len(old):
                masks[k] = state.raw[1 + k] * (1 - anything)
        self._accept(_distribution(masks), permanent=True)
        merged = np.where(labels > 0, labels, 0 if complete else state.labels)
        for identity in marked:  # a corrected object is exactly what was given
            merged[(state.labels == identity) & (labels != identity) & (labels == 0)] = 0
        self._settle(merged)
        return state.labels.copy()

    @torch.inference_mode()
    def step(self, image: np.ndarray | Tensor) -> np.ndarray:
        """Labels [H, W] uint8 of the next frame. Raises ``RuntimeError`` before ``add_objects``, ``ValueError`` for a
        picture of another size than the first."""
        image = as_image(image)
        state = self.state
        if not state.ids:
            raise RuntimeError("nothing to follow yet: call add_objects(image, labels) first.")
        if image.shape[:2] != (state.geometry.height, state.geometry.width):
            raise ValueError(
                f"this frame is {list(image.shape[:2])}, the first was "
                f"{[state.geometry.height, state.geometry.width]}; use a new Tracker for another size."
            )
        state.image = image
        state.given = state.geometry.image(image, self._dtype, self._device)
        state.frame += 1
        state.since_memory += 1
        memory_frame = state.since_memory >= self.memory_every
        state.raw = self.model.step(state.network, state.given, memory_frame=memory_frame)
        if memory_frame:
            self.model.memorize(state.network, state.given, state.raw)
            state.since_memory = 0
        state.probabilities = state.geometry.back(state.raw)
        self._settle(None)
        return state.labels.copy()

    def skip(self) -> np.ndarray:
        """Labels of a frame that cannot be seen (damaged): those of the last one, carried on."""
        if self.state.labels is None:
            raise RuntimeError("nothing to carry on yet: call add_objects(image, labels) first.")
        return self.state.labels.copy()

    def remove_object(self, identity: int) -> None:
        """Stop to follow an object. Raises ``KeyError`` for an id that is not followed."""
        state = self.state
        if identity not in state.ids:
            raise KeyError(f"object {identity} is not followed; followed are {list(state.ids)}.")
        index = state.ids.index(identity)
        if len(state.ids) == 1:
            self.reset()
            return
        self.model.forget(state.network, index)
        del state.ids[index]
        state.confidence.pop(identity, None)
        keep = [k for k in range(len(state.raw)) if k != index + 1]
        state.raw, state.probabilities = state.raw[keep], state.probabilities[keep]
        state.labels[state.labels == identity] = 0

    def reset(self) -> None:
        """Forget everything; the next ``add_objects`` starts anew."""
        self.state = TrackerState()

    def nbytes(self) -> int:
        """Bytes that the network remembers of this stream."""
        return 0 if self.state.network is None else self.state.network.nbytes()

    def copy(self) -> Tracker:
        """An independent tracker in the same state that shares the model."""
        other = Tracker(self.model, size=self.size, memory_every=self.memory_every)
        other.state = copy.deepcopy(self.state)
        return other

    def _begin(self, image: np.ndarray, labels: np.ndarray, marked: list[int]) -> None:
        state = self.state
        state.geometry = Geometry(*image.shape[:2], self.size, self.model.stride)
        state.ids, state.frame, state.since_memory = marked, 0, 0
        state.image = image
        state.given = state.geometry.image(image, self._dtype, self._device)
        masks = state.geometry.masks(labels, marked, self._device)
        state.network = self.model.start(state.given, masks)
        state.raw = _distribution(masks)
        state.probabilities = state.geometry.back(state.raw)
        self._settle(labels)

    def _accept(self, distribution: Tensor, *, permanent: bool) -> None:
        state = self.state
        state.raw = distribution
        self.model.memorize(state.network, state.given, distribution, permanent=permanent)
        state.since_memory = 0
        state.probabilities = state.geometry.back(distribution)

    def _settle(self, labels: np.ndarray | None) -> None:
        """Labels and confidence of the current frame, from the probabilities or as given."""
        state = self.state
        planes = state.probabilities.float().cpu().numpy()
        if labels is None:
            labels = _most_probable(planes, state.ids)
        state.labels = np.ascontiguousarray(labels)
        for k, identity in enumerate(state.ids):
            inside = (state.labels == identity).view(np.uint8)
            state.confidence[identity] = cv2.mean(planes[k + 1], mask=inside)[0]


def _most_probable(planes: np.ndarray, ids: list[int]) -> np.ndarray:
    """Labels [H, W] uint8 of the largest of [K + 1, H, W]; ties go to the earlier row. Plane by plane: an argmax over
    the first axis strides through memory and takes ten times as long."""
    best = planes[0]
    labels = np.zeros(best.shape, np.uint8)
    for plane, identity in zip(planes[1:], ids):
        larger = plane > best
        labels[larger] = identity
        best = np.maximum(best, plane)
    return labels


def _distribution(masks: Tensor) -> Tensor:
    """[K + 1, H, W] that sums to 1 from soft masks [K, H, W]."""
    masks = masks / masks.sum(0, keepdim=True).clamp_min(1)
    return torch.cat([1 - masks.sum(0, keepdim=True), masks])


@dataclass(slots=True)
class Tracked:
    """One frame of ``track``: the source's frame, labels [H, W] uint8, and what the tracker thinks of each object."""

    frame: Any  # pliant.video.Frame
    labels: np.ndarray
    objects: tuple[int, ...]
    confidence: dict[int, float]
    lost: tuple[int, ...]
    probabilities: np.ndarray | None


def track(
    source: Any,
    mask: Any = None,
    *,
    boxes: Mapping[int, list] | None = None,
    model: str | nn.Module = "default",
    weights: str | Path | None = None,
    precision: str = "auto",
    size: int = 480,
    memory_every: int = 3,
    probabilities: bool = False,
) -> Iterator[Tracked]:
    """Follow objects through ``source``, one frame at a time.

    source: anything ``pliant.video.read`` opens, or an iterable of images [H, W, 3] uint8.
    mask: a mask file, JSON or folder (``pliant.video.read_masks``), labels [H, W] of the first frame, or a dictionary
        of frame index -> labels. boxes: frame index -> list of (x0, y0, x1, y1); each makes a mask by GrabCut.
    model: a name of ``pliant.models.MODELS`` or a network; weights, precision, size, memory_every as in
        ``pliant.load`` and ``Tracker``. probabilities: hand out the probabilities [K + 1, H, W] as well.

    Yields a ``Tracked`` for every frame, those before the first mask with no objects. Raises ``SourceError``,
    ``MaskError``, ``WeightsError`` and ``UnknownNameError`` with one sentence each.
    """
    from pliant.errors import MaskError

    network = model
    if isinstance(model, str):
        from pliant.models import load

        network = prepare(load(model, weights), precision)
    tracker = Tracker(network, size=size, memory_every=memory_every)
    with _opened(source) as frames:
        given = given_masks(mask, boxes, frames.info)
        if not given.frames:
            raise MaskError("nothing to follow: give a mask or a box.")
        for index, frame in enumerate(frames):
            if index in given.frames:
                labels, complete = given.frames[index](frame.image)
                labels = tracker.add_objects(frame.image, labels, complete=complete)
            elif not tracker.objects:
                labels = np.zeros(frame.image.shape[:2], np.uint8)
            elif frame.damaged:
                labels = tracker.skip()
            else:
                labels = tracker.step(frame.image)
            soft = tracker.probabilities if probabilities else None
            yield Tracked(frame, labels, tracker.objects, tracker.confidence, tracker.lost, soft)


@dataclass(slots=True)
class Given:
    """What was marked: frame index -> function of its image that gives (labels, whether they name every object)."""

    frames: dict[int, Callable[[np.ndarray], tuple[np.ndarray, bool]]]
    objects: dict[int, str]
    warnings: list[str]


def given_masks(mask: Any, boxes: Mapping[int, list] | None, info: Any) -> Given:
    """Masks and boxes in any form that ``track`` takes, for a source of which ``info`` is known (or None)."""
    from pliant.video import read_masks

    given = Given({}, {}, [])
    if isinstance(mask, (str, Path)):
        size = (info.height, info.width) if info else None
        mask = read_masks(mask, size=size, names=info.names if info else None)
    if hasattr(mask, "partial"):
        given.objects, given.warnings = dict(mask.objects), list(mask.warnings)
        mask = {i: (labels, i not in mask.partial) for i, labels in mask.frames.items()}
    elif mask is not None and not isinstance(mask, Mapping):
        mask = {0: mask}
    for index, value in (mask or {}).items():
        pair = value if isinstance(value, tuple) else (value, False)
        given.frames[int(index)] = lambda image, pair=pair: pair
    for index, several in (boxes or {}).items():
        before = given.frames.get(int(index))
        given.frames[int(index)] = lambda image, several=several, before=before: _from_boxes(image, several, before)
    return given


def _from_boxes(image: np.ndarray, boxes: list, before: Any) -> tuple[np.ndarray, bool]:
    from pliant.video import mask_from_box

    labels = before(image)[0].copy() if before else np.zeros(image.shape[:2], np.uint8)
    for box in boxes:
        identity, box = (box[0], box[1:]) if len(box) == 5 else (int(labels.max()) + 1, box)
        labels[mask_from_box(image, box) & (labels == 0)] = identity
    return labels, False


def _opened(source: Any):
    from pliant.video import Reader, read

    if isinstance(source, Reader):
        return source
    if isinstance(source, (str, Path)):
        return read(source)
    return _Images(source)


class _Images:
    """An iterable of arrays as frames."""

    info = None

    def __init__(self, images: Any) -> None:
        self._images = images

    def __enter__(self) -> _Images:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[Any]:
        from pliant.video import Frame

        for index, image in enumerate(self._images):
            yield Frame(as_image(image), float(index), f"{index:05d}", index)
