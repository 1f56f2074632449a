"""Average precision of detected tracks: matching in a video, then precision and recall over all videos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["RECALL_POINTS", "THRESHOLDS", "Matches", "match", "precision_recall"]

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of the IoU
RECALL_POINTS = np.linspace(0.0, 1.0, 101)


class Matches(NamedTuple):
    """What the detections of a category in a video are worth.

    ``scores`` [D] falling; ``matched`` and ``ignored`` [T, D] bool, one row a threshold; ``truths`` the
    number of annotations that are to be found.
    """

    scores: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    truths: int


def match(
    iou: np.ndarray,
    scores: np.ndarray,
    ignored_truth: np.ndarray,
    crowd: np.ndarray,
    ignored_if_unmatched: np.ndarray,
    lost: np.ndarray | None = None,
) -> Matches:
    """Give each detection, best score first, the annotation that it overlaps most.

    Parameters
    ----------
    iou:
        [D, G], detections by falling score, annotations in the order of the file.
    scores:
        [D], falling.
    ignored_truth:
        [G] bool, annotations that need not be found; a detection matched with one counts for nothing. One
        that is to be found and fits goes before them, however well they fit.
    crowd:
        [G] bool, annotations that several detections may match.
    ignored_if_unmatched:
        [D] bool, detections that are no false positive when nothing matches.
    lost:
        [G] bool, annotations whose match counts as none, while they stay taken (the official tool takes a
        match with annotation id 0 for no match).

    Of equal overlaps the later annotation wins. Source: YTVOSeval, evaluateVid.
    """
    detections, truths = iou.shape
    order = np.argsort(ignored_truth, kind="stable")
    matched = np.zeros((len(THRESHOLDS), detections), bool)
    ignored = np.zeros((len(THRESHOLDS), detections), bool)
    for t, threshold in enumerate(THRESHOLDS):
        taken = np.zeros(truths, bool)
        for d in range(detections):
            best, found = min(threshold, 1 - 1e-10), -1
            for g in order:
                if taken[g] and not crowd[g]:
                    continue
                if found >= 0 and not ignored_truth[found] and ignored_truth[g]:
                    break
                if iou[d, g] >= best:
                    best, found = iou[d, g], g
            if found < 0:
                continue
            taken[found] = True
            matched[t, d] = lost is None or not lost[found]
            ignored[t, d] = ignored_truth[found]
    ignored |= ~matched & ignored_if_unmatched
    return Matches(scores, matched, ignored, int(np.count_nonzero(~ignored_truth)))


def precision_recall(videos: Sequence[Matches], most: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Precision at the recall points [T, 101] and final recall [T] of a category.

    Parameters
    ----------
    videos:
        The matches in each video, by rising video id, which decides between equal scores.
    most:
        Detections of each video that count, the best ones.

    None where there is nothing to find. Source: YTVOSeval, accumulate.
    """
    truths = sum(video.truths for video in videos)
    if not truths:
        return None
    scores = np.concatenate([video.scores[:most] for video in videos])
    order = np.argsort(-scores, kind="stable")
    matched = np.concatenate([video.matched[:, :most] for video in videos], axis=1)[:, order]
    ignored = np.concatenate([video.ignored[:, :most] for video in videos], axis=1)[:, order]
    right = np.cumsum(matched & ~ignored, axis=1)
    wrong = np.cumsum(~matched & ~ignored, axis=1)
    recall = right / truths
    precision = right / (right + wrong + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # never rising with recall
    at_points = np.zeros((len(THRESHOLDS), len(RECALL_POINTS)))
    for t in range(len(THRESHOLDS)):
        index = np.searchsorted(recall[t], RECALL_POINTS, side="left")
        reached = index < len(order)
        at_points[t, reached] = precision[t, index[reached]]
    final = recall[:, -1] if len(order) else np.zeros(len(THRESHOLDS))
    return at_points, final
