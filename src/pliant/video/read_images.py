"""A folder or pattern of images as a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pliant.errors import SourceError
from pliant.video.frame import Frame, SourceInfo

__all__ = ["ImageSource", "load_image"]

_ASPECT_TOLERANCE = 0.01


def load_image(path: str | Path) -> np.ndarray:
    """One image file as [H, W, 3] uint8 RGB: turned as its EXIF tag says, transparency on black, 16 bit to 8.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return _as_rgb(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SourceError(f"the image {path} cannot be read: {str(error).rstrip('.')}.") from error


class ImageSource:
    """Frames of image files, in the order given."""

    def __init__(self, source: str, files: Sequence[Path], *, start: int, frame_rate: float) -> None:
        self._files = files
        self._start = start
        self.warnings: list[str] = []
        first = self._first_image()
        self.info = SourceInfo(
            source=source,
            kind="images",
            width=first.shape[1],
            height=first.shape[0],
            frame_rate=frame_rate,
            frame_count=len(files),
            frame_count_is_exact=True,
            has_audio=False,
            codec=files[0].suffix.lstrip(".").lower(),
            names=tuple(file.stem for file in files),
        )
        self._last = first

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self._start, len(self._files)):
            file, damaged = self._files[index], False
            try:
                self._last = self._fitted(load_image(file), file)
            except _WrongSize:
                raise
            except SourceError as error:
                damaged = True
                self.warnings.append(str(error))
            yield Frame(self._last, index / self.info.frame_rate, file.stem, index, damaged)

    def close(self) -> None:
        """Nothing stays open."""

    def _first_image(self) -> np.ndarray:
        """The first image that can be read: it gives the size of all."""
        complaint: SourceError | None = None
        for file in self._files:
            try:
                return load_image(file)
            except SourceError as error:
                complaint = complaint or error
        raise complaint or SourceError("no images were given.")

    def _fitted(self, image: np.ndarray, file: Path) -> np.ndarray:
        height, width = self.info.size
        if image.shape[:2] == (height, width):
            return image
        ratio = image.shape[1] * height / (image.shape[0] * width)
        own = f"{image.shape[1]} x {image.shape[0]} pixels"
        message = f"the image {file} is {own}, the first one {width} x {height}"
        if abs(ratio - 1) > _ASPECT_TOLERANCE:
            raise _WrongSize(f"{message}: the images of one video must have one shape.")
        self.warnings.append(f"{message}: it was resized.")
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


class _WrongSize(SourceError):
    """Images of several shapes: no damage that could be passed over."""


def _as_rgb(image: Image.Image) -> np.ndarray:
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        grey = np.asarray(image)
        grey = (grey >> 8 if grey.max(initial=0) > 255 else grey).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))
