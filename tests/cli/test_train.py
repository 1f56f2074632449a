"""``pliant train`` end to end, small."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image
from test_track import scene


def run(*arguments) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "pliant", "train", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two clips in DAVIS layout."""
    root = tmp_path_factory.mktemp("DAVIS")
    for name in ("one", "two"):
        for t in range(6):
            image, mask = scene(t)
            for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
                folder = root / kind / "480p" / name
                folder.mkdir(parents=True, exist_ok=True)
                if suffix == "jpg":
                    cv2.imwrite(str(folder / f"{t:05d}.jpg"), image)
                else:
                    Image.fromarray((mask > 0).astype(np.uint8)).save(folder / f"{t:05d}.png")
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/train.txt").write_text("one\ntwo\n")
    return root


@pytest.mark.slow
def test_fine_tuning_says_what_it_gained_on_what_was_held_back(clips, tmp_path):
    arguments = ["spvos_small", "--from", "spvos_small", "--data", clips, "--out", tmp_path]
    done = run(*arguments, "--batch-size", 1, "--workers", 0, "--steps", 2, "--learning-rate", 1e-5)
    assert done.returncode == 0, done.stderr
    assert "J on what was held back (two):" in done.stdout and "before:" in done.stdout
    assert (tmp_path / "weights.safetensors").is_file()
    score = float(done.stdout.split("(two): ")[1].split(",")[0])
    assert score > 0.7


def test_what_is_missing_is_named(tmp_path):
    done = run("spvos_small", "--out", tmp_path / "run")
    assert done.returncode == 1
    assert "give --photos or --data" in done.stderr and "fetch-training-data" in done.stderr
    done = run("spvos_smal", "--out", tmp_path / "run")
    assert done.returncode == 1 and "did you mean spvos_small" in done.stderr
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "x.png"), np.zeros((240, 240, 3), np.uint8))
    pictures = "--photos", tmp_path / "photos", "--out", tmp_path / "run"
    done = run("spvos_small", "--teacher", "spvos_small", *pictures)
    assert done.returncode == 1 and "does not learn from a teacher" in done.stderr
    done = run("spvos_light", "--teacher", tmp_path / "nobody.safetensors", *pictures)
    assert done.returncode == 1 and "nobody.safetensors: no such file" in done.stderr
