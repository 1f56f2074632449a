"""davis2017: follow the objects of a given first mask (semi-supervised), DAVIS 2017 rules.

- Ground truth ``Annotations/480p/<sequence>/*.png`` in order of name, sequences from
  ``ImageSets/2017/<split>.txt``; results ``<sequence>/<same name>.png`` with the ids of the first mask.
  Images are not needed.
- All annotated frames count but the first and the last, whose results are never opened.
- The objects are 1..N, N the largest id of the first mask. An id that is missing there but below N is an
  object all the same, and one that never exists is right (J = F = 1) whenever the result has none of it. A
  higher id that comes later is background.
- 255 in the ground truth is background: neither an object nor left out.
- A result id above N in a counted frame is an error; a missing one is an empty mask.
- Means run over all objects of all sequences: a sequence with five objects weighs five times one with one.
- The decay is that of the official tool, with frame numbers in 8 bits; ``fixed`` takes whole ones.

Equals davis2017-evaluation, task semi-supervised, with NumPy 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pliant.datasets.davis import annotation_files, annotation_folder, sequence_names
from pliant.datasets.labels import read_labels
from pliant.errors import DatasetError
from pliant.evaluation.davis import davis_report
from pliant.evaluation.report import FrameCurve, Report
from pliant.evaluation.results import Problems, find_results, read_pair
from pliant.evaluation.workers import Progress, run_tasks
from pliant.metrics.frames import frame_scores

__all__ = ["evaluate_davis2017"]


def evaluate_davis2017(
    gt: str | Path,
    results: str | Path,
    *,
    split: str = "val",
    fixed: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """J and F by the semi-supervised rules of DAVIS 2017 (see the module's text).

    Parameters
    ----------
    gt:
        Root of the dataset: holds ``Annotations/480p`` and ``ImageSets/2017``.
    results:
        Folder of ``<sequence>/<frame>.png``. Nothing is written there and no file but these is read.
    split:
        Name of the list in ``ImageSets/2017``.
    fixed:
        Decay without the 8-bit overflow of the official tool.
    jobs, progress:
        As in :func:`pliant.evaluation.workers.run_tasks`.

    Raises DatasetError and ResultsError.
    """
    gt, results = Path(gt), Path(results)
    folder = annotation_folder(gt)
    warnings: list[str] = []
    files = {name: annotation_files(folder, name) for name in sequence_names(gt, split, 2017, warnings)}
    for name, masks in files.items():
        if len(masks) < 3:
            raise DatasetError(
                f"sequence {name} has {len(masks)} annotated frames; the first and the last do not count, "
                "so three are needed"
            )
    find_results(results, [(name, [mask.name for mask in masks[1:-1]]) for name, masks in files.items()])
    tasks = [(name, masks, results / name) for name, masks in files.items()]
    scored = run_tasks(score_sequence, tasks, [len(masks) for masks in files.values()], jobs, progress)
    Problems.raise_first(problems for _, _, problems in scored)
    curves = [curve for part, _, _ in scored for curve in part]
    if not curves:
        raise DatasetError(f"no sequence of {gt} has an object in its first frame: there is nothing to score")
    names = [f"{curve.sequence}_{curve.object}" for curve in curves]
    warnings += [sentence for _, sentences, _ in scored for sentence in sentences]
    return davis_report("davis2017", None, curves, names, fixed, warnings)


def score_sequence(name: str, masks: Sequence[Path], folder: Path) -> tuple[list[FrameCurve], list[str], Problems]:
    """J and F of every object in every counted frame; sentences to warn with; result files that cannot be
    used."""
    objects, warnings = first_objects(name, masks[0])
    problems = Problems()
    late, void = set(), (read_labels(masks[0]) == 255).any()
    scores = []
    for mask in masks[1:-1]:
        pair = read_pair(mask, folder / mask.name, name, problems)
        if pair is None:
            continue
        truth, labels = pair
        highest = int(labels.max(initial=0))
        if highest > objects:
            problems.add(
                f"frame {mask.stem} of {name} has id {highest}, but the objects of the first mask are 1 to "
                f"{objects}: {folder / mask.name} must hold no higher id"
            )
            continue
        largest = int(truth.max(initial=0))
        if largest > objects:
            void = void or largest == 255
            late.update(np.unique(truth[(truth > objects) & (truth < 255)]).tolist())
        scores.append(frame_scores(labels, truth, range(1, objects + 1)))
    if late and objects:
        ids = ", ".join(str(number) for number in sorted(late))
        warnings.append(f"sequence {name} has id {ids} only after its first frame; it counts as background")
    if void:
        warnings.append(f"the ground truth of {name} holds 255; it counts as background in this protocol")
    curves = [
        FrameCurve(name, k + 1, masks[1:-1], folder, [j[k] for j, _ in scores], [f[k] for _, f in scores])
        for k in range(objects)
    ]
    return curves, warnings, problems


def first_objects(name: str, mask: Path) -> tuple[int, list[str]]:
    """The number of objects of a sequence, which is the largest id of its first mask, and what to warn of."""
    labels = read_labels(mask)
    present = set(np.unique(labels[labels < 255]).tolist()) - {0}
    objects = max(present, default=0)
    if not objects:
        return 0, [f"sequence {name} has no object in its first frame and adds nothing"]
    absent = sorted(set(range(1, objects + 1)) - present)
    if absent:
        ids = ", ".join(str(number) for number in absent)
        return objects, [
            f"sequence {name} has no object {ids} in its first frame, whose largest id is {objects}; the "
            f"objects are 1 to {objects} all the same"
        ]
    return objects, []
