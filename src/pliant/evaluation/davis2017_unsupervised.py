"""davis2017-unsupervised: find the objects and follow them, DAVIS 2017 rules (also those of the 2019
challenge).

- Ground truth ``Annotations_unsupervised/480p/<sequence>/*.png``, sequences from
  ``ImageSets/2017/<split>.txt`` (2019 for test-dev and test-challenge); results ``<sequence>/<same
  name>.png`` with ids of one's own.
- All annotated frames count, first and last too.
- The objects are 1..N, N the largest id of the first mask, 255 aside. The proposals are 1..M, M the largest
  id of the sequence's results: at most 20. It is the highest id that counts, so ids 3, 7 and 20 are 20
  proposals, of which 17 are empty; a result pixel of 255 is proposal 255.
- 255 in the ground truth is void: taken out of both masks before J and F.
- A proposal may stand for one object. The assignment with the largest total of mean J + mean F is taken
  (SciPy's, with proposals as rows, which decides ties); proposals that are left over cost nothing, objects
  without one score as if nothing had been found.
- Means run over all objects of all sequences. The decay is that of the official tool, with frame numbers in 8
  bits; ``fixed`` takes whole ones.
- The official tool lists the matched pairs in the order of the proposals and numbers them 1, 2, ...: these
  are not ids. Here objects have their true ids, and ``official_name`` is what the tool calls them.

Equals davis2017-evaluation, task unsupervised, with NumPy 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pliant.datasets.davis import annotation_files, annotation_folder, sequence_names
from pliant.errors import DatasetError
from pliant.evaluation.davis import davis_report
from pliant.evaluation.davis2017 import first_objects
from pliant.evaluation.report import FrameCurve, Report
from pliant.evaluation.results import Problems, find_results, read_pair
from pliant.evaluation.workers import Progress, run_tasks
from pliant.metrics.frames import pair_scores

__all__ = ["MOST_PROPOSALS", "evaluate_davis2017_unsupervised"]

MOST_PROPOSALS = 20


def evaluate_davis2017_unsupervised(
    gt: str | Path,
    results: str | Path,
    *,
    split: str = "val",
    fixed: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """J and F by the unsupervised rules of DAVIS 2017 (see the module's text).

    Parameters
    ----------
    gt:
        Root of the dataset: holds ``Annotations_unsupervised/480p`` and ``ImageSets``.
    results:
        Folder of ``<sequence>/<frame>.png``. Nothing is written there.
    split:
        Name of the list of sequences.
    fixed:
        Decay without the 8-bit overflow of the official tool, no official names.
    jobs, progress:
        As in :func:`pliant.evaluation.workers.run_tasks`.

    Raises DatasetError and ResultsError.
    """
    gt, results = Path(gt), Path(results)
    folder = annotation_folder(gt, unsupervised=True)
    year = 2019 if split in ("test-dev", "test-challenge") else 2017
    warnings: list[str] = []
    files = {name: annotation_files(folder, name) for name in sequence_names(gt, split, year, warnings)}
    find_results(results, [(name, [mask.name for mask in masks]) for name, masks in files.items()])
    tasks = [(name, masks, results / name) for name, masks in files.items()]
    scored = run_tasks(score_sequence, tasks, [len(masks) for masks in files.values()], jobs, progress)
    Problems.raise_first(problems for _, _, problems in scored)
    curves = [curve for part, _, _ in scored for curve in part]
    if not curves:
        raise DatasetError(f"no sequence of {gt} has an object in its first frame: there is nothing to score")
    names = [f"{curve.sequence}_{curve.object}" for curve in curves]
    warnings += [sentence for _, sentences, _ in scored for sentence in sentences]
    report = davis_report("davis2017-unsupervised", None, curves, names, fixed, warnings)
    for name, curve in zip(names, curves, strict=True):
        report.objects[name]["proposal"] = curve.prediction
    if not fixed:
        _add_official_names(report)
    return report


def score_sequence(name: str, masks: Sequence[Path], folder: Path) -> tuple[list[FrameCurve], list[str], Problems]:
    """J and F of every object with its proposal; sentences to warn with; result files that cannot be used."""
    objects, warnings = first_objects(name, masks[0])
    problems, highest, scores = Problems(), 0, []
    for mask in masks:
        pair = read_pair(mask, folder / mask.name, name, problems)
        if pair is None:
            continue
        truth, labels = pair
        proposals = int(labels.max(initial=0))
        if proposals > MOST_PROPOSALS:
            problems.add(
                f"frame {mask.stem} of {name} has proposal id {proposals}, but {MOST_PROPOSALS} is the "
                f"highest id allowed: {folder / mask.name} must hold ids 1 to {MOST_PROPOSALS} and 0"
            )
            continue
        highest = max(highest, proposals)
        void = truth == 255
        # The proposal after the last is empty, as are all that this frame does not have.
        scores.append(pair_scores(labels, truth, proposals + 1, objects, void if void.any() else None))
    if problems.count or not objects:
        return [], warnings, problems
    rows = max(highest, objects)
    j, f = (np.stack([_fill(score[part], rows) for score in scores]) for part in (0, 1))  # [frames, rows, objects]
    assigned = _assign((j.mean(axis=0) + f.mean(axis=0)) / 2)
    curves = [
        FrameCurve(name, k + 1, masks, folder, j[:, q, k].tolist(), f[:, q, k].tolist(), prediction=q + 1)
        for k, q in sorted(assigned.items())
    ]
    return curves, warnings, problems


def _fill(scores: np.ndarray, rows: int) -> np.ndarray:
    """Scores of ``rows`` proposals from those of the first few, of which the last is an empty one."""
    missing = rows - len(scores)
    return np.concatenate([scores, np.repeat(scores[-1:], missing, axis=0)]) if missing > 0 else scores[:rows]


def _assign(scores: np.ndarray) -> dict[int, int]:
    """Object -> proposal with the largest total of ``scores`` [proposals, objects]."""
    from scipy.optimize import linear_sum_assignment

    proposals, objects = linear_sum_assignment(-scores)
    return dict(zip(objects.tolist(), proposals.tolist(), strict=True))


def _add_official_names(report: Report) -> None:
    """What the official tool calls each object: it numbers the pairs of a sequence in order of their
    proposals."""
    order = sorted(report.curves, key=lambda curve: (curve.sequence, curve.prediction))
    count: dict[str, int] = {}
    renamed = 0
    for curve in order:
        count[curve.sequence] = count.get(curve.sequence, 0) + 1
        name, official = f"{curve.sequence}_{curve.object}", f"{curve.sequence}_{count[curve.sequence]}"
        report.objects[name]["official_name"] = official
        renamed += name != official
    if renamed:
        report.warnings.append(
            f"the official tool lists {renamed} objects under another one's name, in the order of proposals; "
            "they have their true ids here and official_name beside them"
        )
