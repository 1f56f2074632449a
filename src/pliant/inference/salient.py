"""Salient objects of a video, nothing given: frames in, probabilities and objects out, one clip later."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.errors import MaskError
from pliant.inference.clips import Average, ClipStream, Tail
from pliant.inference.connected_objects import ConnectedObjects
from pliant.inference.frames import Geometry, as_image, prepare
from pliant.nn import SteeringMaps

__all__ = ["Found", "SalientStream", "first_labels", "first_mask", "salient", "salient_labels"]


@dataclass(frozen=True, slots=True)
class Found:
    """What is salient in one frame.

    frame: as it was read. probability [H, W] float32 of the foreground. labels [H, W] uint8: connected
    objects by ids that stay the same over time, 0 background.
    """

    frame: Any
    probability: np.ndarray
    labels: np.ndarray

    @property
    def confidence(self) -> dict[int, float]:
        """Mean probability inside each object, by id."""
        ids = np.unique(self.labels)
        return {int(i): float(self.probability[self.labels == i].mean()) for i in ids if i}


class SalientStream:
    """Foreground probabilities of frames that come one after another, each at most one clip later.

    >>> stream = SalientStream(pliant.load("salient_small"))      # doctest: +SKIP
    >>> for image in images:
    ...     for probability in stream.push(image):
    ...         ...
    >>> rest = stream.finish()

    model: a clip-wise network (``pliant.load``), used in the precision and on the device of its weights.
    size: short side in pixels at which it looks; None: the model's own, 480 where it has none. overlap, average, tail,
    batch: as of ``ClipStream``; tail is "short" for a model that looks at a frame and the one before it (``encode``),
    "shift" for others. show: what to keep of the dynamic dilated layers, "dilation" and "modulation"; see ``maps``.

    Images are [H, W, 3] uint8 RGB, all of one size; probabilities [H, W] float32 of that size.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        size: int | None = None,
        overlap: int = 3,
        average: Average = "probabilities",
        tail: Tail | None = None,
        batch: int = 1,
        show: Sequence[str] = (),
    ) -> None:
        if not hasattr(model, "clip_length"):
            raise TypeError(f"{type(model).__name__} does not segment clips: it has no clip_length.")
        size = getattr(model, "size", 480) if size is None else size
        if size < 32:
            raise ValueError(f"size is the short side in pixels, at least 32, got {size}.")
        own = "short" if hasattr(model, "encode") else "shift"
        if own == "short" and tail not in (None, "short"):
            raise ValueError(f"{type(model).__name__} needs frames in their order: tail must be 'short', got {tail!r}.")
        unknown = set(show) - {"dilation", "modulation"}
        if unknown:
            raise ValueError(f"show knows dilation and modulation, not {', '.join(sorted(unknown))}.")
        self.model, self.size, self.show = model.eval(), size, tuple(show)
        self.maps: dict[int, dict[str, np.ndarray]] = {}
        """Frame -> name -> [h, w] float32 at 1/8: mean over layers, axes and taps; the caller takes them
        out.
        """
        self._geometry: Geometry | None = None
        self._before: Tensor | None = None
        self._pushed = 0
        self._clips = ClipStream(
            self._predict, length=model.clip_length, overlap=overlap, average=average, tail=tail or own, batch=batch
        )

    @torch.inference_mode()
    def push(self, image: np.ndarray | Tensor) -> list[np.ndarray]:
        """Probabilities of the frames that are finished now, in order; often none."""
        image = as_image(image)
        height, width = image.shape[:2]
        if self._geometry is None:
            stretched = getattr(self.model, "stretched", False)
            self._geometry = Geometry(height, width, self.size, self.model.stride, stretched)
        geometry = self._geometry
        if (geometry.height, geometry.width) != (height, width):
            raise ValueError(
                f"frame {self._pushed} is {height} x {width}, those before are {geometry.height} x "
                f"{geometry.width}: all frames of a stream have one size."
            )
        item = pixels = self._pixels(image)
        if hasattr(self.model, "encode"):
            item = self.model.encode(pixels, pixels if self._before is None else self._before)
            self._before = pixels
        self._pushed += 1
        return self._whole(self._clips.push((self._pushed - 1, item)))

    @torch.inference_mode()
    def finish(self) -> list[np.ndarray]:
        """Probabilities of all frames that are left."""
        return self._whole(self._clips.finish())

    def first_needed(self, done: int) -> int:
        """Where a stream may begin so that frame ``done`` and all after it come out the same.

        At the start of a clip, far enough back that no tail is reached sooner.
        """
        gap = self._clips.gap
        return max(0, (done - 2 * self.model.clip_length) // gap * gap)

    def _pixels(self, image: np.ndarray) -> Tensor:
        """[1, 3, H', W'] in the network's dtype: scaled, padded with black, normalised its way."""
        geometry = self._geometry
        rows, columns = geometry.inner
        if (rows, columns) != image.shape[:2]:
            shrink = rows < image.shape[0]
            image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
        weight = next(self.model.parameters())
        pixels = torch.from_numpy(image.astype(np.float32) / 255).to(weight.device).permute(2, 0, 1)
        pixels = F.pad(pixels, geometry.padding)
        mean, deviation = (
            torch.tensor(values, device=weight.device)[:, None, None]
            for values in (self.model.pixel_mean, self.model.pixel_std)
        )
        pixels = ((pixels - mean) / deviation).to(weight.dtype)
        return pixels[None].contiguous(memory_format=torch.channels_last)

    def _predict(self, clips: Sequence[Sequence[tuple[int, Any]]]) -> Tensor:
        """Logits [N, T, H', W'] of clips of (index, what was made of that frame)."""
        steering = SteeringMaps(self.model) if self.show else None
        if steering is None:
            return self._logits(clips)
        with steering:
            logits = self._logits(clips)
        self._keep(steering, clips)
        return logits

    def _logits(self, clips: Sequence[Sequence[tuple[int, Any]]]) -> Tensor:
        items = [[item for _, item in clip] for clip in clips]
        if hasattr(self.model, "decode"):
            parts = range(len(items[0][0]))
            # [N, T, C, h, w], each frame's channels last
            stacked = [torch.stack([torch.cat([item[part] for item in clip]) for clip in items]) for part in parts]
            return self.model.decode(tuple(stacked))[:, 0]
        clip = torch.stack([torch.cat(clip) for clip in items])  # [N, T, 3, H, W]
        clip = clip.transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)
        return self.model(clip)[:, 0]

    def _keep(self, steering: SteeringMaps, clips: Sequence[Sequence[tuple[int, Any]]]) -> None:
        """Means of the layers' maps, at 1/8 and at every frame; the first clip that holds a frame speaks
        for it.
        """
        if not steering.maps:
            raise ValueError(f"{type(self.model).__name__} has no dynamic dilated layer: there are no maps to show.")
        rows, columns = (side // 8 for side in self._network_size())
        size = (len(clips[0]), rows, columns)
        for name in self.show:
            layers = [getattr(maps, name) for maps in steering.maps.values()]
            layers = [layer.float().mean(dim=1, keepdim=True) for layer in layers if layer is not None]
            if not layers:
                raise ValueError(f"{type(self.model).__name__} has no modulation: there is nothing to show.")
            even = [F.interpolate(layer, size, mode="trilinear", align_corners=False) for layer in layers]
            mean = torch.stack(even).mean(dim=0)[:, 0]  # [N, T, h, w]
            for clip, values in zip(clips, mean):
                for (index, _), value in zip(clip, values):
                    self.maps.setdefault(index, {}).setdefault(name, self._inside(value))

    def _network_size(self) -> tuple[int, int]:
        left, right, top, bottom = self._geometry.padding
        rows, columns = self._geometry.inner
        return rows + top + bottom, columns + left + right

    def _inside(self, value: Tensor) -> np.ndarray:
        """A map without the part that belongs to the padding, as far as eighths tell."""
        left, right, top, bottom = (side // 8 for side in self._geometry.padding)
        rows, columns = value.shape
        return value[top : rows - bottom, left : columns - right].cpu().numpy()

    def _whole(self, probabilities: list[Tensor]) -> list[np.ndarray]:
        """At the pictures' own size."""
        return [self._geometry.back(p[None])[0].cpu().numpy() for p in probabilities]


def salient(
    source: Any,
    model: nn.Module | str = "default",
    *,
    weights: str | Path | None = None,
    threshold: float = 0.5,
    keep_largest: int | None = None,
    smallest: float = 0.0005,
    precision: str = "auto",
    **options: Any,
) -> Iterator[Found]:
    """What is salient in every frame of ``source``, in order, each frame at most one clip later.

    >>> for found in pliant.salient("clip.mp4"):                  # doctest: +SKIP
    ...     print(found.frame.name, found.confidence)

    source: whatever ``pliant.video.read`` opens, or a reader. model: a network or its name; weights: of a
    name. threshold: of the probability, in (0, 1). keep_largest, smallest: as of ``ConnectedObjects``.
    precision: "auto", "bf16" or "fp32", for a model given by its name. options: of ``SalientStream``.
    Raises ``SourceError`` and ``WeightsError`` before the first frame.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold is a probability between 0 and 1, got {threshold}.")
    if isinstance(model, str):
        from pliant.models import load

        model = prepare(load(model, weights, task="salient"), precision)
    from pliant.video import Reader, read

    reader = source if isinstance(source, Reader) else read(source)
    objects = ConnectedObjects(smallest=smallest, keep_largest=keep_largest)
    stream = SalientStream(model, **options)
    return _found(reader, stream, lambda probability: objects.label(probability > threshold))


def salient_labels(
    images: Iterable[np.ndarray],
    model: nn.Module,
    *,
    threshold: float = 0.5,
    keep_largest: int | None = None,
    smallest: float = 0.0005,
    **options: Any,
) -> Iterator[np.ndarray]:
    """Labels [H, W] uint8 of what is salient in each of ``images``, [H, W, 3] uint8 RGB, one after another.

    Each comes at most one clip after its image. The arguments are those of ``salient``, for a network that is ready.
    """
    objects = ConnectedObjects(smallest=smallest, keep_largest=keep_largest)
    stream = SalientStream(model, **options)
    for image in images:
        for probability in stream.push(image):
            yield objects.label(probability > threshold)
    for probability in stream.finish():
        yield objects.label(probability > threshold)


def first_labels(
    images: Sequence[np.ndarray],
    model: nn.Module,
    *,
    size: int | None = None,
    threshold: float = 0.5,
    keep_largest: int | None = None,
    smallest: float = 0.0005,
) -> np.ndarray:
    """Labels [H, W] uint8 of what is salient in the first of ``images``: a first mask for a tracker.

    images: the first frames of a video, [H, W, 3] uint8, a clip of the model or fewer; those after the first
    say what moves. Larger objects have lower ids. The other arguments are those of ``salient``.
    """
    if not len(images):
        raise ValueError("images must hold at least the first frame, got none.")
    return next(
        salient_labels(
            images, model, size=size, threshold=threshold, keep_largest=keep_largest, smallest=smallest
        )
    )


def first_mask(
    source: Any,
    model: nn.Module | str = "default",
    *,
    weights: str | Path | None = None,
    start: int = 0,
    size: int | None = None,
    precision: str = "auto",
    **options: Any,
) -> np.ndarray:
    """``first_labels`` of a source: opens it for the length of a clip from frame ``start`` on, and closes it.

    source: a file, a folder or a pattern of images; not a live one, which cannot be read twice. model, weights,
    precision: as of ``salient``; options: as of ``first_labels``. Raises ``MaskError`` where nothing is found,
    ``SourceError``, ``WeightsError``.
    """
    from pliant.video import read

    if isinstance(model, str):
        from pliant.models import load

        model = prepare(load(model, weights, task="salient"), precision)
    with read(source, start=start) as reader:
        images = [frame.image for frame in islice(reader, model.clip_length)]
    labels = first_labels(images, model, size=size, **options)
    if not labels.any():
        raise MaskError(
            f"nothing salient in the first {len(images)} frames of {source}: mark what to follow by --mask or --box."
        )
    return labels


def _found(reader: Any, stream: SalientStream, label: Callable[[np.ndarray], np.ndarray]) -> Iterator[Found]:
    waiting: deque = deque()
    with reader:
        for frame in reader:
            waiting.append(frame)
            for probability in stream.push(frame.image):
                yield Found(waiting.popleft(), probability, label(probability))
    for probability in stream.finish():
        yield Found(waiting.popleft(), probability, label(probability))
