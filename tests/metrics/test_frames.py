"""J and F: the plain formulas by hand, the fast ones against the plain ones on any masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pliant.metrics import (
    boundary_map,
    contour_accuracy,
    contour_radius,
    frame_scores,
    mask_scores,
    pair_scores,
    region_similarity,
)
from pliant.metrics.frames import present_ids


def mask(text: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in text.split()])


def test_region_similarity_by_hand():
    a, b = mask("##.. ##.. ...."), mask(".##. .##. ....")
    assert region_similarity(a, b) == 2 / 6
    assert region_similarity(a, a) == 1
    assert region_similarity(a, ~a) == 0


def test_two_empty_masks_agree():
    empty = np.zeros((5, 7), bool)
    assert region_similarity(empty, empty) == contour_accuracy(empty, empty) == 1
    assert mask_scores(empty, empty) == (1, 1)


def test_void_pixels_count_for_neither():
    a, b = mask("###."), mask(".###")
    assert region_similarity(a, b, void=mask("#...")) == 2 / 3
    assert region_similarity(a, b, void=mask("####")) == 1


def test_boundary_lies_up_and_left_of_the_edge():
    assert np.array_equal(boundary_map(mask(".... .##. .##. ....")), mask("###. #.#. ###. ...."))


def test_boundary_does_not_leave_the_image():
    assert not boundary_map(np.ones((4, 6), bool)).any()
    assert np.array_equal(boundary_map(mask("..# ..# ..#")), mask(".#. .#. .#."))


@pytest.mark.parametrize(("size", "radius"), [((480, 854), 8), ((1080, 1920), 18), ((75, 100), 1), ((1, 1), 1)])
def test_tolerance_follows_the_diagonal(size, radius):
    assert contour_radius(*size) == radius


def test_contour_accuracy_by_hand():
    line = mask("...... ...... ###### ...... ...... ......")  # boundary: rows 1 and 2
    moved = np.roll(line, 1, axis=0)  # rows 2 and 3
    assert contour_accuracy(line, moved, radius=1) == 1
    assert contour_accuracy(line, np.roll(line, 2, axis=0), radius=1) == pytest.approx(0.5)


def test_the_neighbourhood_is_a_disc():
    a, b = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    a[0, 0] = b[3, 3] = True  # boundaries: (0, 0) and (2, 2), (2, 3), (3, 2), (3, 3)
    assert contour_accuracy(a, b, radius=2) == 0  # (2, 2) is 2.83 away
    assert contour_accuracy(a, b, radius=3) == pytest.approx(2 * 0.25 / 1.25)


def test_full_against_empty_has_no_boundary_on_either_side():
    full, empty = np.ones((4, 4), bool), np.zeros((4, 4), bool)
    assert mask_scores(full, empty) == (0, 1)


@st.composite
def two_masks(draw):
    """Rectangles, noise, full and empty masks that touch every border."""
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    masks = []
    for _ in range(2):
        kind = draw(st.sampled_from(["empty", "full", "noise", "box", "box", "box"]))
        drawn = np.zeros((height, width), bool)
        if kind == "full":
            drawn[:] = True
        elif kind == "noise":
            drawn = generator.random((height, width)) < generator.random()
        elif kind == "box":
            y, x = generator.integers(0, height), generator.integers(0, width)
            drawn[y : y + generator.integers(1, height + 1), x : x + generator.integers(1, width + 1)] = True
        masks.append(drawn)
    return masks


@settings(max_examples=150, deadline=None)
@given(two_masks(), st.integers(1, 12))
def test_fast_equals_plain_bit_for_bit(masks, radius):
    a, b = masks
    plain = region_similarity(a, b), contour_accuracy(a, b, radius)
    assert mask_scores(a, b, radius) == plain
    j, f = frame_scores(a.astype(np.uint8) * 3, b.astype(np.uint8) * 3, [3, 4], radius)
    assert (j[0], f[0]) == plain and (j[1], f[1]) == (1, 1)


@settings(max_examples=40, deadline=None)
@given(two_masks(), two_masks(), st.booleans())
def test_pairs_equal_single_masks(masks, others, with_void):
    size = masks[0].shape
    generator = np.random.default_rng(0)
    prediction = np.where(masks[0], generator.integers(1, 4, size), 0)
    truth = np.where(masks[1], generator.integers(1, 3, size), 0)
    void = others[0] if with_void and others[0].shape == size else None
    j, f = pair_scores(prediction, truth, 4, 3, void)
    if void is not None:
        prediction, truth = prediction * ~void, truth * ~void
    for q in range(4):
        for k in range(3):
            assert (j[q, k], f[q, k]) == mask_scores(prediction == q + 1, truth == k + 1)


@settings(max_examples=40, deadline=None)
@given(two_masks())
def test_identical_masks_score_one(masks):
    assert mask_scores(masks[0], masks[0]) == (1, 1)


@settings(max_examples=40, deadline=None)
@given(two_masks())
def test_order_does_not_matter(masks):
    a, b = masks
    assert mask_scores(a, b) == mask_scores(b, a)


def test_flips_do_not_matter_away_from_the_border():
    """The boundary is drawn up and left of the edge, the same for both masks: a flip moves it by a pixel in both."""
    a, b = np.zeros((2, 40, 50), bool)
    a[10:25, 12:30] = True
    b[12:28, 15:29] = True
    expected = mask_scores(a, b)
    assert mask_scores(a[::-1], b[::-1])[0] == mask_scores(a[:, ::-1], b[:, ::-1])[0] == expected[0]
    assert mask_scores(a[:, ::-1], b[:, ::-1])[1] == pytest.approx(expected[1], abs=1e-12)


def test_relabelling_moves_the_scores_along():
    generator = np.random.default_rng(1)
    prediction, truth = generator.integers(0, 4, (2, 20, 30))
    renamed = np.array([0, 3, 1, 2])
    j, f = frame_scores(prediction, truth, [1, 2, 3])
    j_renamed, f_renamed = frame_scores(renamed[prediction], renamed[truth], [3, 1, 2])
    assert (j, f) == (j_renamed, f_renamed)


def test_sizes_must_agree():
    with pytest.raises(ValueError, match=r"prediction is \(3, 4\), truth is \(4, 3\)"):
        frame_scores(np.zeros((3, 4)), np.zeros((4, 3)), [1])


def test_present_ids():
    assert present_ids(np.array([[0, 9, 9], [255, 1, 0]], np.uint8)) == [1, 9, 255]
