"""davis2016: one object a sequence, DAVIS 2016 rules.

- Ground truth ``Annotations/480p/<sequence>/*.png``; sequences from ``ImageSets/480p/<split>.txt`` (2016
  release: pairs of paths) or ``ImageSets/2016/<split>.txt`` (names). Results ``<sequence>/<same name>.png``.
- All annotated frames count but the first and the last; those need no result.
- Ground truth: every value but 0 is the object, all ids of indexed files together, 255 too.
- What is foreground in a result is a convention, and matters only where a result is not binary: ``nonzero``
  (default, the Python tools), ``half-maximum`` (the MATLAB tool: where a frame holds other values than 0 and
  255 or 0 and 1, those above half of the frame's largest), ``above-128`` (a community tool: values above
  128).
- Means run over sequences: each weighs the same, however long.
- The decay is that of the official Python tools, with frame numbers in 8 bits; ``fixed`` takes whole ones.

Equals the DAVIS-2016 Python package, and the DAVIS-2017 package of the same author in single-object mode.
Temporal stability is not part of the protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pliant.datasets.davis import annotation_files, annotation_folder, sequence_names
from pliant.errors import DatasetError, UnknownNameError
from pliant.evaluation.davis import davis_report
from pliant.evaluation.report import FrameCurve, Report
from pliant.evaluation.results import Problems, find_results, read_pair
from pliant.evaluation.workers import Progress, run_tasks
from pliant.metrics.frames import mask_scores

__all__ = ["CONVENTIONS", "evaluate_davis2016"]


def _nonzero(values: np.ndarray) -> np.ndarray:
    return values != 0


def _half_maximum(values: np.ndarray) -> np.ndarray:
    highest = int(values.max(initial=0))
    if highest in (1, 255) and np.isin(values, (0, highest)).all():
        return values != 0
    return values > highest / 2


def _above_128(values: np.ndarray) -> np.ndarray:
    return values > 128


# name -> which pixels of a result are the object
CONVENTIONS = {"nonzero": _nonzero, "half-maximum": _half_maximum, "above-128": _above_128}


def evaluate_davis2016(
    gt: str | Path,
    results: str | Path,
    *,
    split: str = "val",
    convention: str = "nonzero",
    fixed: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """J and F by the rules of DAVIS 2016 (see the module's text).

    Parameters
    ----------
    gt:
        Root of the dataset: holds ``Annotations/480p`` and ``ImageSets``.
    results:
        Folder of ``<sequence>/<frame>.png``. Nothing is written there.
    split:
        Name of the list of sequences.
    convention:
        ``nonzero``, ``half-maximum`` or ``above-128``.
    fixed:
        Decay without the 8-bit overflow of the official tools.
    jobs, progress:
        As in :func:`pliant.evaluation.workers.run_tasks`.

    Raises DatasetError and ResultsError.
    """
    if convention not in CONVENTIONS:
        raise UnknownNameError("convention of davis2016", convention, CONVENTIONS)
    gt, results = Path(gt), Path(results)
    folder = annotation_folder(gt)
    warnings: list[str] = []
    files = {name: annotation_files(folder, name) for name in sequence_names(gt, split, 2016, warnings)}
    for name, masks in files.items():
        if len(masks) < 3:
            raise DatasetError(
                f"sequence {name} has {len(masks)} annotated frames; the first and the last do not count, "
                "so three are needed"
            )
    find_results(results, [(name, [mask.name for mask in masks[1:-1]]) for name, masks in files.items()])
    tasks = [(name, masks, results / name, convention) for name, masks in files.items()]
    scored = run_tasks(score_sequence, tasks, [len(masks) for masks in files.values()], jobs, progress)
    Problems.raise_first(problems for _, _, problems in scored)
    curves = [curve for curve, _, _ in scored]
    warnings += _uncounted_warning(files, results) + _value_warning(scored, convention)
    report = davis_report("davis2016", convention, curves, list(files), fixed, warnings)
    report.sequences, report.objects = report.objects, {}
    return report


def score_sequence(
    name: str, masks: Sequence[Path], folder: Path, convention: str
) -> tuple[FrameCurve, str | None, Problems]:
    """J and F in every counted frame; the first result that is not binary; result files that cannot be
    used."""
    problems, several, scores = Problems(), None, []
    for mask in masks[1:-1]:
        pair = read_pair(mask, folder / mask.name, name, problems)
        if pair is None:
            continue
        truth, values = pair
        foreground = values != 0
        if several is None and not np.array_equal(values, foreground * values.max(initial=0)):
            several = str(folder / mask.name)
        scores.append(mask_scores(CONVENTIONS[convention](values), truth != 0))
    curve = FrameCurve(name, 0, masks[1:-1], folder, [j for j, _ in scores], [f for _, f in scores])
    return curve, several, problems


def _uncounted_warning(files: dict[str, list[Path]], results: Path) -> list[str]:
    """Where first or last frame have no result, which is allowed."""
    ends = [(name, mask.name) for name, masks in files.items() for mask in (masks[0], masks[-1])]
    missing = [name for name, file in ends if not (results / name / file).is_file()]
    if not missing:
        return []
    return [f"no result for the first or the last frame of {', '.join(dict.fromkeys(missing))}; they do not count"]


def _value_warning(scored: Sequence[tuple[FrameCurve, str | None, Problems]], convention: str) -> list[str]:
    """Where results hold more than one value besides 0, so that the convention matters."""
    several = [path for _, path, _ in scored if path is not None]
    if not several:
        return []
    return [
        f"{several[0]} holds result values other than 0 and one more (so do results of {len(several)} "
        f"sequences): what counts as object follows the convention {convention} here, and other tools take "
        "another"
    ]
