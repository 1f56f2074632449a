"""A run on one page: frames evenly spaced with their objects, and for each object when it was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pliant.video.draw import BRIGHT, draw_overlay, write_text

__all__ = ["ContactSheet"]

_INK, _PAPER, _FAINT, _MARK = (40, 40, 44), (250, 250, 248), (206, 206, 210), (20, 120, 200)
_MARGIN, _GAP, _CAPTION, _BAR, _BAR_TITLE = 24, 12, 22, 16, 190


@dataclass(slots=True)
class _Tile:
    index: int
    picture: np.ndarray
    given: bool
    caption: str


class ContactSheet:
    """Collects small pictures while a video of unknown length goes by; never holds more than it needs.

    Args:
        tiles: how many frames to show at most.
        width: width of a picture on the sheet, in pixels; narrower for upright video.
    """

    def __init__(self, *, tiles: int = 12, width: int = 400) -> None:
        self._most = tiles
        self._width = width
        self._every = 1
        self._even: list[_Tile] = []  # frames 0, every, 2 * every, ...
        self._given: list[_Tile] = []
        self._last: tuple | None = None

    def add(
        self,
        index: int,
        seconds: float,
        image: np.ndarray,
        labels: np.ndarray,
        *,
        given: bool = False,
        confidence: Mapping[int, float] | None = None,
        lost: Sequence[int] = (),
    ) -> None:
        """Takes one frame; frames come in order.

        Args:
            index: of the frame.
            seconds: when it is shown.
            image: [H, W, 3] uint8 RGB.
            labels: [H, W] uint8.
            given: a person marked this frame.
            confidence: id -> 0..1.
            lost: ids that are not seen.
        """
        self._last = (index, seconds, image, labels, given, confidence, lost)
        wanted = index % self._every == 0
        if not wanted and not (given and len(self._given) < self._most):
            return
        tile = self._tile(*self._last)
        if given and len(self._given) < self._most:
            self._given.append(tile)
        if wanted:
            self._even.append(tile)
            if len(self._even) > 2 * self._most:
                self._every *= 2
                self._even = [kept for kept in self._even if kept.index % self._every == 0]

    def draw(
        self,
        *,
        title: str = "",
        objects: Mapping[int, str] | None = None,
        seen: Mapping[int, Sequence[bool]] | None = None,
        confidence: Mapping[int, float] | None = None,
    ) -> np.ndarray:
        """The sheet, [H, W, 3] uint8 RGB.

        Args:
            title: a line above.
            objects: id -> name, for the time lines.
            seen: id -> for every frame whether the object was found; gaps are drawn as lost.
            confidence: id -> mean, 0..1, written beside the time line.
        """
        tiles = self._chosen()
        if not tiles:
            raise ValueError("a contact sheet needs at least one frame.")
        height, width = tiles[0].picture.shape[:2]
        down = -(-len(tiles) // max(2, round((1600 - 2 * _MARGIN) / (width + _GAP))))
        across = -(-len(tiles) // down)  # rows of one length as far as it goes
        page_width = max(2 * _MARGIN + across * width + (across - 1) * _GAP, 560)
        top = _MARGIN + (34 if title else 0)
        lines = len(seen or {})
        bars = lines * (_BAR + 8) + 34 if lines else 0
        page_height = top + down * (height + _CAPTION + _GAP) + bars + _MARGIN
        page = np.full((page_height, page_width, 3), _PAPER, np.uint8)
        if title:
            _plain_text(page, title, (_MARGIN, _MARGIN + 16), 0.62)
        for number, tile in enumerate(tiles):
            x = _MARGIN + number % across * (width + _GAP)
            y = top + number // across * (height + _CAPTION + _GAP)
            page[y : y + height, x : x + width] = tile.picture
            if tile.given:
                cv2.rectangle(page, (x - 3, y - 3), (x + width + 2, y + height + 2), _MARK, 3)
            _plain_text(page, tile.caption, (x, y + height + 16), 0.42, _MARK if tile.given else _INK)
        if lines:
            marked = [tile.index for tile in self._given]
            y = top + down * (height + _CAPTION + _GAP) + 12
            self._draw_time_lines(page, y, objects or {}, seen, confidence or {}, marked)
        return page

    def _tile(self, index, seconds, image, labels, given, confidence, lost) -> _Tile:
        height, width = image.shape[:2]
        scale = min(self._width / width, self._width / height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture = cv2.resize(draw_overlay(image, labels, outline=max(1, round(1.5 / scale))), size,
                             interpolation=cv2.INTER_AREA)  # fmt: skip
        caption = f"frame {index}   {seconds:.2f} s"
        if given:
            caption += "   mask given"
        elif confidence:
            caption += "   sure: " + "  ".join(f"{value:.2f}" for _, value in sorted(confidence.items())[:6])
        if lost:
            text = "lost: " + ", ".join(str(identity) for identity in sorted(lost)[:8])
            write_text(picture, text, (8, size[1] - 10), scale=0.5, colour=(255, 210, 90))
        return _Tile(index, picture, given, caption)

    def _chosen(self) -> list[_Tile]:
        """Frames with given masks, then evenly spaced ones with the last among them; in order of time."""
        chosen = {tile.index: tile for tile in self._given[: self._most // 2]}
        even = {tile.index: tile for tile in self._even}
        if self._last is not None and self._last[0] not in even:
            even[self._last[0]] = self._tile(*self._last)
        room = self._most - len(chosen)
        rest = [tile for index, tile in sorted(even.items()) if index not in chosen]
        if len(rest) > room:
            rest = [rest[round(i)] for i in np.linspace(0, len(rest) - 1, room)]
        chosen.update({tile.index: tile for tile in rest})
        return [tile for _, tile in sorted(chosen.items())]

    def _draw_time_lines(self, page, y, objects, seen, confidence, marked) -> None:
        left, right = _MARGIN + _BAR_TITLE, page.shape[1] - _MARGIN - 60
        for identity, found in sorted(seen.items()):
            name = objects.get(identity, "")
            cv2.rectangle(page, (_MARGIN, y), (_MARGIN + _BAR, y + _BAR), BRIGHT[identity].tolist(), -1)
            _plain_text(page, f"{identity}  {name}"[:24], (_MARGIN + _BAR + 8, y + 13), 0.42)
            cv2.rectangle(page, (left, y), (right, y + _BAR), _FAINT, -1)
            flags = np.concatenate(([False], np.asarray(found, bool), [False]))
            edges = np.flatnonzero(flags[1:] != flags[:-1])
            scale = (right - left) / max(1, len(found))
            for begin, end in zip(edges[::2], edges[1::2]):
                x0, x1 = left + round(begin * scale), left + round(end * scale)
                cv2.rectangle(page, (x0, y), (max(x0, x1 - 1), y + _BAR), BRIGHT[identity].tolist(), -1)
            if identity in confidence:
                _plain_text(page, f"{confidence[identity]:.2f}", (right + 10, y + 13), 0.42)
            for index in marked:
                x = left + round((index + 0.5) * scale)
                cv2.line(page, (x, y - 2), (x, y + _BAR + 2), _MARK, 2)
            y += _BAR + 8
        legend = "seen in colour, lost in grey; blue: a mask was given"
        _plain_text(page, legend, (left, y + 12), 0.4, (110, 110, 116))


def _plain_text(page, text, place, scale, colour=_INK) -> None:
    text = text.encode("ascii", "replace").decode()  # the drawing library has no other letters
    cv2.putText(page, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
