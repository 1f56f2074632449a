"""Masks as runs, and polygons, against masks as pixels and against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pliant.errors import MaskError
from pliant.metrics.polygons import polygon_mask
from pliant.metrics.runs import disjoint_overlaps, from_code, from_mask, overlap, paint
from pliant.video import rle

masks = st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1), st.floats(0, 1))


def draw(height: int, width: int, seed: int, density: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.random((height, width)) < density, generator.random((height, width)) < generator.random()


@settings(max_examples=80, deadline=None)
@given(masks)
def test_overlap_and_area_count_pixels(parameters):
    a, b = draw(*parameters)
    runs, others = from_mask(a), from_code(rle.encode(b))
    assert runs.area == a.sum() and others.area == b.sum()
    assert overlap(runs, others) == overlap(others, runs) == (a & b).sum()


@settings(max_examples=40, deadline=None)
@given(masks)
def test_all_overlaps_in_one_pass(parameters):
    height, width, seed, _ = parameters
    a, b = np.random.default_rng(seed).integers(0, 5, (2, height, width))
    rows, columns = ([from_mask(labels == k) for k in range(1, 5)] for labels in (a, b))
    counted = [[((a == i) & (b == j)).sum() for j in range(1, 5)] for i in range(1, 5)]
    assert disjoint_overlaps(rows, columns).tolist() == counted
    assert disjoint_overlaps([], columns).shape == (0, 4)


def test_paint_puts_the_later_on_top():
    labels = np.array([[1, 1, 0], [2, 2, 0]])
    whole = from_mask(labels > 0)
    assert np.array_equal(paint([whole, from_mask(labels == 2)], [1, 2], (2, 3)), labels)


def test_code_with_runs_of_no_pixels():
    assert from_code({"size": [2, 3], "counts": [1, 0, 1, 2, 0, 1, 1]}).area == 3


def test_damaged_code():
    with pytest.raises(MaskError, match="6"):
        from_code({"size": [2, 3], "counts": [1, 2]})


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 60), st.integers(2, 60), st.integers(0, 2**32 - 1), st.sampled_from([1, 4, 1000]))
def test_polygons_as_pycocotools_draws_them(height, width, seed, grid):
    coco = pytest.importorskip("pycocotools.mask", reason="pip install 'pliant[coco]'")
    generator = np.random.default_rng(seed)
    polygons = [
        (np.round(generator.uniform(-5, max(height, width) + 5, 2 * generator.integers(3, 9)) * grid) / grid).tolist()
        for _ in range(generator.integers(1, 4))
    ]
    expected = coco.decode(coco.merge(coco.frPyObjects(polygons, height, width)))
    assert np.array_equal(polygon_mask(polygons, height, width), expected)
