"""What youtube-vis and ovis have in common: results in JSON, overlap of tracks, ranges, the mean of
precisions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pliant.datasets.youtube_vis import Annotation, Annotations, Video, read_annotations, read_segmentation
from pliant.errors import DatasetError, MaskError, ResultsError
from pliant.evaluation.report import Report
from pliant.evaluation.results import Problems
from pliant.evaluation.workers import Progress, run_tasks
from pliant.metrics.average_precision import Matches, match, precision_recall
from pliant.metrics.runs import Runs, overlap

__all__ = ["AREAS", "Range", "evaluate_tracks"]

MOST_DETECTIONS = (1, 10, 100)  # of a category in a video


class Range(NamedTuple):
    """Which annotations count: mean area and occlusion score within these, both ends included."""

    area: tuple[float, float] = (0, 1e10)
    occlusion: tuple[float, float] | None = None


# suffix of the number -> range
AREAS = {"": Range(), "s": Range((0, 128**2)), "m": Range((128**2, 256**2)), "l": Range((256**2, 1e10))}


class Detection(NamedTuple):
    """A track of the results."""

    category: int
    score: float
    segmentations: Sequence[Any]


class Truth(NamedTuple):
    """An annotation, as far as matching needs it."""

    annotation: Annotation
    occlusion: float


def evaluate_tracks(
    protocol: str,
    gt: Path,
    results: Path,
    ranges: Mapping[str, Range],
    occlusion_score: Any,
    fixed: bool,
    jobs: int | None,
    progress: Progress | None,
) -> Report:
    """AP and AR of the tracks in ``results`` against the annotations in ``gt``.

    Parameters
    ----------
    ranges:
        Suffix of AP -> which annotations count.
    occlusion_score:
        Annotation -> its occlusion score, 0 to 1.
    fixed:
        A match with annotation id 0 is a match.
    """
    content = read_annotations(gt)
    truths = {number: [] for number in content.videos}
    for track in content.tracks:
        truths[track.video].append(Truth(track, occlusion_score(track, gt)))
    detections, warnings = read_results(results, content)
    warnings += _truth_warnings(content, fixed)
    videos = [content.videos[number] for number in sorted(content.videos)]
    tasks = [(video, truths[video.id], detections[video.id], ranges, fixed) for video in videos]
    scored = run_tasks(score_video, tasks, [video.length for video in videos], jobs, progress)
    Problems.raise_first(problems for _, problems in scored)
    return _report(protocol, content, ranges, [matches for matches, _ in scored], warnings)


def read_results(path: Path, content: Annotations) -> tuple[dict[int, list[Detection]], list[str]]:
    """The detections of each video in the order of the file, and what to warn of.

    Raises ResultsError that names the first result that does not fit, and how many others do not.
    """
    try:
        entries = json.loads(path.read_text())
    except OSError as error:
        raise ResultsError(f"{path} cannot be read ({error.strerror}); a JSON list of results is expected") from None
    except ValueError as error:
        raise ResultsError(f"{path} is not JSON ({error}); a JSON list of results is expected") from None
    if not isinstance(entries, list) or not entries:
        what = "holds no results" if entries == [] else "is not a JSON list of results"
        raise ResultsError(f"{path} {what}; entries with video_id, category_id, score and segmentations are expected")
    problems, unknown = Problems(), {}
    detections: dict[int, list[Detection]] = {number: [] for number in content.videos}
    for index, entry in enumerate(entries):
        wrong = _fault(entry, content)
        if wrong:
            problems.add(f"result {index} of {path} {wrong}")
        elif entry["category_id"] not in content.categories:
            unknown[entry["category_id"]] = unknown.get(entry["category_id"], 0) + 1
        else:
            detection = Detection(entry["category_id"], float(entry["score"]), entry["segmentations"])
            detections[entry["video_id"]].append(detection)
    Problems.raise_first([problems], "result does not fit", "results do not fit")
    return detections, [
        f"results of category {category}, which does not exist, are left out ({count} of them)"
        for category, count in unknown.items()
    ]


def _fault(entry: Any, content: Annotations) -> str | None:
    """What is wrong with a result, or None."""
    if not isinstance(entry, dict):
        return "is no object with video_id, category_id, score and segmentations"
    missing = {"video_id", "category_id", "score", "segmentations"} - set(entry)
    if missing:
        return f"has no {', '.join(sorted(missing))}"
    video = content.videos.get(entry["video_id"])
    if video is None:
        return f"is of video {entry['video_id']}, which the ground truth does not have"
    score, masks = entry["score"], entry["segmentations"]
    if not isinstance(score, (int, float)) or math.isnan(score):
        return f"has the score {score!r}; a number is expected"
    if not isinstance(masks, list) or len(masks) != video.length:
        count = len(masks) if isinstance(masks, list) else "no list of"
        return f"has {count} segmentations, but video {video.id} has {video.length} frames"
    for frame, segmentation in enumerate(masks):
        size = segmentation.get("size") if isinstance(segmentation, dict) else None
        if segmentation is not None and size != [video.height, video.width]:
            found = "no size" if size is None else f"the size {size[0]}x{size[1]}"
            return (
                f"has {found} in frame {frame}, but video {video.id} is {video.height}x{video.width} (height x width)"
            )
    return None


def score_video(
    video: Video,
    truths: Sequence[Truth],
    detections: Sequence[Detection],
    ranges: Mapping[str, Range],
    fixed: bool,
) -> tuple[dict[tuple[int, str], Matches], Problems]:
    """The matches of each category and range in a video; results that cannot be decoded."""
    problems, matches = Problems(), {}
    for category in sorted({t.annotation.category for t in truths} | {d.category for d in detections}):
        found = [detection for detection in detections if detection.category == category]
        found = sorted(found, key=lambda detection: -detection.score)[: MOST_DETECTIONS[-1]]
        wanted = [truth for truth in truths if truth.annotation.category == category]
        targets = [_decode_truth(truth.annotation, video) for truth in wanted]
        try:
            tracks = [_decode(detection.segmentations, video) for detection in found]
        except MaskError as error:
            problems.add(f"a result of category {category} in video {video.id} cannot be used: {error}")
            continue
        iou = np.array([[_track_iou(track, target) for target in targets] for track in tracks])
        iou = iou.reshape(len(tracks), len(targets))
        areas = np.array([_mean_area([mask and mask.area for mask in track]) for track in tracks])
        truth_areas = [_truth_area(truth.annotation, target) for truth, target in zip(wanted, targets, strict=True)]
        for name, limits in ranges.items():
            matches[category, name] = _match(iou, found, areas, wanted, truth_areas, limits, fixed)
    return matches, problems


def _match(
    iou: np.ndarray,
    found: Sequence[Detection],
    areas: np.ndarray,
    wanted: Sequence[Truth],
    truth_areas: Sequence[float],
    limits: Range,
    fixed: bool,
) -> Matches:
    """The matches of a category in a video within a range."""
    low, high = limits.area
    inside = [low <= area <= high and _within(truth, limits) for truth, area in zip(wanted, truth_areas, strict=True)]
    crowd = np.array([truth.annotation.crowd for truth in wanted], bool)
    return match(
        iou,
        np.array([detection.score for detection in found], np.float64),
        crowd | ~np.array(inside, bool),
        crowd,
        (areas < low) | (areas > high),
        None if fixed else np.array([truth.annotation.id == 0 for truth in wanted], bool),
    )


def _within(truth: Truth, limits: Range) -> bool:
    return limits.occlusion is None or limits.occlusion[0] <= truth.occlusion <= limits.occlusion[1]


def _decode(segmentations: Sequence[Any], video: Video) -> list[Runs | None]:
    return [read_segmentation(segmentation, video.height, video.width) for segmentation in segmentations]


def _decode_truth(annotation: Annotation, video: Video) -> list[Runs | None]:
    try:
        return _decode(annotation.segmentations, video)
    except (MaskError, KeyError, TypeError) as error:
        raise DatasetError(f"annotation {annotation.id} of video {video.id} cannot be used: {error}") from None


def _track_iou(a: Sequence[Runs | None], b: Sequence[Runs | None]) -> float:
    """Pixels that two tracks share in all frames together, divided by those that either has."""
    shared = union = 0
    for mask, other in zip(a, b, strict=True):
        both = overlap(mask, other) if mask is not None and other is not None else 0
        shared += both
        union += (mask.area if mask is not None else 0) + (other.area if other is not None else 0) - both
    return shared / union if union else 0.0


def _mean_area(areas: Sequence[float | None]) -> float:
    """Mean of the areas that are neither missing nor 0."""
    present = [area for area in areas if area]
    return sum(present) / len(present) if present else 0.0


def _truth_area(annotation: Annotation, target: Sequence[Runs | None]) -> float:
    """Mean area as the file states it; of the masks where it does not."""
    if annotation.areas is not None:
        return _mean_area(annotation.areas)
    return _mean_area([None if mask is None else mask.area for mask in target])


def _truth_warnings(content: Annotations, fixed: bool) -> list[str]:
    warnings = []
    if not fixed and any(track.id == 0 for track in content.tracks):
        warnings.append(
            "the ground truth has annotation id 0: the official tool takes matches with it for misses, and "
            "so do these numbers; --fixed gives the right ones"
        )
    without = [track.id for track in content.tracks if track.areas is None]
    if without:
        warnings.append(
            f"annotation {without[0]} states no areas ({len(without)} do not); they were taken from the masks"
        )
    return warnings


def _report(
    protocol: str,
    content: Annotations,
    ranges: Mapping[str, Range],
    scored: Sequence[Mapping[tuple[int, str], Matches]],
    warnings: list[str],
) -> Report:
    """Means over thresholds, recall points and categories; -1 where there is nothing to find."""
    curves = {}
    for category in sorted(content.categories):
        for name in ranges:
            videos = [matches[category, name] for matches in scored if (category, name) in matches]
            for most in MOST_DETECTIONS if name == "" else MOST_DETECTIONS[-1:]:
                curves[category, name, most] = precision_recall(videos, most)
    categories = sorted(content.categories)
    most = MOST_DETECTIONS[-1]

    def precisions(name: str, of: Sequence[int], thresholds: slice = slice(None)) -> float:
        parts = [curves[category, name, most][0][thresholds] for category in of if curves[category, name, most]]
        return float(np.mean(parts)) if parts else -1.0

    def recalls(of: Sequence[int], most: int) -> float:
        parts = [curves[category, "", most][1] for category in of if curves[category, "", most]]
        return float(np.mean(parts)) if parts else -1.0

    summary = {"AP": precisions("", categories)}
    summary |= {
        "AP50": precisions("", categories, slice(0, 1)),
        "AP75": precisions("", categories, slice(5, 6)),
    }
    summary |= {f"AP{name}": precisions(name, categories) for name in ranges if name}
    summary |= {f"AR{count}": recalls(categories, count) for count in MOST_DETECTIONS}
    objects = {
        str(category): {
            "category": content.categories[category],
            "AP": precisions("", [category]),
            "AP50": precisions("", [category], slice(0, 1)),
            "AP75": precisions("", [category], slice(5, 6)),
            **{f"AR{count}": recalls([category], count) for count in MOST_DETECTIONS},
        }
        for category in categories
    }
    empty = [name for name, value in summary.items() if value == -1]
    if empty:
        warnings.append(f"-1 stands for numbers without any annotation to find: {', '.join(empty)}")
    absent = [part["category"] for part in objects.values() if part["AP"] == -1]
    if absent:
        warnings.append(f"categories without an annotation are no part of the mean: {', '.join(absent)}")
    return Report(protocol, None, summary, objects=objects, warnings=warnings)
