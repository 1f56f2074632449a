"""Matching and precision by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pliant.metrics.average_precision import RECALL_POINTS, THRESHOLDS, match, precision_recall


def matched(iou, ignored=None, crowd=None, outside=None, lost=None):
    iou = np.array(iou, float)
    detections, truths = iou.shape
    none = np.zeros(truths, bool)
    return match(
        iou,
        np.linspace(1, 0.1, detections),
        none if ignored is None else np.array(ignored),
        none if crowd is None else np.array(crowd),
        np.zeros(detections, bool) if outside is None else np.array(outside),
        lost if lost is None else np.array(lost),
    )


def test_a_taken_annotation_is_gone():
    assert matched([[0.6], [0.9]]).matched[0].tolist() == [True, False]
    assert matched([[0.6], [0.9]]).matched[4].tolist() == [False, True]  # at 0.7 only the second fits


def test_of_equal_overlaps_the_later_wins():
    result = matched([[0.7, 0.7], [0.7, 0.0]])
    assert result.matched[0].tolist() == [True, True]


def test_overlap_at_the_threshold_matches():
    assert matched([[0.5]]).matched[0].tolist() == [True]
    assert matched([[1.0]]).matched.all()


def test_a_crowd_takes_many_and_counts_for_nothing():
    result = matched([[0.9], [0.8]], ignored=[True], crowd=[True])
    assert result.truths == 0 and result.matched[0].all() and result.ignored[0].all()


def test_what_is_to_be_found_goes_before_what_is_ignored():
    result = matched([[0.95, 0.6]], ignored=[True, False], crowd=[True, False])
    assert result.matched[0, 0] and not result.ignored[0, 0]
    assert result.ignored[5, 0]  # at 0.75 the regular one fits no more


def test_a_lost_match_leaves_the_annotation_taken():
    result = matched([[0.9], [0.9]], lost=[True])
    assert not result.matched.any() and not result.ignored.any()


def test_unmatched_outside_the_range_is_ignored():
    assert matched([[0.1]], outside=[True]).ignored.all()


def test_precision_of_one_right_and_one_wrong():
    precision, recall = precision_recall([matched([[0.0], [1.0]])], 100)
    assert precision == pytest.approx(np.full((10, 101), 0.5)) and recall == pytest.approx(1)
    precision, recall = precision_recall([matched([[0.0], [1.0]])], 1)
    assert not precision.any() and not recall.any()


def test_precision_beyond_the_reached_recall_is_zero():
    precision, recall = precision_recall([matched([[1.0, 0.0]])], 100)
    assert recall == pytest.approx(0.5)
    assert (precision[0] > 0).tolist() == (RECALL_POINTS <= 0.5).tolist()


def test_nothing_to_find_and_nothing_found():
    assert precision_recall([], 100) is None
    precision, recall = precision_recall([matched(np.zeros((0, 3)))], 100)
    assert not precision.any() and not recall.any() and len(recall) == len(THRESHOLDS)
