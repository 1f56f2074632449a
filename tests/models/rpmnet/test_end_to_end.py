"""From clips without masks to a tracked clip, through the command line."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.torch import load_file

import pliant
from pliant.cli import main
from pliant.datasets.sources import Sources
from pliant.errors import InputError
from pliant.models.rpmnet.recipe import from_sources
from pliant.video import read_masks


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder with one image sequence: a disc that moves over a smooth picture."""
    random = np.random.default_rng(0)
    picture = cv2.resize(random.integers(0, 256, (12, 16, 3), np.uint8), (96, 72), interpolation=cv2.INTER_CUBIC)
    folder = tmp_path / "clips" / "disc"
    folder.mkdir(parents=True)
    for t in range(4):
        frame = picture.copy()
        cv2.circle(frame, (30 + 5 * t, 36), 14, (40, 40, 255), -1)
        cv2.imwrite(str(folder / f"{t:05d}.png"), frame)
    mask = np.zeros((72, 96), np.uint8)
    cv2.circle(mask, (30, 36), 14, 1, -1)
    cv2.imwrite(str(tmp_path / "first.png"), mask)
    return tmp_path


def run(*arguments: object) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 0


def test_train_then_track(clips: Path):
    out, result = clips / "run", clips / "result"
    options = ("--steps", 2, "--batch-size", 2, "--workers", 0, "-q")
    run("train", "rpmnet", "--videos", clips / "clips", "--out", out, *options)
    weights = load_file(out / "weights.safetensors")
    assert set(weights) == set(pliant.build("rpmnet").state_dict())
    run("track", clips / "clips" / "disc", "--mask", clips / "first.png", "--model", "rpmnet",
        "--weights", out / "weights.safetensors", "--out", result, "-q")  # fmt: skip
    masks = read_masks(result / "masks").frames
    # After two steps features are still nearly random: the disc is kept and stays about where it was given.
    first = cv2.imread(str(clips / "first.png"), cv2.IMREAD_UNCHANGED) > 0
    assert len(masks) == 4
    for labels in masks.values():
        assert (first & (labels == 1)).sum() > 0.3 * (first | (labels == 1)).sum()


def test_pictures_alone_are_set_in_motion(tmp_path: Path):
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        picture = cv2.resize(random.integers(0, 256, (12, 16, 3), np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
    sources = Sources(photos=(tmp_path,), cache=tmp_path / "cache")
    recipe = from_sources(sources)
    sample = recipe.sample(0, 0, 0.5)
    assert sample["target"].shape == (3, 256, 256) and not np.array_equal(sample["target"], sample["reference"])
    assert all(np.array_equal(value, recipe.sample(0, 0, 0.5)[name]) for name, value in sample.items())


def test_nothing_to_learn_from_says_so():
    with pytest.raises(InputError, match="give --videos or --photos"):
        from_sources(Sources())
