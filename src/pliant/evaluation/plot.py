"""Where it went wrong: J and F of every object over the frames, and the worst frames to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pliant.datasets.labels import read_labels
from pliant.errors import InputError
from pliant.evaluation.report import FrameCurve, Report
from pliant.video.draw import write_text

__all__ = ["draw_report", "worst_frames"]

_INK, _PAPER, _FAINT = (40, 40, 44), (250, 250, 248), (206, 206, 210)
_J_COLOUR, _F_COLOUR = (20, 90, 200), (220, 110, 20)
_RIGHT, _WRONG, _MISSED = (60, 190, 80), (230, 50, 50), (60, 110, 240)  # in both, only in the result, only in the truth
_WIDTH, _COLUMNS, _MARGIN, _CAPTION = 1560, 3, 24, 24
_CHART_HEIGHT, _TILES = 130, 12


def draw_report(report: Report) -> np.ndarray:
    """The curves of all objects and the worst frames on one page, [H, W, 3] uint8 RGB.

    Raises InputError where the protocol has no scores by frame.
    """
    if not report.curves:
        raise InputError(f"{report.protocol} has no scores by frame, so there is nothing to plot")
    cell = (_WIDTH - _MARGIN * (_COLUMNS + 1)) // _COLUMNS
    charts = [_chart(curve, cell) for curve in report.curves]
    tiles = [_tile(curve, index, cell) for curve, index in worst_frames(report.curves, _TILES)]
    headline = "  ".join(f"{name} {value:.3f}" for name, value in report.summary.items())
    convention = f" ({report.convention})" if report.convention else ""
    parts = [
        _line(f"{report.protocol}{convention}: {headline}"),
        _line("by frame: J blue, F orange, 0 to 1"),
        *_rows(charts),
        _line("worst frames: green in both, red only in the result, blue only in the ground truth"),
        *_rows(tiles),
    ]
    return np.concatenate(parts)


def worst_frames(curves: Sequence[FrameCurve], most: int) -> list[tuple[FrameCurve, int]]:
    """The frames with the lowest J + F, worst first; of neighbouring frames of an object only the worst one.

    Parameters
    ----------
    curves:
        The objects.
    most:
        How many frames at most.
    """
    scored = [(j + f, curve, index) for curve in curves for index, (j, f) in enumerate(zip(curve.j, curve.f))]
    chosen: list[tuple[FrameCurve, int]] = []
    for score, curve, index in sorted(scored, key=lambda item: item[0]):
        near = any(other is curve and abs(index - place) < 8 for other, place in chosen)
        if score < 2 and not near:
            chosen.append((curve, index))
        if len(chosen) == most:
            break
    return chosen


def _line(text: str) -> np.ndarray:
    """A line of text over the whole width."""
    image = np.full((_CAPTION + 12, _WIDTH, 3), _PAPER, np.uint8)
    _write(image, text, (_MARGIN, _CAPTION))
    return image


def _write(image: np.ndarray, text: str, place: tuple[int, int], scale: float = 0.5) -> None:
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)


def _rows(cells: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Cells side by side, rows as high as their highest cell."""
    rows = []
    for start in range(0, len(cells), _COLUMNS):
        row = cells[start : start + _COLUMNS]
        page = np.full((max(cell.shape[0] for cell in row) + 12, _WIDTH, 3), _PAPER, np.uint8)
        for column, cell in enumerate(row):
            left = _MARGIN + column * (cell.shape[1] + _MARGIN)
            page[: cell.shape[0], left : left + cell.shape[1]] = cell
        rows.append(page)
    return rows


def _chart(curve: FrameCurve, width: int) -> np.ndarray:
    """J and F over the counted frames of an object."""
    image = np.full((_CHART_HEIGHT + _CAPTION, width, 3), _PAPER, np.uint8)
    _write(image, f"{_name(curve)}   J {np.mean(curve.j):.3f}  F {np.mean(curve.f):.3f}", (0, 16))
    top, bottom = _CAPTION, _CAPTION + _CHART_HEIGHT - 1
    for share in (0, 0.5, 1):
        y = round(bottom - share * (bottom - top))
        cv2.line(image, (0, y), (width - 1, y), _FAINT, 1)
    x = np.linspace(0, width - 1, max(len(curve.j), 2))[: len(curve.j)]
    for values, colour in ((curve.f, _F_COLOUR), (curve.j, _J_COLOUR)):
        y = bottom - np.asarray(values) * (bottom - top)
        cv2.polylines(image, [np.stack([x, y], axis=1).round().astype(np.int32)], False, colour, 2, cv2.LINE_AA)
    return image


def _name(curve: FrameCurve) -> str:
    return f"{curve.sequence}_{curve.object}" if curve.object else curve.sequence


def _tile(curve: FrameCurve, index: int, width: int) -> np.ndarray:
    """A frame with what is right, wrong and missed."""
    path = curve.truth[index]
    truth, result = read_labels(path), read_labels(curve.results / path.name)
    number = curve.object if curve.prediction is None else curve.prediction
    truth = truth == curve.object if curve.object else truth != 0
    result = result == number if curve.object else result != 0
    image = _picture(path, truth.shape)
    for where, colour in ((truth & result, _RIGHT), (result & ~truth, _WRONG), (truth & ~result, _MISSED)):
        image[where] = (0.45 * image[where] + 0.55 * np.array(colour)).astype(np.uint8)
    height = round(width * truth.shape[0] / truth.shape[1])
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    caption = f"{_name(curve)} {path.stem}  J {curve.j[index]:.3f}  F {curve.f[index]:.3f}"
    write_text(image, caption, (8, height - 10), scale=0.5)
    return image


def _picture(mask: Path, size: tuple[int, int]) -> np.ndarray:
    """The frame of a mask, from JPEGImages beside the annotations; dark grey where there is none of this size."""
    folder = next((parent for parent in mask.parents if parent.name.startswith("Annotations")), None)
    if folder is not None:
        path = (folder.parent / "JPEGImages" / mask.relative_to(folder)).with_suffix(".jpg")
        if path.is_file():
            with Image.open(path) as image:
                if image.size == size[::-1]:
                    return np.array(image.convert("RGB"))
    return np.full((*size, 3), 48, np.uint8)
