"""What the three DAVIS protocols have in common: statistics an object, means over objects, their warnings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pliant.evaluation.report import FrameCurve, Report
from pliant.metrics.statistics import DECAY_LIMIT, decay, mean, recall

__all__ = ["STATISTICS", "davis_report", "object_statistics"]

STATISTICS = ("J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")


def object_statistics(j: Sequence[float], f: Sequence[float], fixed: bool) -> dict[str, float]:
    """The six statistics of an object from its J and F in each counted frame."""
    return {
        "J-Mean": mean(j),
        "J-Recall": recall(j),
        "J-Decay": decay(j, eight_bit=not fixed),
        "F-Mean": mean(f),
        "F-Recall": recall(f),
        "F-Decay": decay(f, eight_bit=not fixed),
    }


def davis_report(
    protocol: str,
    convention: str | None,
    curves: Sequence[FrameCurve],
    names: Sequence[str],
    fixed: bool,
    warnings: Sequence[str],
) -> Report:
    """The report from the scores of all objects, which are called ``names``.

    The numbers of the dataset are plain means over the objects; a NaN among them makes the mean NaN, as it
    does in the official tools.
    """
    objects = {name: object_statistics(curve.j, curve.f, fixed) for name, curve in zip(names, curves, strict=True)}
    summary = {key: mean([part[key] for part in objects.values()]) for key in STATISTICS}
    summary = {"J&F-Mean": (summary["J-Mean"] + summary["F-Mean"]) / 2, **summary}
    by_sequence: dict[str, list[dict[str, float]]] = {}
    for curve, part in zip(curves, objects.values(), strict=True):
        by_sequence.setdefault(curve.sequence, []).append(part)
    sequences = {
        name: {key: mean([p[key] for p in parts]) for key in STATISTICS} for name, parts in by_sequence.items()
    }
    report = Report(protocol, convention, summary, sequences, objects, list(warnings), list(curves))
    report.warnings += _decay_warnings(curves, objects, fixed)
    return report


def _decay_warnings(curves: Sequence[FrameCurve], objects: Mapping[str, Mapping[str, float]], fixed: bool) -> list[str]:
    """About sequences too long for the 8-bit frame numbers of the official tools."""
    longest = max(curves, key=lambda curve: len(curve.j))
    if len(longest.j) <= DECAY_LIMIT or fixed:
        return []
    wrong = "NaN" if any(math.isnan(part["J-Decay"]) for part in objects.values()) else "wrong"
    return [
        f"sequence {longest.sequence} has {len(longest.j)} counted frames: the official decay of a sequence "
        f"with more than {DECAY_LIMIT} is {wrong} (an 8-bit index overflows) and is given here as the "
        "official tool gives it; --fixed gives the right one"
    ]
