"""Colours against known values of Lab under D65."""

from __future__ import annotations

import pytest
import torch

from pliant.models.rpmnet import colour

# sRGB -> Lab as published for D65 and the 2 degree observer (to 0.01 where the white point is (0.95047, 1,
# 1.08883)).
KNOWN = {
    (255, 255, 255): (100.0, 0.0, 0.0),
    (0, 0, 0): (0.0, 0.0, 0.0),
    (255, 0, 0): (53.24, 80.09, 67.20),
    (0, 255, 0): (87.73, -86.18, 83.18),
    (0, 0, 255): (32.30, 79.19, -107.86),
    (128, 128, 128): (53.59, 0.0, 0.0),
}


@pytest.mark.parametrize("rgb", KNOWN, ids=str)
def test_lab(rgb: tuple[int, int, int]):
    pixel = torch.tensor(rgb, dtype=torch.float64).reshape(3, 1, 1) / 255
    lab = colour.rgb_to_lab(pixel).flatten()
    torch.testing.assert_close(lab, torch.tensor(KNOWN[rgb], dtype=torch.float64), atol=0.02, rtol=0)


def test_channels_are_about_minus_1_to_1():
    image = torch.rand(2, 3, 8, 8)
    for space in ("lab", "rgb"):
        assert colour.from_rgb(image, space).abs().max() <= 1.0


def test_a_normalised_image_has_the_colours_of_the_image():
    image = torch.rand(1, 3, 4, 4)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (image - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1)
    torch.testing.assert_close(colour.from_normalised(normalised, "lab"), colour.from_rgb(image, "lab"))


def test_an_unknown_space_is_named():
    with pytest.raises(ValueError, match="colour space 'hsv': expected 'lab' or 'rgb'"):
        colour.from_rgb(torch.rand(3, 2, 2), "hsv")
