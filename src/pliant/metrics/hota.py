"""HOTA: how well objects are found (DetA), kept apart (AssA) and outlined (LocA), at 19 thresholds of the
overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["ALPHAS", "HotaCounts", "HotaFrame", "combine", "count_hota"]

ALPHAS = np.arange(0.05, 0.99, 0.05)
_EPS = np.finfo(np.float64).eps
_TINY = 1e-10

# Ground-truth ids [G], result ids [P], IoU [G, P] of a frame.
HotaFrame = tuple[Sequence[int], Sequence[int], np.ndarray]


@dataclass(frozen=True)
class HotaCounts:
    """True positives, misses and false positives, association and localisation, each [19]."""

    true_positives: np.ndarray
    misses: np.ndarray
    false_positives: np.ndarray
    association: np.ndarray
    localisation: np.ndarray

    def scores(self) -> dict[str, float]:
        """HOTA, DetA, AssA and LocA: means over the thresholds. HOTA is the mean of sqrt(DetA * AssA), not
        the root of the means."""
        detection = self.true_positives / np.maximum(1, self.true_positives + self.misses + self.false_positives)
        return {
            "HOTA": float(np.mean(np.sqrt(detection * self.association))),
            "DetA": float(np.mean(detection)),
            "AssA": float(np.mean(self.association)),
            "LocA": float(np.mean(self.localisation)),
        }


def count_hota(frames: Sequence[HotaFrame]) -> HotaCounts:
    """The counts of one sequence and class.

    Pairs of tracks are aligned over the whole sequence first; each frame is then matched once, by alignment
    times overlap, for all thresholds. Source: Luiten et al., IJCV 2020; equals TrackEval.
    """
    truths = _numbered(ids for ids, _, _ in frames)
    results = _numbered(ids for _, ids, _ in frames)
    zeros = np.zeros(len(ALPHAS))
    present = sum(len(ids) for ids, _, _ in frames), sum(len(ids) for _, ids, _ in frames)
    if not present[0] or not present[1]:
        return HotaCounts(zeros, zeros + present[0], zeros + present[1], zeros, zeros + 1)
    rows = [np.array([truths[number] for number in ids], np.intp) for ids, _, _ in frames]
    columns = [np.array([results[number] for number in ids], np.intp) for _, ids, _ in frames]
    overlaps = [iou for _, _, iou in frames]
    alignment, lengths = _alignment(rows, columns, overlaps, (len(truths), len(results)))
    matches = np.zeros((len(ALPHAS), len(truths), len(results)))
    localisation = np.zeros(len(ALPHAS))
    for row, column, iou in zip(rows, columns, overlaps, strict=True):
        if not len(row) or not len(column):
            continue
        matched_row, matched_column = _assignment(alignment[np.ix_(row, column)] * iou)
        similarity = iou[matched_row, matched_column]
        for index, alpha in enumerate(ALPHAS):
            good = similarity >= alpha - _EPS
            localisation[index] += similarity[good].sum()
            matches[index, row[matched_row[good]], column[matched_column[good]]] += 1
    true_positives = matches.sum(axis=(1, 2))
    association = (matches**2 / np.maximum(1, lengths - matches)).sum(axis=(1, 2)) / np.maximum(1, true_positives)
    return HotaCounts(
        true_positives,
        present[0] - true_positives,
        present[1] - true_positives,
        association,
        np.maximum(_TINY, localisation) / np.maximum(_TINY, true_positives),
    )


def combine(sequences: Sequence[HotaCounts]) -> HotaCounts:
    """The counts of several sequences: association and localisation weigh by true positives."""
    weights = [part.true_positives for part in sequences]
    total = np.sum(weights, axis=0)
    association = np.sum([part.association * weight for part, weight in zip(sequences, weights)], axis=0)
    localisation = np.sum([part.localisation * weight for part, weight in zip(sequences, weights)], axis=0)
    return HotaCounts(
        total,
        np.sum([part.misses for part in sequences], axis=0),
        np.sum([part.false_positives for part in sequences], axis=0),
        association / np.maximum(1, total),
        np.maximum(_TINY, localisation) / np.maximum(_TINY, total),
    )


def _numbered(ids) -> dict[int, int]:
    """Each id's place among all, rising."""
    return {number: place for place, number in enumerate(sorted({number for frame in ids for number in frame}))}


def _alignment(
    rows: Sequence[np.ndarray],
    columns: Sequence[np.ndarray],
    overlaps: Sequence[np.ndarray],
    shape: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """How well each pair of tracks fits over the whole sequence, and the sum of their lengths, both [tracks,
    tracks]."""
    shared = np.zeros(shape)
    row_frames, column_frames = np.zeros((shape[0], 1)), np.zeros((1, shape[1]))
    for row, column, iou in zip(rows, columns, overlaps, strict=True):
        either = iou.sum(axis=0)[None, :] + iou.sum(axis=1)[:, None] - iou
        shared[np.ix_(row, column)] += np.divide(iou, either, out=np.zeros_like(iou), where=either > _EPS)
        row_frames[row] += 1
        column_frames[0, column] += 1
    lengths = row_frames + column_frames
    return shared / (lengths - shared), lengths


def _assignment(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the assignment with the largest total."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(-score)
