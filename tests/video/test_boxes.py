"""A box becomes a mask where colours allow it, and a clear sentence where it does not."""

from __future__ import annotations

import numpy as np
import pytest

import pliant
from conftest import shared
from pliant.errors import MaskError
from pliant.video.boxes import mask_from_box
from pliant.video.masks import read_masks
from pliant.video.read_images import load_image


@pytest.fixture
def scene():
    """A reddish disc on a greenish, noisy ground, and where it is."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:200, :300]
    disc = (y - 90) ** 2 + (x - 150) ** 2 < 50**2
    image = np.where(disc[..., None], (190, 70, 60), (70, 130, 60)) + random.integers(-25, 25, (200, 300, 3))
    return image.astype(np.uint8), disc


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


def test_the_object_in_the_box(scene):
    image, disc = scene
    mask = pliant.mask_from_box(image, (95, 36, 205, 145))
    assert mask.dtype == np.bool_ and mask.shape == disc.shape
    assert overlap(mask, disc) > 0.95


def test_large_images_are_cut_at_a_smaller_size(scene):
    image, disc = (np.kron(part, np.ones((5, 5) + (1,) * (part.ndim - 2), part.dtype)) for part in scene)
    assert overlap(mask_from_box(image, (475, 180, 1025, 725)), disc) > 0.94


def test_nothing_outside_the_box(scene):
    image, _ = scene
    mask = mask_from_box(image, (95, 36, 150, 145))
    assert mask.any() and not mask[:, 150:].any()


def test_the_same_twice(scene):
    image, _ = scene
    assert np.array_equal(mask_from_box(image, (95, 36, 205, 145)), mask_from_box(image, (95, 36, 205, 145)))


def test_a_box_may_reach_over_the_border(scene):
    image, disc = scene
    moved = np.roll(image, -120, axis=1)
    mask = mask_from_box(moved, (-20, 36, 85, 145))
    assert overlap(mask[:, :180], np.roll(disc, -120, axis=1)[:, :180]) > 0.93


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((10, 10, 10, 50), r"the box 10,10,10,50 is empty: expected x0,y0,x1,y1 with x0 < x1 and y0 < y1"),
        ((400, 10, 450, 50), r"the box 400,10,450,50 lies outside the image of 300 x 200 pixels"),
        ((10, 10, 12, 50), r"the box 10,10,12,50 is too small: at least 4 x 4 pixels"),
        ((0, 0, 300, 200), r"the box covers the whole image: leave some background around the object"),
        ((1, 2, 3), r"a box is four numbers x0,y0,x1,y1; got 1, 2, 3"),
        ((1, 2, 3, float("nan")), r"a box is four numbers"),
    ],
)
def test_boxes_that_are_none(scene, box, message):
    with pytest.raises(MaskError, match=message):
        mask_from_box(scene[0], box)


def test_an_image_of_another_kind(scene):
    with pytest.raises(ValueError, match=r"an image is \[H, W, 3\] uint8; got float64"):
        mask_from_box(scene[0] / 255, (95, 36, 205, 145))


def test_a_real_dog():
    folder = shared("data", "davis-dev")
    image = load_image(folder / "JPEGImages" / "480p" / "dog" / "00000.jpg")
    truth = read_masks(folder / "Annotations" / "480p" / "dog" / "00000.png").frames[0] > 0
    rows, columns = np.flatnonzero(truth.any(1)), np.flatnonzero(truth.any(0))
    mask = mask_from_box(image, (columns[0] - 3, rows[0] - 3, columns[-1] + 4, rows[-1] + 4))
    assert overlap(mask, truth) > 0.6
