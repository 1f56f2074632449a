"""A first mask from a box, for people who have no mask at hand: GrabCut inside the box."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pliant.errors import MaskError

__all__ = ["mask_from_box"]

_LEAST_SHARE = 0.02  # of the box; less is no object but a speck


def mask_from_box(
    image: np.ndarray,
    box: Sequence[float],
    *,
    margin: float = 0.3,
    iterations: int = 5,
    longest_side: int = 240,
    fill_holes: bool = True,
) -> np.ndarray:
    """The object inside a box, bool [H, W].

    GrabCut (Rother, Kolmogorov and Blake, SIGGRAPH 2004): colours of what lies in and around the box are modelled by
    two mixtures, and the smoothest border between them is cut, several times over. Pixels outside the box never
    belong to the object, those in the middle of it always do, its corners rather not. The largest connected piece
    stays, with what is at least a fifth of it. Colours alone decide: where object and surroundings share them, the
    mask is poor; look at it. (On 14 objects of DAVIS with tight boxes the overlap with the truth is 0.62 on average,
    from 0.16 to 0.92; without the fixed middle it was 0.40.)

    Args:
        image: [H, W, 3] uint8 RGB.
        box: (x0, y0, x1, y1) in pixels, x1 and y1 exclusive; it should hold the whole object and little else.
        margin: how far around the box background is looked at, as a share of its longer side.
        iterations: how often models and border are refined.
        longest_side: size in pixels to which the surroundings are reduced for the cut; the border is then
            smoothed at full size.
        fill_holes: close holes of less than 2 % of the object.

    Raises:
        MaskError: the box is empty, outside the image or as large as it, or holds nothing that can be told from its
            surroundings.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"an image is [H, W, 3] uint8; got {image.dtype} of shape {list(image.shape)}.")
    x0, y0, x1, y1 = _checked(box, image.shape[:2])
    reach = round(margin * max(x1 - x0, y1 - y0)) + 2
    left, top = max(0, x0 - reach), max(0, y0 - reach)
    around = image[top : y1 + reach, left : x1 + reach]
    scale = min(1.0, longest_side / max(around.shape[:2]))
    small = cv2.resize(around, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else around
    height, width = small.shape[:2]
    inner = np.s_[
        round((y0 - top) * scale) : max(1, round((y1 - top) * scale)),
        round((x0 - left) * scale) : max(1, round((x1 - left) * scale)),
    ]
    labels = np.full((height, width), cv2.GC_BGD, np.uint8)
    labels[inner] = _first_guess(labels[inner].shape)
    if not (labels == cv2.GC_BGD).any():
        raise MaskError("the box covers the whole image: leave some background around the object, or give a mask.")
    found = _cut(np.ascontiguousarray(small[..., ::-1]), labels, iterations)
    found = _main_pieces(found)
    if found.sum() < _LEAST_SHARE * labels[inner].size:
        raise MaskError(
            f"nothing in the box {x0},{y0},{x1},{y1} can be told from what is around it; draw the box closer to the "
            "object, or give a mask."
        )
    if fill_holes:
        found = _without_small_holes(found)
    full = np.zeros(image.shape[:2], bool)
    size = around.shape[1], around.shape[0]
    soft = cv2.resize(found.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
    full[top : top + size[1], left : left + size[0]] = cv2.GaussianBlur(soft, (0, 0), 0.5 / scale) > 0.5
    keep = np.zeros_like(full)
    keep[y0:y1, x0:x1] = True
    return full & keep


def _checked(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    height, width = size
    values = [float(value) for value in box]
    if len(values) != 4 or not np.isfinite(values).all():
        raise MaskError(f"a box is four numbers x0,y0,x1,y1; got {', '.join(f'{v:g}' for v in values)}.")
    x0, y0, x1, y1 = (round(value) for value in values)
    written = f"{x0},{y0},{x1},{y1}"
    if x1 <= x0 or y1 <= y0:
        raise MaskError(
            f"the box {written} is empty: expected x0,y0,x1,y1 with x0 < x1 and y0 < y1 (corners, not width "
            "and height)."
        )
    if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
        raise MaskError(f"the box {written} lies outside the image of {width} x {height} pixels.")
    x0, y0, x1, y1 = max(0, x0), max(0, y0), min(width, x1), min(height, y1)
    if x1 - x0 < 4 or y1 - y0 < 4:
        raise MaskError(f"the box {written} is too small: at least 4 x 4 pixels are needed inside the image.")
    return x0, y0, x1, y1


def _first_guess(size: tuple[int, int]) -> np.ndarray:
    """What a box means before any colour is seen: its middle is the object, its corners probably not."""
    y, x = (np.linspace(-1, 1, length) for length in size)
    distance = np.hypot(y[:, None], x)
    guess = np.where(distance < 1.2, cv2.GC_PR_FGD, cv2.GC_PR_BGD)
    return np.where(distance < 0.3, cv2.GC_FGD, guess).astype(np.uint8)


def _cut(image: np.ndarray, labels: np.ndarray, iterations: int) -> np.ndarray:
    """GrabCut of a BGR image; bool [H, W]. OpenCV draws its first mixtures at random: the seed is fixed."""
    cv2.setRNGSeed(0)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(image, labels, None, background, foreground, iterations, cv2.GC_INIT_WITH_MASK)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


def _main_pieces(mask: np.ndarray) -> np.ndarray:
    count, pieces, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if count == 1:
        return mask
    areas = statistics[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return (areas >= 0.2 * areas.max())[pieces] & mask


def _without_small_holes(mask: np.ndarray) -> np.ndarray:
    count, pieces, statistics, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    border = set(np.unique(np.concatenate((pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]))))
    small = [
        piece
        for piece in range(1, count)
        if piece not in border and statistics[piece, cv2.CC_STAT_AREA] < 0.02 * mask.sum()
    ]
    return mask | np.isin(pieces, small)
