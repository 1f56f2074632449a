"""sMOTSA, MOTSA, MOTSP and identity switches of segmented tracks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["MotsCounts", "clear_mots"]


@dataclass(frozen=True)
class MotsCounts:
    """What is counted in a sequence, and in all: add them up, then ask for the ratios."""

    truths: int = 0
    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    ignored: int = 0
    switches: int = 0
    overlap: float = 0.0  # sum of the IoU of the true positives

    def __add__(self, other: MotsCounts) -> MotsCounts:
        return MotsCounts(*(a + b for a, b in zip(self.values(), other.values(), strict=True)))

    def values(self) -> tuple[float, ...]:
        """All counts, in order."""
        return tuple(vars(self).values())

    def scores(self) -> dict[str, float]:
        """sMOTSA and MOTSA (minus infinity without ground truth), MOTSP (plus infinity without a match),
        IDS."""
        wrong = self.false_positives + self.switches
        return {
            "sMOTSA": (self.overlap - wrong) / self.truths if self.truths else -math.inf,
            "MOTSA": 1 - (self.false_negatives + wrong) / self.truths if self.truths else -math.inf,
            "MOTSP": self.overlap / self.true_positives if self.true_positives else math.inf,
            "IDS": self.switches,
        }


def clear_mots(frames: Iterable[tuple[Sequence[int], Sequence[int], np.ndarray, np.ndarray]]) -> MotsCounts:
    """Count the frames of one sequence and class.

    Parameters
    ----------
    frames:
        For each frame: ids of the ground truth [G], ids of the results [P], their IoU [G, P], and the share
        of each result that lies in ignored regions [P]. Masks of one side do not overlap, so that an IoU
        above 0.5 is unique.

    A pair with IoU above 0.5 is a match. An unmatched result more than half of which is in ignored regions
    counts for nothing. A switch is a match of a track with another result than its last match, however long
    ago. Source: Voigtlaender et al., MOTS, CVPR 2019, section 4; equals mots_tools.
    """
    total = MotsCounts()
    last: dict[int, int] = {}
    for truths, results, iou, ignored_share in frames:
        rows, columns = np.nonzero(iou > 0.5)
        unmatched = np.ones(len(results), bool)
        unmatched[columns] = False
        ignored = int(np.count_nonzero(unmatched & (ignored_share > 0.5)))
        switches = 0
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            switches += last.get(truths[row], results[column]) != results[column]
            last[truths[row]] = results[column]
        total += MotsCounts(
            truths=len(truths),
            true_positives=len(rows),
            false_positives=len(results) - len(rows) - ignored,
            false_negatives=len(truths) - len(rows),
            ignored=ignored,
            switches=switches,
            overlap=float(iou[rows, columns].sum()),
        )
    return total
