"""kitti-mots: segmented tracks of cars and pedestrians.

- Ground truth: a folder with ``instances_txt/<sequence>.txt`` (or ``label_02``, or
  ``instances/<sequence>/*.png``) and a map of sequences; results ``<sequence>.txt`` or ``<sequence>/*.png``.
  Masks of a frame must not overlap.
- sMOTSA, MOTSA, MOTSP, IDS as mots_tools: an overlap above 0.5 is a match; a result that matches nothing and
  lies to more than half in the ignored region (class 10) counts for nothing; a track that is matched by
  another result than at its last match has switched. Counts are summed over sequences first.
- HOTA, DetA, AssA, LocA as TrackEval: the same results are ignored (an overlap of 0.5 is a match there), then
  pairs of tracks are aligned over the sequence and each frame is matched once for 19 thresholds. Through the
  package trackeval where it is installed (the extra ``mots``), else by the same rules in
  :mod:`pliant.metrics.hota`: the numbers agree.
- A class without ground truth has no sMOTSA and MOTSA (mots_tools: minus infinity) and without a match no
  MOTSP (plus infinity): null in JSON.

Equals mots_tools and TrackEval.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pliant.datasets.kitti_mots import CLASSES, IGNORED, MotsObject, read_seqmap, read_sequence
from pliant.errors import DatasetError, ResultsError
from pliant.evaluation import hota_tools
from pliant.evaluation.report import Report
from pliant.evaluation.results import check_results_folder
from pliant.evaluation.workers import Progress, run_tasks
from pliant.metrics.hota import HotaFrame
from pliant.metrics.mots import MotsCounts, clear_mots
from pliant.metrics.runs import disjoint_overlaps

__all__ = ["evaluate_kitti_mots"]

_EPS = np.finfo(np.float64).eps
_LABEL_FOLDERS = ("instances_txt", "label_02", "instances")


def evaluate_kitti_mots(
    gt: str | Path,
    results: str | Path,
    *,
    split: str = "val",
    seqmap: str | Path | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """sMOTSA and HOTA numbers by the rules of KITTI MOTS (see the module's text).

    Parameters
    ----------
    gt:
        Folder that holds ``instances_txt``, ``label_02`` or ``instances``, and ``<split>.seqmap``.
    results:
        Folder of ``<sequence>.txt`` or ``<sequence>/*.png``. Nothing is written there.
    split:
        Name of the map of sequences.
    seqmap:
        The map, where it lies elsewhere.
    jobs, progress:
        As in :func:`pliant.evaluation.workers.run_tasks`.

    Raises DatasetError and ResultsError.
    """
    gt, results = Path(gt), Path(results)
    labels = next((gt / name for name in _LABEL_FOLDERS if (gt / name).is_dir()), None)
    if labels is None:
        raise DatasetError(f"{gt} has none of the folders {', '.join(_LABEL_FOLDERS)}, which hold the ground truth")
    path = gt / f"{split}.seqmap" if seqmap is None else Path(seqmap)
    if not path.is_file():
        raise DatasetError(f"the map of sequences {path} is missing; --seqmap says where it is")
    last_frames = read_seqmap(path)
    first = next(iter(last_frames))
    check_results_folder(results, f"{first}.txt or {first}/000000.png and so on")
    tasks = [(name, last, labels, results) for name, last in last_frames.items()]
    hota_tools.uses_trackeval()  # imported once here, not in every worker
    scored = run_tasks(score_sequence, tasks, [last + 1 for last in last_frames.values()], jobs, progress)
    return _report(dict(zip(last_frames, scored, strict=True)))


class ClassScores(NamedTuple):
    """What a sequence has of a class."""

    counts: MotsCounts
    hota: hota_tools.Counts


def score_sequence(name: str, last_frame: int, labels: Path, results: Path) -> dict[str, ClassScores]:
    """The counts of each class in a sequence. Raises DatasetError and ResultsError."""
    truths = read_sequence(labels, name, last_frame)
    found = read_sequence(results, name, last_frame, ResultsError)
    for frame, (truth, result) in enumerate(zip(truths, found, strict=True)):
        if truth and result and truth[0].size != result[0].size:
            raise ResultsError(
                f"frame {frame} of sequence {name} in {results} is {result[0].size}, its ground truth is "
                f"{truth[0].size} (height, width)"
            )
    scores = {}
    for category, word in CLASSES.items():
        frames = [_Frame.of(truth, result, category) for truth, result in zip(truths, found, strict=True)]
        counts = clear_mots((frame.truths, frame.results, frame.iou, frame.ignored) for frame in frames)
        scores[word] = ClassScores(counts, hota_tools.count([frame.without_ignored() for frame in frames]))
    return scores


class _Frame(NamedTuple):
    """One class in a frame: ids, their IoU, and the share of each result in the ignored region."""

    truths: list[int]
    results: list[int]
    iou: np.ndarray
    ignored: np.ndarray

    @classmethod
    def of(cls, truth: Sequence[MotsObject], result: Sequence[MotsObject], category: int) -> _Frame:
        rows = [item for item in truth if item.category == category]
        columns = [item for item in result if item.category == category]
        regions = [item for item in truth if item.category == IGNORED]
        masks = [item.mask for item in columns]
        shared = disjoint_overlaps([item.mask for item in rows + regions], masks)
        row_areas = np.array([item.mask.area for item in rows], np.int64)
        areas = np.array([mask.area for mask in masks], np.int64)
        inside = shared[len(rows) :].sum(axis=0)
        shared = shared[: len(rows)]
        union = row_areas[:, None] + areas[None, :] - shared
        iou = np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)
        share = np.divide(inside, areas, out=np.zeros(len(areas)), where=areas > 0)
        return cls([item.id for item in rows], [item.id for item in columns], iou, share)

    def without_ignored(self) -> HotaFrame:
        """As TrackEval prepares it: without the results that match nothing and lie in the ignored region."""
        from scipy.optimize import linear_sum_assignment

        score = np.where(self.iou < 0.5 - _EPS, -10000, self.iou)
        rows, columns = linear_sum_assignment(-score)
        unmatched = np.ones(len(self.results), bool)
        unmatched[columns[score[rows, columns] > _EPS]] = False
        kept = ~(unmatched & (self.ignored > 0.5 + _EPS))
        return self.truths, [number for number, keep in zip(self.results, kept) if keep], self.iou[:, kept]


def _report(scored: dict[str, dict[str, ClassScores]]) -> Report:
    """Sums over sequences, ratios at the end."""
    summary, sequences, objects = {}, {name: {} for name in scored}, {}
    warnings = []
    for word in CLASSES.values():
        parts = {name: classes[word] for name, classes in scored.items()}
        total = sum((part.counts for part in parts.values()), MotsCounts())
        hota = hota_tools.scores([part.hota for part in parts.values()])
        numbers = {**total.scores(), **hota}
        summary |= {f"{word}.{key}": value for key, value in numbers.items()}
        objects[word] = {**_counted(total), "truths": total.truths}
        for name, part in parts.items():
            own = part.counts.scores()
            sequences[name][word] = {**own, **_counted(part.counts), **hota_tools.scores([part.hota])}
        if not total.truths:
            warnings.append(
                f"there is no ground truth of the class {word}: its sMOTSA and MOTSA are minus infinity in mots_tools"
            )
        if not total.true_positives:
            warnings.append(f"no result of the class {word} is right: its MOTSP is plus infinity in mots_tools")
    return Report("kitti-mots", None, summary, sequences, objects, warnings)


def _counted(counts: MotsCounts) -> dict[str, int]:
    return {
        "TP": counts.true_positives,
        "FP": counts.false_positives,
        "FN": counts.false_negatives,
        "ignored": counts.ignored,
    }
