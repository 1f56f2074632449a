"""ovis: the numbers of youtube-vis, and three by how much an object is occluded.

- All rules of youtube-vis hold.
- Each annotation has a level a frame: none (0), slight (0.25), severe (0.75). Its score is the mean of the
  larger half of these (of n levels the largest ceil(n / 2)). AP_light counts annotations up to 0.25,
  AP_medium 0.25 to 0.5, AP_heavy from 0.5; a score at the border is in both.
- Results have no occlusion score, so one that matches nothing is a false positive in every range: the three
  numbers are lower than AP would suggest and do not average to it.

Equals OVISeval of qjy981010/cocoapi.
"""

from __future__ import annotations

from pathlib import Path

from pliant.datasets.youtube_vis import Annotation
from pliant.errors import DatasetError
from pliant.evaluation.report import Report
from pliant.evaluation.tracks import AREAS, Range, evaluate_tracks
from pliant.evaluation.workers import Progress

__all__ = ["evaluate_ovis", "occlusion_score"]

LEVELS = {"no_occlusion": 0.0, "slight_occlusion": 0.25, "severe_occlusion": 0.75}
RANGES = {
    **AREAS,
    "_light": Range(occlusion=(0, 0.25)),
    "_medium": Range(occlusion=(0.25, 0.5)),
    "_heavy": Range(occlusion=(0.5, 1)),
}


def evaluate_ovis(
    gt: str | Path,
    results: str | Path,
    *,
    fixed: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """AP and AR by the rules of OVIS (see the module's text).

    Parameters
    ----------
    gt:
        The annotation file (JSON), with ``occlusion`` a frame of each annotation.
    results:
        The results file: a JSON list of {video_id, category_id, score, segmentations: RLE or null a frame}.
    fixed:
        A match with annotation id 0 is a match.
    jobs, progress:
        As in :func:`pliant.evaluation.workers.run_tasks`.

    Raises DatasetError and ResultsError.
    """
    return evaluate_tracks("ovis", Path(gt), Path(results), RANGES, occlusion_score, fixed, jobs, progress)


def occlusion_score(annotation: Annotation, path: Path) -> float:
    """Mean of the larger half of the levels of an annotation. Raises DatasetError where it has none."""
    levels = [level for level in annotation.occlusion or () if level is not None]
    unknown = [level for level in levels if level not in LEVELS]
    if unknown or not levels:
        found = f"the level {unknown[0]!r}" if unknown else "no level in any frame"
        raise DatasetError(
            f"occlusion of annotation {annotation.id} in {path} has {found}; {', '.join(LEVELS)} or null a "
            "frame is expected, and one at least"
        )
    values = sorted((LEVELS[level] for level in levels), reverse=True)[: (len(levels) + 1) // 2]
    return sum(values) / len(values)
