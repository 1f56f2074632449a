"""The evaluators against what the official tools say, case by case, to 1e-12."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from conftest import SHARED
from pliant.cli import main
from pliant.evaluation import PROTOCOLS, evaluate, hota_tools

TOLERANCE = 1e-12
CASES = sorted(path.parent for path in SHARED.glob("eval/*/*/expected.json"))
EXPECTED = {case: json.loads((case / "expected.json").read_text()) for case in CASES}
SCORED = [case for case in CASES if EXPECTED[case]["outcome"] == "scores"]
FAULTY = [case for case in CASES if EXPECTED[case]["outcome"] == "error"]


def name_of(case: Path) -> str:
    return f"{case.parent.name}/{case.name}"


def inputs(case: Path) -> tuple[str, Path, Path, dict[str, Any]]:
    """Protocol, ground truth, results and options of a case."""
    expected = EXPECTED[case]
    options = {"split": "val"} if expected["inputs"].get("split") else {}
    if "seen_categories" in expected["inputs"]:
        options["seen_categories"] = case / expected["inputs"]["seen_categories"]
    results = case / expected["inputs"]["results"]
    return expected["protocol"], case / expected["inputs"]["ground_truth"], results, options


def assert_same(got: Any, expected: Any, where: str) -> None:
    """Everything that is expected is there, numbers within the tolerance; more may be there."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            assert key in got, f"{where} has no {key}"
            assert_same(got[key], value, f"{where}.{key}")
    elif isinstance(expected, float):
        assert got is not None and math.isclose(got, expected, rel_tol=0, abs_tol=TOLERANCE), (
            f"{where}: {got} where the official tool has {expected}"
        )
    else:
        assert got == expected, f"{where}: {got!r} where the official tool has {expected!r}"


@pytest.mark.parametrize("case", SCORED, ids=name_of)
def test_numbers_are_those_of_the_official_tool(case):
    protocol, gt, results, options = inputs(case)
    report = evaluate(protocol, gt, results, jobs=1, **options)
    document, expected = report.to_dict(), EXPECTED[case]
    assert list(document) == ["protocol", "convention", "summary", "sequences", "objects", "warnings"]
    assert document["protocol"] == protocol
    assert document["convention"] == expected["convention"]
    assert set(document["summary"]) == set(expected["summary"])
    for part in ("summary", "sequences", "objects"):
        assert_same(document[part], expected.get(part, {}), part)
    assert_same(document["objects"], expected.get("categories", {}), "categories")
    if "frames" in expected:
        frames = {(curve.sequence, curve.object): {"J": curve.j, "F": curve.f} for curve in report.curves}
        assert_same(frames, frames_of(expected["frames"]), "frames")


def frames_of(frames: dict[str, Any]) -> dict[tuple[str, int], Any]:
    """Per-frame scores of a case by sequence and object; davis2016 has none, the others call it
    <sequence>_<id>."""
    named = [name.rpartition("_") if re.search(r"_\d+$", name) else (name, "_", "0") for name in frames]
    return {(sequence, int(number)): part for (sequence, _, number), part in zip(named, frames.values(), strict=True)}


@pytest.mark.parametrize("case", [case for case in SCORED if "fixed" in EXPECTED[case]], ids=name_of)
def test_fixed_gives_the_numbers_without_the_bug(case):
    protocol, gt, results, options = inputs(case)
    document = evaluate(protocol, gt, results, fixed=True, jobs=1, **options).to_dict()
    fixed = EXPECTED[case]["fixed"]
    for part in ("summary", "sequences", "objects"):
        assert_same(document[part], fixed.get(part, {}), part)


@pytest.mark.parametrize("case", [case for case in SCORED if case.parent.name == "davis2016"], ids=name_of)
def test_davis2016_conventions(case):
    protocol, gt, results, options = inputs(case)
    for convention in ("half-maximum", "above-128"):
        expected = EXPECTED[case].get("variants", {}).get(convention)
        if expected is not None:
            document = evaluate(protocol, gt, results, convention=convention, jobs=1, **options).to_dict()
            assert document["convention"] == convention
            assert_same(document["summary"], expected, convention)


