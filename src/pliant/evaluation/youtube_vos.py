"""youtube-vos: J and F of objects of seen and unseen categories.

- Ground truth: a split folder with ``Annotations/<video>/*.png`` (indexed; numbers with gaps) and
  ``meta.json``; results ``<video>/<same name>.png``. Results of frames without annotation do not count.
- J_S and F_S are means over the objects of the categories seen in training, J_U and F_U over the others;
  Overall is the mean of the four.
- The server of the challenge is closed, and which frames it counts is not known. So there are three
  conventions; none is official, and the one that was used is always named.

``vos-benchmark`` (default): as the tool of that name. The first and the last annotated frame are dropped. In
every other frame each object counts that has been seen so far, in the ground truth or in the result; so an
early false pixel starts the count, and the empty frames that follow score 1. Objects that no counted frame of
the ground truth shows are left out. 255 is an object like any other (of no category).

``vos-benchmark-all-frames``: the same with the first and the last frame.

``after-first-appearance``: the objects of ``meta.json`` (without it: ids but 255). Each counts in all
annotated frames after the first one that shows it: what is given is not scored, everything after is. No tool
has it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pliant.datasets.davis import annotation_files
from pliant.datasets.labels import read_labels
from pliant.datasets.youtube_vos import SEEN_CATEGORIES, object_categories, video_names
from pliant.errors import DatasetError, UnknownNameError
from pliant.evaluation.report import FrameCurve, Report
from pliant.evaluation.results import Problems, find_results, read_pair
from pliant.evaluation.workers import Progress, run_tasks
from pliant.metrics.frames import frame_scores, present_ids
from pliant.metrics.statistics import mean

__all__ = ["CONVENTIONS", "evaluate_youtube_vos"]

CONVENTIONS = ("vos-benchmark", "vos-benchmark-all-frames", "after-first-appearance")
Categories = dict[str, dict[int, "str | None"]]


def evaluate_youtube_vos(
    gt: str | Path,
    results: str | Path,
    *,
    convention: str = "vos-benchmark",
    seen_categories: str | Path | Collection[str] | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """J and F on seen and unseen categories of YouTube-VOS (see the module's text).

    Parameters
    ----------
    gt:
        A split folder: holds ``Annotations`` and ``meta.json``.
    results:
        Folder of ``<video>/<frame>.png``. Nothing is written there.
    convention:
        One of ``CONVENTIONS``.
    seen_categories:
        The names, or a file of them: text with one a line, or the ``meta.json`` of a training set. Default:
        the 65 of the official training set.
    jobs, progress:
        As in :func:`pliant.evaluation.workers.run_tasks`.

    Raises DatasetError and ResultsError.
    """
    if convention not in CONVENTIONS:
        raise UnknownNameError("convention of youtube-vos", convention, CONVENTIONS)
    gt, results = Path(gt), Path(results)
    seen = _seen(seen_categories)
    categories = object_categories(gt)
    files = {name: annotation_files(gt / "Annotations", name) for name in video_names(gt)}
    counted = {name: masks[1:-1] if convention == CONVENTIONS[0] else masks for name, masks in files.items()}
    if convention == CONVENTIONS[2]:
        counted = {name: _after_first_object(masks) for name, masks in files.items()}
    find_results(results, [(name, [mask.name for mask in masks]) for name, masks in counted.items()], "video")
    listed = {name: None if categories is None else sorted(categories.get(name, {})) for name in files}
    if convention == CONVENTIONS[2]:
        work = score_after_first_appearance
        tasks = [(name, files[name], results / name, listed[name]) for name in files]
    else:
        work = score_seen_so_far
        tasks = [(name, counted[name], results / name) for name in files]
    scored = run_tasks(work, tasks, [len(masks) for masks in files.values()], jobs, progress)
    Problems.raise_first(video.problems for video in scored)
    return _report(convention, scored, categories, seen)


@dataclass
class VideoScores:
    """J and F of the objects of a video over the frames that count for each."""

    name: str
    curves: list[FrameCurve] = field(default_factory=list)
    in_truth: set[int] = field(default_factory=set)
    problems: Problems = field(default_factory=Problems)


def score_seen_so_far(name: str, masks: Sequence[Path], folder: Path) -> VideoScores:
    """Each object from the first of the given frames that shows it on either side."""
    video = VideoScores(name)
    known: dict[int, list[tuple[float, float, Path]]] = {}
    for mask in masks:
        pair = read_pair(mask, folder / mask.name, f"video {name}", video.problems)
        if pair is None:
            continue
        truth, labels = pair
        shown = present_ids(truth)
        video.in_truth.update(shown)
        for number in (*shown, *present_ids(labels)):
            known.setdefault(number, [])
        _score(known, labels, truth, list(known), mask)
    video.curves = [_curve(name, number, known[number], folder) for number in sorted(video.in_truth)]
    return video


def score_after_first_appearance(
    name: str, masks: Sequence[Path], folder: Path, listed: Sequence[int] | None
) -> VideoScores:
    """Each object in all frames after the first that shows it in the ground truth; ``listed`` are the
    objects."""
    video = VideoScores(name)
    known: dict[int, list[tuple[float, float, Path]]] = {}
    for mask in masks:
        if known:
            pair = read_pair(mask, folder / mask.name, f"video {name}", video.problems)
            if pair is None:
                continue
            truth, labels = pair
            _score(known, labels, truth, list(known), mask)
        else:
            truth = read_labels(mask)
        shown = present_ids(truth)
        video.in_truth.update(shown)
        for number in shown:
            if number in listed if listed is not None else number != 255:
                known.setdefault(number, [])
    video.curves = [_curve(name, number, known[number], folder) for number in sorted(known) if known[number]]
    return video


def _score(known: dict[int, list], labels: Any, truth: Any, ids: Sequence[int], mask: Path) -> None:
    """Adds J and F of a frame to each of the ids."""
    for number, j, f in zip(ids, *frame_scores(labels, truth, ids), strict=True):
        known[number].append((j, f, mask))


def _curve(name: str, number: int, scores: Sequence[tuple[float, float, Path]], folder: Path) -> FrameCurve:
    j, f, masks = zip(*scores, strict=True)
    return FrameCurve(name, number, masks, folder, j, f)


def _after_first_object(masks: Sequence[Path]) -> list[Path]:
    """The frames after the first that shows any object: those whose results are opened."""
    for index, mask in enumerate(masks):
        if read_labels(mask).any():
            return list(masks[index + 1 :])
    return []


def _seen(given: str | Path | Collection[str] | None) -> frozenset[str]:
    """The categories seen in training."""
    if given is None:
        return SEEN_CATEGORIES
    if not isinstance(given, (str, Path)):
        return frozenset(given)
    path = Path(given)
    try:
        text = path.read_text()
        if path.suffix != ".json":
            return frozenset(line.strip() for line in text.splitlines() if line.strip())
        videos = json.loads(text)["videos"].values()
        return frozenset(entry["category"] for video in videos for entry in video["objects"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"the list of seen categories {path} cannot be used ({error!r}); a text file with a name a line "
            "or the meta.json of a training set is expected"
        ) from None


def _report(
    convention: str, scored: Sequence[VideoScores], categories: Categories | None, seen: frozenset[str]
) -> Report:
    """Groups, means and what to know about them."""
    objects: dict[str, Any] = {}
    sequences: dict[str, Any] = {}
    for video in scored:
        for curve in video.curves:
            category = (categories or {}).get(video.name, {}).get(curve.object)
            group = None if category is None else "seen" if category in seen else "unseen"
            objects[f"{video.name}/{curve.object}"] = {
                "J": mean(curve.j),
                "F": mean(curve.f),
                "category": category,
                "group": group,
            }
        sequences[video.name] = _means([objects[f"{video.name}/{curve.object}"] for curve in video.curves])
    sequences["all"] = _means(list(objects.values()))  # what vos-benchmark prints
    summary = {}
    for group, letter in (("seen", "S"), ("unseen", "U")):
        means = _means([part for part in objects.values() if part["group"] == group])
        summary |= {f"J_{letter}": means["J"], f"F_{letter}": means["F"]}
    summary = {"Overall": sum(summary.values()) / 4, **summary}
    report = Report("youtube-vos", convention, summary, sequences, objects)
    report.curves = [curve for video in scored for curve in video.curves]
    report.warnings = _warnings(report, scored, categories)
    return report


def _means(parts: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {key: mean([part[key] for part in parts]) for key in ("J", "F")}


def _warnings(report: Report, scored: Sequence[VideoScores], categories: Categories | None) -> list[str]:
    """About the convention, objects that do not count, objects without category, empty groups."""
    warnings = [
        f"counted by the convention {report.convention}: the official server is closed and its rules are not known"
    ]
    in_truth = [f"{video.name}/{number}" for video in scored for number in sorted(video.in_truth)]
    if categories is None:
        warnings.append("there is no meta.json, so no object has a category: only J and F of all objects are known")
    else:
        names = {video.name for video in scored}
        listed = [f"{video}/{number}" for video in categories for number in categories[video] if video in names]
        _name(warnings, "not in meta.json, so in no group", [name for name in in_truth if name not in listed])
        _name(warnings, "without a category in meta.json, so in no group", _uncategorised(categories, names))
        _name(
            warnings,
            "not counted",
            [name for name in listed if name not in report.objects],
            report.convention,
        )
        _name(warnings, "of meta.json without annotations", sorted(set(categories) - names), what="videos")
    for group, letter in (("seen", "S"), ("unseen", "U")):
        if not any(part["group"] == group for part in report.objects.values()):
            warnings.append(
                f"no object of a category {group} in training: J_{letter}, F_{letter} and Overall are undefined"
            )
    return warnings


def _uncategorised(categories: Categories, names: Collection[str]) -> list[str]:
    return [
        f"{video}/{number}"
        for video, objects in categories.items()
        for number, category in objects.items()
        if video in names and category is None
    ]


def _name(
    warnings: list[str], fact: str, items: Sequence[str], convention: str | None = None, what: str = "objects"
) -> None:
    """A sentence that names the items, if there are any."""
    if items:
        rule = f" by the convention {convention}" if convention else ""
        warnings.append(f"{what} {fact}{rule}: {', '.join(items)}")
