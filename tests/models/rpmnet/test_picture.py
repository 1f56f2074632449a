"""Offsets as colours."""

from __future__ import annotations

import runpy

import numpy as np
import pytest

from conftest import ROOT
from pliant.models import rpmnet
from pliant.models.rpmnet.picture import offset_picture


def is_drawn(dy: float, dx: float, colour: tuple[int, int, int], largest: float | None = 2.0) -> bool:
    picture = offset_picture(np.full((2, 1, 1), [[[dy]], [[dx]]], np.float32), largest)
    return bool(np.abs(picture[0, 0].astype(int) - colour).max() <= 1)


def test_direction_is_hue_and_length_saturation():
    assert is_drawn(0, 0, (255, 255, 255))
    assert is_drawn(0, 2, (255, 0, 0))  # from the right
    assert is_drawn(2, 0, (127, 255, 0))  # from below
    assert is_drawn(0, -2, (0, 255, 255))
    assert is_drawn(-2, 0, (127, 0, 255))
    assert is_drawn(0, 1, (255, 127, 127)) and is_drawn(0, 5, (255, 0, 0))


def test_the_longest_saturates_where_nothing_is_said():
    assert is_drawn(0, 0.3, (255, 0, 0), None)
    assert is_drawn(0, 0, (255, 255, 255), None)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"offset \[3, 4, 4\]: expected \[2, H, W\]"):
        offset_picture(np.zeros((3, 4, 4)))


def test_the_picture_of_the_docs_shows_what_was_found():
    panels = runpy.run_path(str(ROOT / "docs" / "pictures" / "rpmnet_offsets.py"))["panels"]
    reference = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    network = rpmnet.build().eval()
    last = network.matching.layers[-1].deform_conv
    last.weight.data.zero_()
    last.bias.data[1] = 1
    target, given, colours, rebuilt = np.split(panels(network, reference[:, ::-1].copy(), reference), 4, 1)
    assert np.array_equal(target, reference[:, ::-1]) and np.array_equal(given, reference)
    assert (colours == (255, 0, 0)).all()  # everything came from the right, by a cell of 4 pixels
    assert np.array_equal(rebuilt[:, :-4], reference[:, 4:]) and not rebuilt[:, -4:].any()
