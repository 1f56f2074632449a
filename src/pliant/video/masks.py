"""Masks in and out of files: one type inside (labels [H, W] uint8, 0 background), many outside.

Read: PNG with indices (kept as ids), 0/255, grey levels or colours (each an object), transparency; COCO
and YouTube-VIS JSON; a folder of such images, one for each frame that somebody marked. Written: PNG with
indices and the DAVIS palette.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from pliant.errors import MaskError, OutputError
from pliant.video.mask_images import MaskImages
from pliant.video.palette import PALETTE

__all__ = ["GivenMasks", "encode_png", "from_array", "natural_key", "read_masks", "resize_labels", "write_mask"]

IMAGE_SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".jpg", ".jpeg")
_ASPECT_TOLERANCE = 0.01


@dataclass(slots=True)
class GivenMasks:
    """What a person marked in a video.

    Attributes:
        frames: frame index -> labels [H, W] uint8; 0 is background.
        objects: id -> how it was written in the files: an index, a colour, a category.
        warnings: what was noticed and mended on reading, one sentence each, for people.
        partial: indices of frames that say nothing about some object given in an earlier frame. There 0 means
            "not stated" for those objects, not "background": they go on as they were tracked.
    """

    frames: dict[int, np.ndarray]
    objects: dict[int, str]
    warnings: list[str] = field(default_factory=list)
    partial: frozenset[int] = frozenset()

    def unknown(self, frame: int) -> tuple[int, ...]:
        """Ids given before ``frame`` that its own mask does not hold."""
        here = set(np.unique(self.frames[frame]).tolist())
        before = set()
        for index, labels in self.frames.items():
            if index < frame:
                before.update(np.unique(labels).tolist())
        return tuple(sorted(before - here - {0}))


def read_masks(
    path: str | Path, *, size: tuple[int, int] | None = None, names: Sequence[str] | None = None
) -> GivenMasks:
    """The masks of a file or folder.

    A single image belongs to frame 0, or to the frame of its own name where the frames have names. Images of
    a folder belong to the frame of the same name, else to the frame whose number their name ends with (from
    0).

    Args:
        path: an image, a COCO or YouTube-VIS JSON file, or a folder of images.
        size: (height, width) of the video. Masks of another size are resized with a warning.
        names: names of the frames, without suffix, where they have any (a folder of images).

    Raises:
        MaskError: no such file, no mask in it, another aspect ratio, more objects than ids.
    """
    path = Path(path)
    if not path.exists():
        raise MaskError(f"there is no mask file or folder {path}.")
    if path.is_dir():
        given = _from_folder(path, names)
    elif path.suffix.lower() == ".json":
        from pliant.video.mask_json import read_json

        given = read_json(path, size=size, names=names)
    else:
        images = MaskImages()
        labels = images.read(path)
        frame = names.index(path.stem) if names and path.stem in names else 0
        if frame:
            images.warnings.append(f"the mask {path} has the name of frame {frame} and was given to it.")
        given = GivenMasks({frame: labels}, images.objects, images.warnings)
    return _finished(given, size, str(path))


def from_array(mask: np.ndarray, *, size: tuple[int, int] | None = None, frame: int = 0) -> GivenMasks:
    """The same for an array: [H, W] bool, ids or 0/255, or [H, W, 3] uint8 colours."""
    images = MaskImages()
    labels = images.from_array(np.asarray(mask))
    return _finished(GivenMasks({frame: labels}, images.objects, images.warnings), size, "the mask array")


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels at another size, (height, width), by the nearest pixel centre."""
    if labels.shape == tuple(size):
        return labels
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp) for new, old in zip(size, labels.shape)
    )
    return labels[rows[:, None], columns]


def encode_png(labels: np.ndarray) -> bytes:
    """Labels [H, W] uint8 as a PNG with indices and the DAVIS palette."""
    image = Image.fromarray(labels)
    image.putpalette(PALETTE.tobytes())
    out = io.BytesIO()
    # Run-length matching (zlib strategy 3) takes half the time of the default and is smaller on flat labels.
    image.save(out, "PNG", compress_type=3)
    return out.getvalue()


