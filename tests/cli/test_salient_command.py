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
from pliant.cli.evaluate import evaluate_command
from pliant.cli.salient import salient
from pliant.cli.salient_dataset import salient_dataset


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


def test_every_sequence_of_a_dataset(clip, weights, tmp_path):
    root = tmp_path / "DAVIS"
    for name in ("one", "two"):
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / "480p" / name).mkdir(parents=True)
        for t in range(9):
            Image.open(clip / f"{t}.png").save(root / "JPEGImages/480p" / name / f"{t:05d}.jpg")
            mask = np.zeros((40, 64), np.uint8)
            mask[10:30, 10:40] = 1
            Image.fromarray(mask).save(root / "Annotations/480p" / name / f"{t:05d}.png")
    for year in ("2016", "2017"):
        (root / "ImageSets" / year).mkdir(parents=True)
        (root / "ImageSets" / year / "val.txt").write_text("one\ntwo\n")

    def run(command, *arguments):
        return CliRunner().invoke(command, [str(a) for a in arguments])

    options = ("-o", tmp_path / "results", "--model", "d2conv3d_tiny", "--weights", weights, "--size", 40)
    done = run(salient_dataset, root, *options)
    assert done.exit_code == 0 and "2 sequences in" in done.output
    files = sorted(str(p.relative_to(tmp_path / "results")) for p in (tmp_path / "results").rglob("*"))
    assert files == ["one", *(f"one/{t:05d}.png" for t in range(9)), "two", *(f"two/{t:05d}.png" for t in range(9))]
    images = root / "JPEGImages/480p/one"
    alone = call(images, "-o", tmp_path / "alone", "--model", "d2conv3d_tiny", "--weights", weights, "--size", 40)
    assert alone.exit_code == 0
    for t in range(9):
        of_dataset, of_clip = (tmp_path / folder / f"{t:05d}.png" for folder in ("results/one", "alone/masks"))
        assert np.array_equal(np.array(Image.open(of_dataset)), np.array(Image.open(of_clip)))
    again = run(salient_dataset, root, *options)
    assert "--resume" in str(again.exception)
    assert "0 sequences in" in run(salient_dataset, root, *options, "--resume").output
    merged = run(salient_dataset, root, *options, "--overwrite", "--one-object")
    assert merged.exit_code == 0, merged.output
    files = (tmp_path / "results").glob("*/*.png")
    assert all(np.isin(np.array(Image.open(file)), (0, 1)).all() for file in files)
    scored = run(evaluate_command, "davis2016", "--gt", root, "--results", tmp_path / "results")
    assert scored.exit_code == 0, scored.output
