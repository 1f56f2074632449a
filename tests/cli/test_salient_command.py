"""``pliant salient`` from a clip to a folder, and what it says when something is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file

import pliant
from pliant.cli import main
from pliant.cli.salient import salient


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(pliant.build("d2conv3d_tiny").state_dict(), path)
    return path


@pytest.fixture
def clip(tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(9):
        Image.fromarray(rng.integers(0, 255, (40, 64, 3), np.uint8)).save(folder / f"{index}.png")
    return folder


def call(*arguments):
    return CliRunner().invoke(salient, [str(a) for a in arguments])


def test_from_a_clip_to_a_folder(clip, weights, tmp_path):
    result = call(clip, "-o", tmp_path / "out", "--model", "d2conv3d_tiny", "--weights", weights,
                  "--size", 40, "--soft", "--show", "dilation,modulation")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "9 frames" in result.output
    for name in ("masks/0.png", "soft/8.png", "overlay.mp4", "dilation.mp4", "modulation.mp4"):
        assert (tmp_path / "out" / name).exists(), name
    assert f"soft masks:    {tmp_path / 'out' / 'soft'}" in result.output


def test_the_summary_as_json(clip, weights, tmp_path):
    result = call(clip, "-o", tmp_path / "out", "--model", "d2conv3d_tiny", "--weights", weights,
                  "--size", 40, "--json", "--precision", "fp32", "--keep-largest", 1)  # fmt: skip
    summary = json.loads(result.output)
    assert (summary["frames"], summary["keep_largest"], summary["precision"]) == (9, 1, "fp32")


def test_without_weights_it_says_what_is_needed(clip, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["salient", str(clip), "-o", str(tmp_path / "out"), "--model", "d2conv3d"])
    assert stop.value.code == 1
    assert "pliant carries no weights for 'd2conv3d': pass weights=PATH (--weights PATH)." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments, text",
    [
        ([], "give one source: CLIP, or --source ADDRESS."),
        (["--threshold", "1.5"], "1.5 is not in the range 0<x<1"),
        (["--show", "rates"], "'rates' cannot be shown; expected dilation or modulation."),
        (["--keep-largest", "0"], "0 is not in the range x>=1"),
    ],
)
def test_wrong_use_is_explained(arguments, text, tmp_path):
    result = call("-o", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert text in result.output


def test_too_much_overlap_is_explained(clip, weights, tmp_path):
    result = call(clip, "-o", tmp_path, "--model", "d2conv3d_tiny", "--weights", weights, "--overlap", 8)
    assert result.exit_code == 2
    assert "--overlap must be below the clip's 8 frames." in result.output


def test_a_source_that_is_not_there(weights, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["salient", str(tmp_path / "no.mp4"), "-o", str(tmp_path / "out"), "--model", "d2conv3d_tiny",
              "--weights", str(weights)])  # fmt: skip
    assert stop.value.code == 1
    assert "no.mp4" in capsys.readouterr().err