def write_mask(path: str | Path, labels: np.ndarray) -> None:
    """Writes labels [H, W] uint8 as a PNG with indices and the DAVIS palette, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise ValueError(f"labels are [H, W] uint8; got {labels.dtype} of shape {list(labels.shape)}.")
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(encode_png(labels))
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"the mask {path} cannot be written: {error.strerror or error}.") from error


def natural_key(name: str) -> tuple:
    """Sorting key by which ``frame10`` comes after ``frame9``."""
    parts = re.split(r"(\d+)", name)
    return tuple(
        (1, int(part), part) if part.isdigit() else (0, part.lower(), part) for part in parts if part
    )


def frame_of(stem: str, names: Sequence[str] | None) -> int | None:
    """Index of the frame that a file name means: by the same name, else by its last number; or None."""
    if names is not None and stem in names:
        return names.index(stem)
    number = _last_number(stem)
    if number is None or names is None:
        return number
    matches = [index for index, name in enumerate(names) if _last_number(name) == number]
    return matches[0] if len(matches) == 1 else None


def _last_number(stem: str) -> int | None:
    found = re.findall(r"\d+", stem)
    return int(found[-1]) if found else None


def _from_folder(folder: Path, names: Sequence[str] | None) -> GivenMasks:
    files = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    files.sort(key=lambda p: natural_key(p.name))
    if not files:
        inside = sorted(p.name for p in folder.iterdir())[:5]
        raise MaskError(
            f"the folder {folder} has no mask images ({', '.join(IMAGE_SUFFIXES)}); "
            f"it holds {', '.join(inside) or 'nothing'}."
        )
    images, frames, sources = MaskImages(), {}, {}
    for file in files:
        index = 0 if len(files) == 1 and _last_number(file.stem) is None else frame_of(file.stem, names)
        if index is None:
            wanted = f"such as {names[0]}.png" if names else "such as 00012.png for frame 12"
            raise MaskError(f"the mask {file} belongs to no frame of the video: expected a name {wanted}.")
        if index in frames:
            pair = f"{sources[index].name} and {file.name}"
            raise MaskError(f"the masks {pair} in {folder} both mean frame {index}.")
        frames[index], sources[index] = images.read(file), file
    return GivenMasks(dict(sorted(frames.items())), images.objects, images.warnings)


def _finished(given: GivenMasks, size: tuple[int, int] | None, source: str) -> GivenMasks:
    """Checks that something is marked, brings all to one size, notes frames silent on an object."""
    if not any(labels.any() for labels in given.frames.values()):
        raise MaskError(f"no object is marked in {source}: every pixel is background.")
    for index, labels in given.frames.items():
        if not labels.any():
            given.warnings.append(f"the mask of frame {index} in {source} marks nothing.")
        if size is not None and labels.shape != tuple(size):
            given.frames[index] = _fitted(labels, size, index, source, given.warnings)
    seen: set[int] = set()
    partial = set()
    for index, labels in given.frames.items():
        here = set(np.unique(labels).tolist()) - {0}
        if seen - here:
            partial.add(index)
        seen |= here
    given.partial = frozenset(partial)
    given.objects = {
        identity: given.objects[identity] for identity in sorted(given.objects) if identity in seen
    }
    return given


def _fitted(
    labels: np.ndarray, size: tuple[int, int], index: int, source: str, warnings: list[str]
) -> np.ndarray:
    (height, width), (new_height, new_width) = labels.shape, size
    # One pixel more or less is rounding by some tool, whatever ratio that makes on a small picture.
    slack = max(_ASPECT_TOLERANCE, 1 / min(height, new_height), 1 / min(width, new_width))
    if abs(width * new_height / (height * new_width) - 1) > slack:
        turned = abs(height * new_height / (width * new_width) - 1) <= slack
        raise MaskError(
            f"the mask of frame {index} in {source} is {width} x {height} pixels, the video {new_width} x "
            f"{new_height}: another aspect ratio; "
            + (
                "it looks turned by 90 degrees: mark a frame as players show it."
                if turned
                else "mark a frame of this video at its full size."
            )
        )
    fitted = resize_labels(labels, size)
    lost = sorted(set(np.unique(labels).tolist()) - set(np.unique(fitted).tolist()))
    if lost:
        raise MaskError(
            f"object {lost[0]} in the mask of frame {index} in {source} vanishes when the mask is resized "
            f"from {width} x {height} to {new_width} x {new_height} pixels; mark it at the size of the video."
        )
    warnings.append(
        f"the mask of frame {index} in {source} is {width} x {height} pixels and was resized to "
        f"{new_width} x {new_height}, the size of the video."
    )
    return fitted