@pytest.mark.parametrize("case", [case for case in SCORED if "warn" in EXPECTED[case]], ids=name_of)
def test_what_a_reader_must_know_is_said(case):
    protocol, gt, results, options = inputs(case)
    said = " ".join(evaluate(protocol, gt, results, jobs=1, **options).to_dict()["warnings"])
    for sentence in EXPECTED[case]["warn"]:
        numbers_and_names = re.findall(r"\d+|null|infinity|first|last|8-bit|background", sentence)
        assert said
        for word in numbers_and_names:
            assert word in said, f"no warning speaks of {word!r} ({sentence}): {said}"


@pytest.mark.parametrize("case", FAULTY, ids=name_of)
def test_bad_input_is_one_sentence_and_nothing_is_written(case, tmp_path, capsys):
    protocol, gt, results, options = inputs(case)
    before = tree(case)
    arguments = [
        "evaluate",
        protocol,
        "--gt",
        str(gt),
        "--results",
        str(results),
        "--json",
        str(tmp_path / "o.json"),
    ]
    if "seen_categories" in options:
        arguments += ["--seen-categories", str(options["seen_categories"])]
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    output = capsys.readouterr()
    assert exit.value.code == 1
    lines = output.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and not output.out
    for name in EXPECTED[case]["must_name"]:
        assert name in lines[0] or name.lstrip("0") in re.findall(r"\d+", lines[0]), f"{name!r} not in {lines[0]!r}"
    assert tree(case) == before
    assert not list(tmp_path.iterdir())


def tree(folder: Path) -> dict[str, int]:
    """Every file below a folder and when it was written."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.skipif(not (SHARED / "data/davis-dev").exists(), reason="shared/data/davis-dev is not beside the checkout")
def test_published_results_on_real_footage():
    root = SHARED / "data/davis-dev"
    official = json.loads((root / "results-osvos/official-scores.json").read_text())
    report = evaluate("davis2017", root, root / "results-osvos")
    assert_same(report.summary, official["global"], "summary")
    assert_same(report.objects, official["per_object"], "objects")


@pytest.mark.parametrize("case", [case for case in SCORED if case.parent.name == "kitti-mots"], ids=name_of)
def test_hota_without_trackeval(case, monkeypatch):
    monkeypatch.setattr(hota_tools, "uses_trackeval", lambda: False)
    protocol, gt, results, options = inputs(case)
    document = evaluate(protocol, gt, results, jobs=1, **options).to_dict()
    assert_same(document["summary"], EXPECTED[case]["summary"], "summary")
    assert_same(document["sequences"], EXPECTED[case]["sequences"], "sequences")


@pytest.mark.parametrize("case", [case for case in SCORED if case.parent.name == "youtube-vos"], ids=name_of)
def test_youtube_vos_conventions(case):
    protocol, gt, results, options = inputs(case)
    for convention, expected in EXPECTED[case]["conventions"].items():
        document = evaluate(protocol, gt, results, convention=convention, jobs=1, **options).to_dict()
        assert document["convention"] == convention
        assert_same(document["summary"], expected["summary"], convention)
        assert_same(document["objects"], expected["objects"], convention)
        assert set(document["objects"]) == set(expected["objects"])
        if "all" in expected:
            assert_same(document["sequences"]["all"], expected["all"], convention)
        said = " ".join(document["warnings"])
        assert all(name in said for name in expected["not_counted"])


@pytest.mark.parametrize("case", [case for case in SCORED if "official_names" in EXPECTED[case]], ids=name_of)
def test_official_names_of_unsupervised_objects(case):
    protocol, gt, results, options = inputs(case)
    objects = evaluate(protocol, gt, results, jobs=1, **options).objects
    assert {part["official_name"]: name for name, part in objects.items()} == EXPECTED[case]["official_names"]
    for sequence, pairs in EXPECTED[case]["assignment"].items():
        assert {number: objects[f"{sequence}_{number}"]["proposal"] for number in pairs} == pairs


@pytest.mark.skipif(not CASES, reason="shared/eval is not beside the checkout (set PLIANT_SHARED)")
def test_every_protocol_has_cases():
    assert {EXPECTED[case]["protocol"] for case in CASES} == set(PROTOCOLS)
    assert len(CASES) == 77
