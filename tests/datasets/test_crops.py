"""Crops: a function of seed and index, of the size asked for, out of photographs and film."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pliant.datasets.crops import Crops
from pliant.datasets.pictures import PictureStore, pack_pictures


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    red, green = np.zeros((220, 300, 3), np.uint8), np.zeros((260, 210, 3), np.uint8)
    red[..., 2], green[..., 1] = 200, 200
    cv2.imwrite(str(folder / "red.png"), red)
    cv2.imwrite(str(folder / "green.png"), green)
    return PictureStore(pack_pictures(folder / "pack.bin", photos=[folder], cutouts=[], films=[]))


def test_the_same_index_gives_the_same_crop(store):
    crops = Crops(store, seed=3, size=(96, 128))
    assert crops[5].shape == (96, 128, 3) and crops[5].dtype == np.uint8
    np.testing.assert_array_equal(crops[5], Crops(store, seed=3, size=(96, 128))[5])
    assert not np.array_equal(crops[5], Crops(store, seed=4, size=(96, 128))[5])


def test_every_picture_comes_and_light_varies(store):
    means = np.array([Crops(store, size=(64, 64))[i].mean((0, 1)) for i in range(40)])
    assert set(means.argmax(1)) == {0, 1}, "red first where the photograph is red"
    assert means.max(1).std() > 10


def test_a_crop_larger_than_the_picture_is_enlarged(store):
    assert Crops(store, size=(256, 256))[0].shape == (256, 256, 3)
