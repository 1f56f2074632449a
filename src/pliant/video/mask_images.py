"""What the pixels of a mask image mean: indices, 0/255, grey levels, colours become object ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from pliant.errors import MaskError
from pliant.video.palette import PALETTE, colour_name

__all__ = ["MaskImages"]

# More distinct values than this in a picture without a palette are no marks: they are shades of smoothed
# edges or of a photograph. From _SOFT_FROM_VALUES on, a value that fills no 3 x 3 pixels is a shade.
_MOST_PLAIN_VALUES = 64
_SOFT_FROM_VALUES = 7
_MOST_GREY_OBJECTS = 16
_LARGEST_SOFT_SHARE = 0.1
_LARGEST_GREY_ID = 64  # in a grey picture; above, the values are shades that somebody chose to be visible
_VOID = 255

_PALETTE_IDS = {tuple(int(v) for v in colour): index for index, colour in enumerate(PALETTE)}


class MaskImages:
    """Reads the mask images of one video; a colour is the same object in all of them.

    Attributes:
        objects: id -> how it was written, for people: ``"index 2"``, ``"white"``, ``"red (255, 0, 0)"``.
        warnings: what was noticed and mended, one sentence each.
    """

    def __init__(self) -> None:
        self.objects: dict[int, str] = {}
        self.warnings: list[str] = []
        self._ids: dict[tuple[int, int, int], int] = {}  # colour -> id

    def read(self, path: str | Path) -> np.ndarray:
        """Labels [H, W] uint8 of one image file. Raises MaskError for what is no mask."""
        path = Path(path)
        try:
            with Image.open(path) as image:
                image.load()
        except FileNotFoundError as error:
            raise MaskError(f"there is no mask file {path}.") from error
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            reason = str(error).rstrip(".")
            raise MaskError(f"the mask {path} cannot be read as an image: {reason}.") from error
        if image.mode == "F":
            raise MaskError(f"the mask {path} has floating-point pixels; save it as an 8-bit PNG.")
        if image.mode == "P":
            return self._from_indices(image, path)
        if image.mode in ("1", "L", "I", "I;16", "I;16B", "I;16L"):
            return self.from_array(np.asarray(image), str(path))
        mode = "RGBA" if "A" in image.mode or "a" in image.mode or "transparency" in image.info else "RGB"
        return self.from_array(np.asarray(image.convert(mode)), str(path))

    def from_array(self, pixels: np.ndarray, name: str = "the mask array") -> np.ndarray:
        """Labels [H, W] uint8 of an array.

        Args:
            pixels: [H, W] bool or integer (ids, or 0 and 255), or [H, W, 3 or 4] uint8 colours.
            name: what to call it in messages.
        """
        if pixels.ndim == 3 and pixels.shape[2] in (3, 4) and pixels.dtype == np.uint8:
            return self._from_colours(pixels, name)
        if pixels.ndim != 2 or pixels.dtype.kind not in "bui":
            raise MaskError(
                f"{name} is {pixels.dtype} of shape {list(pixels.shape)}; a mask is [H, W] of whole "
                "numbers or bool, or [H, W, 3] uint8 colours."
            )
        return self._from_levels(pixels, name, indexed=False)

    def _from_indices(self, image: Image.Image, path: Path) -> np.ndarray:
        indices = np.asarray(image)
        colours = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        used = np.unique(indices)
        black = [i for i in used if i < len(colours) and not colours[i].any()]
        if len(colours) and colours[0].any() and black:
            # A painting program sorted the palette: the indices say nothing, the colours do.
            return self._from_colours(np.asarray(image.convert("RGB")), str(path))
        return self._from_levels(indices, str(path), indexed=True)

    def _from_levels(self, levels: np.ndarray, name: str, *, indexed: bool) -> np.ndarray:
        """Labels of one number a pixel: ids, or white on black."""
        if levels.dtype == np.bool_:
            return self._one_object(levels)
        used = np.unique(levels)
        marks = used[used != 0]
        if marks.size and (marks[0] < 0 or marks[-1] > 255) and not np.array_equal(marks, [65535]):
            raise MaskError(
                f"{name} has pixel values from {used[0]} to {used[-1]}; object ids go from 1 to 254, 0 is "
                "background."
            )
        if marks.size == 1 and marks[0] in (_VOID, 65535):
            return self._one_object(levels != 0)
        small_ids = marks.size < _MOST_PLAIN_VALUES and (marks[marks != _VOID] <= _LARGEST_GREY_ID).all()
        if indexed or small_ids or marks.size == 1:
            return self._ids_kept(levels, marks, name)
        shades = (levels > 16) & (levels < 239)
        if used.size >= _SOFT_FROM_VALUES and shades.sum() <= _LARGEST_SOFT_SHARE * (levels >= 128).sum():
            self.warnings.append(
                f"{name} has {used.size} grey levels (smoothed edges or a lossy file): it was cut at 128."
            )
            return self._one_object(levels >= 128)
        if used.size <= _MOST_GREY_OBJECTS:
            grey = np.repeat(levels.astype(np.uint8)[..., None], 3, axis=2)
            return self._from_colours(grey, name, grey=True)
        raise MaskError(
            f"{name} has {used.size} grey levels and looks like a photograph, not a mask; expected 0 for "
            "background and one value for each object."
        )

    def _ids_kept(self, levels: np.ndarray, marks: np.ndarray, name: str) -> np.ndarray:
        labels = levels.astype(np.uint8)
        if marks.size > 1 and marks[-1] == _VOID:
            labels = np.where(labels == _VOID, 0, labels)
            marks = marks[:-1]
            self.warnings.append(
                f"{name} has the value 255 beside object ids: taken as void, that is background."
            )
        for identity in marks:
            self.objects.setdefault(int(identity), f"index {identity}")
        return labels

    def _one_object(self, mask: np.ndarray) -> np.ndarray:
        if mask.any():
            self.objects.setdefault(1, "white")
        return mask.astype(np.uint8)

    def _from_colours(self, pixels: np.ndarray, name: str, *, grey: bool = False) -> np.ndarray:
        """Labels of colours; each colour that covers a real area is an object."""
        if pixels.shape[2] == 4:
            opaque = pixels[..., 3] >= 128
            pixels = pixels[..., :3]
            if not opaque.all():
                if _distinct(pixels[opaque]) > _MOST_PLAIN_VALUES:
                    self.warnings.append(
                        f"{name} is a cut-out: what is opaque in it was taken as one object."
                    )
                    return self._one_object(opaque)
                pixels = pixels * opaque[..., None]
        if not grey and (pixels == pixels[..., :1]).all():
            return self._from_levels(pixels[..., 0], name, indexed=False)
        labels, colours = self._large_colours(pixels, name)
        background = self._background(labels, colours, name)
        table = np.zeros(len(colours), np.uint8)
        for index in np.unique(labels):  # in the order of first appearance
            if index != background:
                table[index] = self._id_of(colours[index], name, grey)
        return table[labels]

    def _large_colours(self, pixels: np.ndarray, name: str) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
        """[H, W] indices into the list of colours of real area, in the order of their first pixel."""
        codes = pixels.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
        values, first, inverse, counts = np.unique(
            codes, return_index=True, return_inverse=True, return_counts=True
        )
        inverse = inverse.reshape(codes.shape)
        large = np.ones(values.size, bool)
        if values.size >= _SOFT_FROM_VALUES:
            large = np.zeros(values.size, bool)
            large[inverse[_solid(codes)]] = True
        small_share = counts[~large].sum() / codes.size
        if small_share > _LARGEST_SOFT_SHARE or large.sum() > _MOST_PLAIN_VALUES:
            raise MaskError(
                f"{name} has {values.size} colours and looks like a photograph or a lossy file, not a mask; "
                "expected one plain colour for each object on black, saved without loss as PNG."
            )
        order = np.flatnonzero(large)[np.argsort(first[large])]
        rank = np.zeros(values.size, np.intp)
        rank[order] = np.arange(order.size)
        labels = rank[inverse]
        if not large.all():
            from scipy.ndimage import distance_transform_edt

            nearest = distance_transform_edt(~large[inverse], return_distances=False, return_indices=True)
            labels = labels[tuple(nearest)]
            self.warnings.append(
                f"{name} has {values.size} colours, {order.size} of them large: the others, smoothed edges "
                f"({100 * small_share:.1f} % of the picture), were given to the nearest large one."
            )
        colours = [(int(v) >> 16, int(v) >> 8 & 255, int(v) & 255) for v in values[order]]
        return labels, colours

    def _background(self, labels: np.ndarray, colours: list[tuple[int, int, int]], name: str) -> int:
        if (0, 0, 0) in colours:
            return colours.index((0, 0, 0))
        border = np.concatenate((labels[0], labels[-1], labels[:, 0], labels[:, -1]))
        background = int(np.bincount(border).argmax())
        self.warnings.append(
            f"{name} has no black: {colour_name(colours[background])}, most frequent along the border, was "
            "taken as background."
        )
        return background

    def _id_of(self, colour: tuple[int, int, int], name: str, grey: bool) -> int:
        if colour not in self._ids:
            taken = set(self.objects)
            identity = _PALETTE_IDS.get(colour, 0)
            if not identity or identity in taken or grey:
                identity = next((i for i in range(1, 255) if i not in taken), 0)
            if not identity:
                raise MaskError(f"{name} brings the 255th object; there is room for 254.")
            self._ids[colour] = identity
            self.objects[identity] = f"grey level {colour[0]}" if grey else colour_name(colour)
        return self._ids[colour]


def _solid(codes: np.ndarray) -> np.ndarray:
    """Where all 3 x 3 pixels around are equal, bool [H, W]; the border is not."""
    solid = np.zeros(codes.shape, bool)
    rows = (codes[:, :-2] == codes[:, 1:-1]) & (codes[:, 1:-1] == codes[:, 2:])
    columns = (codes[:-2] == codes[1:-1]) & (codes[1:-1] == codes[2:])
    solid[1:-1, 1:-1] = rows[:-2] & rows[1:-1] & rows[2:] & columns[:, 1:-1]
    return solid


def _distinct(colours: np.ndarray) -> int:
    return np.unique(colours.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)).size
