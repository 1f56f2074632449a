"""pliant evaluate as people use it: outputs, what must not matter, and every kind of bad input."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pliant.cli import main
from pliant.errors import UnknownNameError
from pliant.evaluation import PROTOCOLS, evaluate
from pliant.video import rle
from pliant.video.masks import write_mask


def squares(frames: int, shift: int) -> np.ndarray:
    """Two objects that drift, [frames, 40, 50]; ``shift`` pixels off."""
    labels = np.zeros((frames, 40, 50), np.uint8)
    for index in range(frames):
        labels[index, 5 : 15 + shift, 3 + index : 20 + index] = 1
        labels[index, 22:35, 25 + shift : 38 + shift] = 2
    return labels


def write_sequence(folder: Path, labels: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for index, image in enumerate(labels):
        write_mask(folder / f"{index:05d}.png", image)


@pytest.fixture
def davis(tmp_path: Path) -> tuple[Path, Path]:
    """Ground truth and results of two sequences."""
    gt, results = tmp_path / "DAVIS", tmp_path / "results"
    for name, frames in (("bear", 6), ("cows", 9)):
        write_sequence(gt / "Annotations" / "480p" / name, squares(frames, 0))
        write_sequence(results / name, squares(frames, 2))
    for year in (2016, 2017):
        (gt / "ImageSets" / str(year)).mkdir(parents=True)
        (gt / "ImageSets" / str(year) / "val.txt").write_text("bear\ncows\n")
    return gt, results


def pliant(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit:
        main([str(argument) for argument in arguments])
    return exit.value.code


def run(davis: tuple[Path, Path], *more: object, protocol: str = "davis2017") -> int:
    return pliant("evaluate", protocol, "--gt", davis[0], "--results", davis[1], *more)


def error_of(davis: tuple[Path, Path], capsys: pytest.CaptureFixture, *more: object) -> str:
    """The one sentence of a failed run."""
    assert run(davis, *more) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


def test_table_json_and_csv_agree(davis, tmp_path, capsys):
    assert run(davis, "--json", tmp_path / "o.json", "--csv", tmp_path / "o.csv") == 0
    table = capsys.readouterr().out
    document = json.loads((tmp_path / "o.json").read_text())
    assert document["protocol"] == "davis2017" and document["convention"] is None and document["warnings"] == []
    assert list(document["sequences"]) == ["bear", "cows"]
    assert list(document["objects"]) == ["bear_1", "bear_2", "cows_1", "cows_2"]
    for number in (*document["summary"].values(), document["sequences"]["bear"]["J-Mean"]):
        assert f"{number:.4f}" in table
    rows = list(csv.reader((tmp_path / "o.csv").open()))
    assert rows[0] == ["J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"]
    assert [float(value) for value in rows[1]] == list(document["summary"].values())
    assert [row[0] for row in rows[4:]] == list(document["objects"])


def test_perfect_results_score_one(davis):
    gt, _ = davis
    summary = evaluate("davis2017", gt, gt / "Annotations" / "480p").summary
    assert summary == {
        **dict.fromkeys(["J&F-Mean", "J-Mean", "J-Recall", "F-Mean", "F-Recall"], 1),
        "J-Decay": 0,
        "F-Decay": 0,
    }


@pytest.mark.parametrize("protocol", ["davis2016", "davis2017"])
def test_processes_do_not_matter(davis, protocol):
    assert evaluate(protocol, *davis, jobs=1) == evaluate(protocol, *davis, jobs=2)


def test_order_of_the_list_does_not_matter(davis):
    before = evaluate("davis2017", *davis).summary
    (davis[0] / "ImageSets" / "2017" / "val.txt").write_text("cows\n\nbear\n")
    assert evaluate("davis2017", *davis).summary == pytest.approx(before, abs=1e-15)


def test_names_of_objects_do_not_matter(davis):
    before = evaluate("davis2017", *davis).summary
    for path in [*davis[0].rglob("*.png"), *davis[1].rglob("*.png")]:
        labels = np.array(Image.open(path))
        write_mask(path, np.array([0, 2, 1], np.uint8)[labels])
    assert evaluate("davis2017", *davis).summary == pytest.approx(before, abs=1e-15)


def test_names_of_proposals_do_not_matter(davis):
    gt, results = davis
    (gt / "Annotations").rename(gt / "Annotations_unsupervised")
    before = evaluate("davis2017-unsupervised", *davis).summary
    for path in results.rglob("*.png"):
        write_mask(path, np.array([0, 19, 4], np.uint8)[np.array(Image.open(path))])
    report = evaluate("davis2017-unsupervised", *davis)
    assert report.summary == pytest.approx(before, abs=1e-15)
    assert [report.objects[f"bear_{k}"]["proposal"] for k in (1, 2)] == [19, 4]


def test_stale_scores_beside_the_results_are_not_read(davis, capsys):
    before = evaluate("davis2017", *davis).summary
    (davis[1] / "global_results-val.csv").write_text("J&F-Mean\n0.999\n")
    assert evaluate("davis2017", *davis).summary == before


def test_plot_draws_every_object_and_the_worst_frames(davis, tmp_path):
    assert run(davis, "--plot", tmp_path / "o.png") == 0
    page = np.array(Image.open(tmp_path / "o.png"))
    assert page.shape[1] == 1560 and page.std() > 10
    for colour in ((60, 190, 80), (230, 50, 50)):  # right and wrong, mixed with the dark ground
        mixed = (0.45 * 48 + 0.55 * np.array(colour)).astype(np.uint8)
        assert (np.abs(page.astype(int) - mixed).max(axis=2) < 8).sum() > 1000


def test_plot_needs_scores_by_frame(davis, tmp_path, capsys):
    assert run(davis, "--plot", tmp_path / "o.png", protocol="kitti-mots") == 2
    assert "kitti-mots has none" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["results/o.json", "DAVIS/o.json"])
def test_nothing_is_written_into_what_is_read(davis, place, capsys):
    path = davis[0].parent / place
    assert "is only read" in error_of(davis, capsys, "--json", path)
    assert not path.exists()


def test_a_place_that_cannot_be_written_is_said_before_the_work(davis, tmp_path, capsys):
    assert "there is no folder" in error_of(davis, capsys, "--json", tmp_path / "missing" / "o.json")


def test_no_results_folder(davis, tmp_path, capsys):
    error = error_of((davis[0], tmp_path / "nothing"), capsys)
    assert "nothing does not exist" in error and "bear/00001.png" in error


def test_wrong_ground_truth_folder(davis, tmp_path, capsys):
    assert "Annotations/480p/<sequence>/*.png" in error_of((davis[1], davis[1]), capsys)


def test_first_missing_frame_and_how_many_more(davis, capsys):
    for name in ("bear/00002.png", "bear/00003.png", "cows/00007.png"):
        (davis[1] / name).unlink()
    error = error_of(davis, capsys)
    assert "sequence bear has no result for frame 00002" in error and "2 more files are missing" in error


def test_results_of_uncounted_frames_are_never_opened(davis):
    before = evaluate("davis2017", *davis).summary
    (davis[1] / "bear" / "00000.png").write_bytes(b"no image")
    (davis[1] / "bear" / "00005.png").unlink()
    assert evaluate("davis2017", *davis).summary == before


def test_first_wrong_size_and_how_many_more(davis, capsys):
    for index in (3, 4, 5):
        write_mask(davis[1] / "cows" / f"{index:05d}.png", np.zeros((40, 48), np.uint8))
    error = error_of(davis, capsys)
    assert "frame 00003 of cows" in error and "48x40" in error and "50x40" in error
    assert "2 more result files cannot be used" in error


def test_colours_are_no_labels(davis, capsys):
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(davis[1] / "bear" / "00001.png")
    error = error_of(davis, capsys)
    assert "frame 00001 of bear" in error and "colour image, an indexed PNG is expected" in error


def test_an_id_too_many(davis, capsys):
    write_mask(davis[1] / "bear" / "00002.png", np.full((40, 50), 3, np.uint8))
    assert "frame 00002 of bear has id 3, but the objects of the first mask are 1 to 2" in error_of(davis, capsys)


def test_a_damaged_png(davis, capsys):
    path = davis[1] / "bear" / "00002.png"
    path.write_bytes(path.read_bytes()[:60])
    assert "00002.png cannot be read as an image" in error_of(davis, capsys)


def test_a_missing_list_is_named(davis, capsys):
    (davis[0] / "ImageSets" / "2017" / "val.txt").unlink()
    assert "2017/val.txt is missing" in error_of(davis, capsys)


def test_two_frames_are_too_few(davis, capsys):
    for index in range(2, 6):
        (davis[0] / "Annotations" / "480p" / "bear" / f"{index:05d}.png").unlink()
    assert "sequence bear has 2 annotated frames" in error_of(davis, capsys)


def test_a_worker_that_fails_does_not_hang(davis, capsys):
    (davis[0] / "Annotations" / "480p" / "bear" / "00003.png").write_bytes(b"no image")
    assert "00003.png cannot be read as an image" in error_of(davis, capsys, "-j", 2)


def test_an_option_of_another_protocol_is_refused(davis, capsys):
    assert run(davis, "--seqmap", "x", protocol="davis2017") == 2
    assert "--seqmap does not apply to davis2017" in capsys.readouterr().err


def test_unknown_names_offer_near_ones(davis):
    with pytest.raises(UnknownNameError, match="davis2017"):
        evaluate("davis2018", *davis)
    with pytest.raises(UnknownNameError, match="nonzero"):
        evaluate("davis2016", *davis, convention="non-zero")
    with pytest.raises(UnknownNameError, match="fixed"):
        evaluate("davis2017", *davis, fixd=True)


def test_every_protocol_says_its_rules():
    import importlib

    for place, _ in PROTOCOLS.values():
        module, function = place.split(":")
        assert getattr(importlib.import_module(module), function).__doc__
        assert len(importlib.import_module(module).__doc__) > 500


def test_infinities_are_null_with_a_warning(tmp_path):
    (tmp_path / "gt" / "label_02").mkdir(parents=True)
    (tmp_path / "results").mkdir()
    code = rle.encode(squares(1, 0)[0] == 1)["counts"]
    (tmp_path / "gt" / "label_02" / "0000.txt").write_text(f"0 1001 1 40 50 {code}\n\n")
    (tmp_path / "results" / "0000.txt").write_text("")
    (tmp_path / "map").write_text("0000 empty 000000 000000\n")
    report = evaluate("kitti-mots", tmp_path / "gt", tmp_path / "results", seqmap=tmp_path / "map")
    document = report.to_dict()
    assert document["summary"]["car.MOTSP"] is None and document["summary"]["car.MOTSA"] == 0
    assert document["summary"]["pedestrian.sMOTSA"] is None
    assert document["sequences"]["0000"]["pedestrian"]["MOTSA"] is None
    said = " ".join(document["warnings"])
    assert "car.MOTSP (plus infinity)" in said and "0000.pedestrian.MOTSA (minus infinity)" in said
    json.loads(report.to_json())


def tracks(path: Path, entries: int = 1, **more: object) -> Path:
    """Perfect results, but for what ``more`` changes in each."""
    labels = squares(3, 0)
    codes = [rle.encode(image == 1) for image in labels]
    entry = {"video_id": 1, "category_id": 1, "score": 0.9, "segmentations": codes, **more}
    path.write_text(json.dumps([entry] * entries))
    return path


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    codes = [rle.encode(image == 1) for image in squares(3, 0)]
    document = {
        "videos": [{"id": 1, "height": 40, "width": 50, "length": 3, "file_names": ["a/0.jpg", "a/1.jpg", "a/2.jpg"]}],
        "categories": [{"id": 1, "name": "bear"}],
        "annotations": [{"id": 1, "video_id": 1, "category_id": 1, "segmentations": codes}],
    }
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(document))
    return path


def test_areas_that_the_file_does_not_state_are_counted(annotations, tmp_path):
    report = evaluate("youtube-vis", annotations, tracks(tmp_path / "r.json"))
    assert report.summary["AP"] == report.summary["APs"] == pytest.approx(1)
    assert report.summary["APl"] == -1
    assert any("states no areas" in sentence for sentence in report.warnings)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"score": "high"}, "has the score 'high'"),
        ({"score": float("nan")}, "has the score nan"),
        ({"segmentations": None}, "no list of segmentations"),
        ({"segmentations": [None, None]}, "has 2 segmentations, but video 1 has 3 frames"),
        ({"video_id": 4}, "is of video 4, which the ground truth does not have"),
        ({"segmentations": [{"size": [40, 50], "counts": "zz~"}] * 3}, "run-length code is damaged"),
    ],
    ids=["score", "nan", "no masks", "too short", "video", "damaged"],
)
def test_results_that_do_not_fit(annotations, tmp_path, capsys, more, sentence):
    results = tracks(tmp_path / "r.json", entries=3, **more)
    assert pliant("evaluate", "youtube-vis", "--gt", annotations, "--results", results) == 1
    error = capsys.readouterr().err
    assert sentence in error and len(error.splitlines()) == 1
    if "damaged" not in sentence:
        assert "result 0" in error and "2 more results do not fit" in error


def test_results_that_are_no_json(annotations, tmp_path, capsys):
    (tmp_path / "r.json").write_text("[")
    assert pliant("evaluate", "youtube-vis", "--gt", annotations, "--results", tmp_path / "r.json") == 1
    assert "r.json is not JSON" in capsys.readouterr().err
