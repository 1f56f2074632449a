"""Masks between formats, there and back, through the command line."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pliant.cli import main
from pliant.datasets.labels import read_labels
from pliant.video.masks import write_mask


def make_videos(root: Path) -> Path:
    """Two videos, ids with a gap, an object that comes late, a frame without any."""
    labels = np.zeros((3, 20, 31), np.uint8)
    labels[0, 2:9, 3:12] = 2
    labels[2, 4:11, 3:12] = 2
    labels[2, 0:6, 20:31] = 5
    for name, frames in (("bear", labels), ("cows", labels[::2, ::-1, :17])):
        (root / name).mkdir(parents=True)
        for index, image in enumerate(frames):
            write_mask(root / name / f"{index:06d}.png", np.ascontiguousarray(image))
    return root


def pliant(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit:
        main([str(argument) for argument in arguments])
    return exit.value.code


def contents(root: Path) -> dict[str, list]:
    return {str(path.relative_to(root)): read_labels(path).tolist() for path in sorted(root.rglob("*.png"))}


@pytest.mark.parametrize("form", ["indexed", "objects", "youtube-vis", "mots"])
def test_there_and_back(form, tmp_path):
    source = make_videos(tmp_path / "masks")
    middle = tmp_path / ("middle.json" if form == "youtube-vis" else "middle")
    assert pliant("convert-masks", source, "--to", form, "-o", middle) == 0
    assert pliant("convert-masks", middle, "--to", "indexed", "-o", tmp_path / "back") == 0
    assert contents(tmp_path / "back") == contents(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["masks", "back", middle.name])


def test_results_need_the_annotations_for_names(tmp_path):
    source = make_videos(tmp_path / "masks")
    pliant("convert-masks", source, "--to", "youtube-vis", "-o", tmp_path / "annotations.json")
    pliant("convert-masks", source, "--to", "youtube-vis-results", "-o", tmp_path / "results.json")
    entries = json.loads((tmp_path / "results.json").read_text())
    assert [(entry["video_id"], entry["category_id"], entry["score"]) for entry in entries] == [
        (1, 1, 1.0),
        (1, 1, 1.0),
        (2, 1, 1.0),
    ]
    like = ("--like", tmp_path / "annotations.json")
    assert pliant("convert-masks", tmp_path / "results.json", *like, "--to", "indexed", "-o", tmp_path / "back") == 0
    assert contents(tmp_path / "back") == contents(source)


def test_what_is_written_can_be_evaluated(tmp_path):
    source = make_videos(tmp_path / "masks")
    pliant("convert-masks", source, "--to", "youtube-vis", "-o", tmp_path / "gt.json")
    pliant("convert-masks", source, "--to", "youtube-vis-results", "-o", tmp_path / "results.json")
    out = tmp_path / "o.json"
    paths = ("--gt", tmp_path / "gt.json", "--results", tmp_path / "results.json", "--json", out)
    assert pliant("evaluate", "youtube-vis", *paths) == 0
    assert json.loads(out.read_text())["summary"]["AP"] == pytest.approx(1)


def test_existing_output_is_left_alone(tmp_path, capsys):
    source = make_videos(tmp_path / "masks")
    (tmp_path / "out").mkdir()
    assert pliant("convert-masks", source, "--to", "mots", "-o", tmp_path / "out") == 1
    assert "is there already" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_a_bad_mask_leaves_nothing_behind(tmp_path, capsys):
    source = make_videos(tmp_path / "masks")
    write_mask(source / "cows" / "000001.png", np.zeros((5, 5), np.uint8))
    assert pliant("convert-masks", source, "--to", "objects", "-o", tmp_path / "out") == 1
    assert "000001" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]


def davis(root: Path, results: Path) -> Path:
    """A test set: images of all frames, and a list."""
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "test-dev.txt").write_text("bear\ncows\n")
    (root / "Annotations" / "480p").mkdir(parents=True)
    for path in results.rglob("*.png"):
        image = root / "JPEGImages" / "480p" / path.parent.name / f"{path.stem}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.touch()
    return root


def test_davis_zip_has_the_sequences_at_the_top(tmp_path):
    results = make_videos(tmp_path / "masks")
    like = davis(tmp_path / "DAVIS", results)
    assert pliant("convert-masks", results, "--to", "davis-zip", "--like", like, "-o", tmp_path / "a.zip") == 0
    names = zipfile.ZipFile(tmp_path / "a.zip").namelist()
    assert names == [f"bear/{index:06d}.png" for index in range(3)] + ["cows/000000.png", "cows/000001.png"]


def test_davis_zip_of_incomplete_results_is_refused(tmp_path, capsys):
    results = make_videos(tmp_path / "masks")
    like = davis(tmp_path / "DAVIS", results)
    (results / "cows" / "000001.png").unlink()
    assert pliant("convert-masks", results, "--to", "davis-zip", "--like", like, "-o", tmp_path / "a.zip") == 1
    error = capsys.readouterr().err
    assert "cows" in error and "000001" in error
    assert not (tmp_path / "a.zip").exists()


def test_youtube_vos_zip_has_annotations_around_the_asked_frames(tmp_path):
    results = make_videos(tmp_path / "masks")
    objects = {"1": {"category": "bear", "frames": ["000000", "000002"]}, "2": {"frames": ["000002"]}}
    (tmp_path / "meta.json").write_text(json.dumps({"videos": {"bear": {"objects": objects}}}))
    out = tmp_path / "a.zip"
    assert pliant("convert-masks", results, "--to", "youtube-vos-zip", "--like", tmp_path, "-o", out) == 0
    assert zipfile.ZipFile(out).namelist() == ["Annotations/bear/000000.png", "Annotations/bear/000002.png"]


def test_youtube_vis_zip_has_results_json_alone(tmp_path, capsys):
    source = make_videos(tmp_path / "masks")
    pliant("convert-masks", source, "--to", "youtube-vis", "-o", tmp_path / "like.json")
    pliant("convert-masks", source, "--to", "youtube-vis-results", "-o", tmp_path / "r.json")
    like = ("--like", tmp_path / "like.json")
    assert pliant("convert-masks", tmp_path / "r.json", "--to", "youtube-vis-zip", *like, "-o", tmp_path / "a.zip") == 0
    assert zipfile.ZipFile(tmp_path / "a.zip").namelist() == ["results.json"]
    other = json.loads((tmp_path / "like.json").read_text())
    other["videos"][0]["id"] = 77
    other["annotations"] = []
    (tmp_path / "other.json").write_text(json.dumps(other))
    capsys.readouterr()
    like = ("--like", tmp_path / "other.json")
    assert pliant("convert-masks", tmp_path / "r.json", "--to", "youtube-vis-zip", *like, "-o", tmp_path / "b.zip") == 1
    assert "video 1" in capsys.readouterr().err


def test_a_zip_needs_its_data_set(tmp_path, capsys):
    assert pliant("convert-masks", tmp_path, "--to", "davis-zip", "-o", tmp_path / "a.zip") == 2
    assert "--like" in capsys.readouterr().err
