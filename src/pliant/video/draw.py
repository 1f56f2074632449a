"""Objects drawn over a frame: tinted, outlined, numbered."""

from __future__ import annotations

import cv2
import numpy as np

from pliant.video.palette import PALETTE

__all__ = ["BRIGHT", "draw_overlay", "write_text"]

# The palette is made to tell ids apart in a mask, not to shine through a picture: same hues, brighter.
BRIGHT = np.round(255 * (PALETTE / 192.0).clip(0, 1) ** 0.6).astype(np.uint8)  # [256, 3] RGB
BRIGHT.flags.writeable = False
_TABLE = np.ascontiguousarray(BRIGHT[None])


def draw_overlay(
    image: np.ndarray,
    labels: np.ndarray,
    *,
    opacity: float = 0.45,
    outline: int | None = None,
    ids: bool = False,
) -> np.ndarray:
    """The image with every object tinted and outlined in the brightened colour of its id, [H, W, 3] uint8.

    Args:
        image: [H, W, 3] uint8 RGB; it stays as it is.
        labels: [H, W] uint8, 0 is background.
        opacity: share of the colour inside an object, 0 to 1.
        outline: width of the line in pixels, 0 for none; default 1 for each 320 pixels of the shorter side, at least 1.
        ids: write each object's number into it.
    """
    if image.shape[:2] != labels.shape:
        raise ValueError(f"image {list(image.shape)} and labels {list(labels.shape)} differ in size.")
    drawn = image.copy()
    rows = np.flatnonzero(labels.any(axis=1))
    if not rows.size:
        return drawn
    width = max(1, round(min(image.shape[:2]) / 320)) if outline is None else outline
    columns = np.flatnonzero(labels.any(axis=0))
    # Only what lies around the objects is touched.
    part = np.s_[
        max(0, rows[0] - width) : rows[-1] + 1 + width, max(0, columns[0] - width) : columns[-1] + 1 + width
    ]
    inside, view = np.ascontiguousarray(labels[part]), drawn[part]
    colours = cv2.LUT(cv2.merge((inside, inside, inside)), _TABLE)
    tinted = cv2.addWeighted(view, 1 - opacity, colours, opacity, 0)
    cv2.copyTo(tinted, inside, view)
    if width:
        square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
        # Beyond the border lies nothing: an object that the frame cuts has no line there.
        border = {"borderType": cv2.BORDER_REPLICATE}
        edge = cv2.erode(inside, square, **border) != cv2.dilate(inside, square, **border)
        cv2.copyTo(colours, (edge & (inside > 0)).view(np.uint8), view)
    if ids:
        _write_ids(drawn, labels)
    return drawn


def _write_ids(drawn: np.ndarray, labels: np.ndarray) -> None:
    scale = max(0.4, min(drawn.shape[:2]) / 900)
    for identity in np.flatnonzero(np.bincount(labels.ravel(), minlength=256))[1:]:
        mask = (labels == identity).view(np.uint8)
        # The pixel farthest from the object's edge: always inside, whatever its shape.
        deepest = cv2.minMaxLoc(cv2.distanceTransform(mask, cv2.DIST_L2, 3))[3]
        write_text(drawn, str(identity), deepest, scale=scale, centred=True)


def write_text(
    image: np.ndarray,
    text: str,
    place: tuple[int, int],
    *,
    scale: float = 0.5,
    colour: tuple[int, int, int] = (255, 255, 255),
    centred: bool = False,
) -> None:
    """Writes text with a dark rim into an image, in place.

    Args:
        image: [H, W, 3] uint8.
        text: Latin letters and digits.
        place: (x, y) of its lower left corner, or of its middle if ``centred``.
        scale: 1 is about 22 pixels high.
        colour: RGB.
    """
    thickness = max(1, round(scale * 2))
    x, y = int(place[0]), int(place[1])
    if centred:
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
        x, y = x - width // 2, y + height // 2
    # The rim is the text itself, moved: a thicker line would make the letters wider in newer versions of OpenCV.
    for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1), (1, 1)):
        cv2.putText(image, text, (x + dx, y + dy), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), thickness, cv2.LINE_AA)
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)
