"""Numbers out of PNG files, whatever wrote them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pliant.datasets.labels import png_size, read_labels, read_values
from pliant.errors import MaskError
from pliant.video.masks import write_mask

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, 7, (13, 17)).astype(np.uint8)


def palette_image(labels: np.ndarray) -> Image.Image:
    image = Image.fromarray(labels, "P")
    image.putpalette(list(range(256)) * 3)
    return image


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_mask(path, LABELS),
        lambda path: Image.fromarray(LABELS).save(path),
        lambda path: palette_image(LABELS).save(path, optimize=True),
        lambda path: palette_image(LABELS).save(path, bits=4),
        lambda path: cv2.imwrite(str(path), LABELS),
        lambda path: cv2.imwrite(str(path), LABELS, [cv2.IMWRITE_PNG_COMPRESSION, 9]),
        lambda path: Image.merge("LA", (Image.fromarray(LABELS), Image.new("L", (17, 13), 255))).save(path),
    ],
    ids=["ours", "grey", "palette", "palette of 4 bits", "opencv", "opencv filtered", "grey with transparency"],
)
def test_stored_numbers_come_out(write, tmp_path):
    path = tmp_path / "mask.png"
    write(path)
    labels = read_labels(path)
    assert labels.dtype == np.uint8 and np.array_equal(labels, LABELS)
    assert png_size(path) == (13, 17)


def test_one_bit_is_0_and_1(tmp_path):
    Image.fromarray(LABELS > 3).save(tmp_path / "mask.png")
    assert np.array_equal(read_labels(tmp_path / "mask.png"), LABELS > 3)


def test_sixteen_bits_are_values_and_no_labels(tmp_path):
    values = LABELS.astype(np.uint16) * 1000
    Image.fromarray(values).save(tmp_path / "mask.png")
    assert np.array_equal(read_values(tmp_path / "mask.png"), values)
    with pytest.raises(MaskError, match="16-bit"):
        read_labels(tmp_path / "mask.png")


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_any_size(tmp_path_factory, height, width, seed):
    labels = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    path = tmp_path_factory.mktemp("any") / "mask.png"
    write_mask(path, labels)
    assert np.array_equal(read_labels(path), labels)


def test_colours_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(MaskError, match=r"mask\.png is a colour image, an indexed PNG is expected"):
        read_labels(tmp_path / "mask.png")


@pytest.mark.parametrize("keep", [0, 5, 20, 50, -20])
def test_a_damaged_file_is_named(keep, tmp_path):
    path = tmp_path / "mask.png"
    write_mask(path, LABELS)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(MaskError, match=r"mask\.png cannot be read as an image"):
        read_labels(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MaskError, match=r"there is no mask .*mask\.png"):
        read_labels(tmp_path / "mask.png")
