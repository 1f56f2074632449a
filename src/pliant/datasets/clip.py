"""One video of a dataset: its frames and its masks, opened when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pliant.datasets.labels import read_labels
from pliant.errors import SourceError

__all__ = ["Clip"]


@dataclass(frozen=True)
class Clip:
    """A video of a dataset.

    Attributes
    ----------
    name:
        Of the sequence, as the dataset calls it.
    frames:
        The image file of each frame, in order.
    annotations:
        The mask of each frame, or None where there is none: a PNG file, or whatever ``read`` turns into
        labels.
    ids:
        The objects, rising. In DAVIS those of the first mask, elsewhere those that the dataset names.
    categories:
        Object -> name of its category, where the dataset has categories.
    read:
        Turns an entry of ``annotations`` into labels [H, W] uint8; reads PNG files by default.
    """

    name: str
    frames: tuple[Path, ...]
    annotations: tuple[Any, ...]
    ids: tuple[int, ...]
    categories: dict[int, str] = field(default_factory=dict)
    read: Callable[[Any], np.ndarray] = read_labels

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.annotations):
            raise ValueError(
                f"clip {self.name} has {len(self.frames)} frames and {len(self.annotations)} annotations; "
                "one annotation a frame is expected, None where there is none"
            )

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, index: int) -> np.ndarray:
        """The image of a frame, [H, W, 3] uint8 RGB. Raises SourceError, naming the file, where it cannot be
        read."""
        path = self.frames[index]
        try:
            with Image.open(path) as image:
                return np.asarray(image.convert("RGB"))
        except OSError as error:
            raise SourceError(f"frame {index} of clip {self.name}, {path}, cannot be read: {error}") from None

    def labels(self, index: int) -> np.ndarray | None:
        """The label map of a frame, [H, W] uint8, 0 background; None where the frame has no annotation."""
        annotation = self.annotations[index]
        return None if annotation is None else self.read(annotation)

    @property
    def annotated(self) -> tuple[int, ...]:
        """The frames that have an annotation."""
        return tuple(index for index, annotation in enumerate(self.annotations) if annotation is not None)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Frames and labels in order, one at a time."""
        for index in range(len(self)):
            yield self.frame(index), self.labels(index)

    def __repr__(self) -> str:
        annotated = len(self.annotated)
        return f"Clip({self.name!r}, {len(self)} frames, {annotated} annotated, objects {list(self.ids)})"
