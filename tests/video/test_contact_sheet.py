"""A contact sheet shows the marked frames, evenly spaced ones, and when each object was seen."""

from __future__ import annotations

import numpy as np
import pytest

from pliant.video.contact_sheet import ContactSheet
from pliant.video.draw import BRIGHT


def filled(frames, given=(0,), size=(60, 80), **options):
    """A sheet that has seen ``frames`` frames, frame n being grey level n."""
    sheet = ContactSheet(width=80, **options)
    for index in range(frames):
        image = np.full((*size, 3), index % 250, np.uint8)
        sheet.add(index, index / 25, image, np.zeros(size, np.uint8), given=index in given)
    return sheet


@pytest.mark.parametrize("frames", [1, 5, 12, 13, 240, 1001])
def test_frames_are_evenly_spaced_and_the_last_is_there(frames):
    shown = [tile.index for tile in filled(frames)._chosen()]
    assert len(shown) == min(frames, 12) and shown[0] == 0 and shown[-1] == frames - 1
    assert max(np.diff(shown), default=1) <= 2 * frames / 11 + 1


def test_marked_frames_are_always_shown():
    assert {0, 17, 501} <= {tile.index for tile in filled(1000, given=(0, 17, 501))._chosen()}


def test_few_pictures_are_held():
    sheet = filled(5000, given=range(0, 5000, 3))
    assert len(sheet._even) + len(sheet._given) <= 3 * 12


def test_time_lines_are_coloured_where_an_object_was_seen():
    sheet = filled(100)
    seen = [True] * 50 + [False] * 50
    page = sheet.draw(title="clip", objects={1: "dog"}, seen={1: seen})
    coloured = (page == BRIGHT[1]).all(axis=2)
    row = coloured[:, 200:].sum(axis=1).argmax()
    columns = np.flatnonzero(coloured[row, 200:])
    assert columns.size == pytest.approx((page.shape[1] - 24 - 60 - 214) / 2, abs=6)


def test_upright_video_gives_narrow_tiles():
    assert filled(3, size=(160, 90)).draw().shape[1] >= 560
    with pytest.raises(ValueError, match="a contact sheet needs at least one frame"):
        ContactSheet().draw()
