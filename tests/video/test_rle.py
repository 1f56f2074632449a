"""Run-length codes: exact to pycocotools, both ways, and damaged codes are told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pliant.errors import MaskError
from pliant.video import rle


def masks(seed: int) -> np.ndarray:
    """A mask of random size and texture: noise, blobs, stripes, empty, full."""
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 70, size=2)
    if seed % 5 == 0:
        return np.zeros((height, width), bool)
    if seed % 5 == 1:
        return np.ones((height, width), bool)
    coarse = random.random((height // 8 + 1, width // 8 + 1)) < 0.5
    blocks = np.kron(coarse, np.ones((8, 8), bool))[:height, :width]
    return blocks ^ (random.random((height, width)) < (0.5 if seed % 5 == 2 else 0.02))


def test_a_code_by_hand():
    mask = np.array([[0, 1, 1], [0, 0, 1]], bool)  # columns: 00 10 11
    assert rle.encode(mask, compress=False) == {"size": [2, 3], "counts": [2, 1, 1, 2]}
    # the fourth run is written as 2 - 1 = 1
    assert rle.encode(mask) == {"size": [2, 3], "counts": "2111"}
    assert rle.encode(~mask, compress=False)["counts"] == [0, 2, 1, 1, 2]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6))
def test_decoding_undoes_encoding(seed):
    mask = masks(seed)
    for compress in (True, False):
        code = rle.encode(mask, compress=compress)
        assert np.array_equal(rle.decode(code), mask)
        assert rle.area(code) == mask.sum()


@pytest.mark.parametrize("seed", range(40))
def test_text_equals_pycocotools(seed):
    coco = pytest.importorskip("pycocotools.mask")
    mask = masks(seed)
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = rle.encode(mask)
    assert ours == {"size": list(theirs["size"]), "counts": theirs["counts"].decode()}
    assert np.array_equal(rle.decode(theirs), mask)
    assert rle.area(theirs) == coco.area(theirs)


def test_runs_of_a_large_image_equal_pycocotools():
    coco = pytest.importorskip("pycocotools.mask")
    mask = np.zeros((2160, 3840), bool)
    mask[5:2000:7, 100:3700] = True
    mask[:, 2000:2500] = True  # one run of a million pixels: five groups, then large negative differences
    theirs = coco.encode(np.asfortranarray(mask.view(np.uint8)))["counts"].decode()
    assert rle.encode(mask)["counts"] == theirs
    assert np.array_equal(rle.decode(rle.encode(mask)), mask)


@pytest.mark.parametrize("seed", range(20))
def test_objects_in_one_pass_equal_objects_one_by_one(seed):
    random = np.random.default_rng(seed)
    labels = np.kron(random.integers(0, 4, (5, 7)), np.ones((3, 2), int)).astype(np.uint8)
    codes = rle.encode_objects(labels, [1, 2, 3, 9])
    for identity in (1, 2, 3):
        expected = rle.encode(labels == identity) if (labels == identity).any() else None
        assert codes[identity] == expected
    assert codes[9] is None


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ({"size": [2, 3], "counts": [2, 1]}, "its runs cover 3 pixels of 2 x 3 = 6."),
        ({"size": [2, 3], "counts": [8, -2]}, "some are negative"),
        ({"size": [2, 3], "counts": "2111" + chr(48 + 33)}, "it is cut off"),
        ({"size": [2, 3], "counts": "2 11"}, "characters that none can have"),
        ({"size": [2, 3], "counts": "P" * 20 + "0"}, "more than 60 bits"),
        ({"size": 6, "counts": [6]}, 'must be {"size": [height, width], "counts": text or list of integers}'),
        ({"counts": [6]}, "must be"),
    ],
)
def test_damaged_codes_are_told(code, message):
    with pytest.raises(MaskError) as caught:
        rle.decode(code)
    assert message in str(caught.value)


def test_wrong_number_of_axes():
    with pytest.raises(ValueError, match=r"a mask is \[H, W\]; this array has the shape \[2, 3, 4\]"):
        rle.encode(np.zeros((2, 3, 4)))
