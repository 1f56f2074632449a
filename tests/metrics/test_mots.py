"""sMOTSA, MOTSA, MOTSP, switches and HOTA by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pliant.metrics.hota import combine, count_hota
from pliant.metrics.mots import MotsCounts, clear_mots


def frame(truths, results, iou, ignored=None):
    iou = np.array(iou, float).reshape(len(truths), len(results))
    return truths, results, iou, np.zeros(len(results)) if ignored is None else np.array(ignored)


def test_one_right_one_wrong_one_missed():
    counts = clear_mots([frame([1, 2], [7, 8], [[0.8, 0], [0, 0.4]])])
    assert counts == MotsCounts(2, 1, 1, 1, 0, 0, 0.8)
    assert counts.scores() == pytest.approx({"sMOTSA": -0.1, "MOTSA": 0, "MOTSP": 0.8, "IDS": 0})


def test_exactly_half_is_no_match_and_not_ignored():
    assert clear_mots([frame([1], [7], [[0.5]], [0.5])]) == MotsCounts(1, 0, 1, 1, 0, 0, 0)


def test_unmatched_results_in_ignored_regions_cost_nothing():
    counts = clear_mots([frame([1], [7, 8], [[0.9, 0]], [0.9, 0.6])])
    assert (counts.true_positives, counts.false_positives, counts.ignored) == (1, 0, 1)


def test_a_gap_does_not_forget_the_last_match():
    gap = frame([1], [], [])
    assert clear_mots([frame([1], [7], [[0.9]]), gap, frame([1], [7], [[0.9]])]).switches == 0
    assert clear_mots([frame([1], [7], [[0.9]]), gap, frame([1], [8], [[0.9]])]).switches == 1


def test_no_truth_and_no_match_are_infinite():
    assert MotsCounts().scores() == {"sMOTSA": -math.inf, "MOTSA": -math.inf, "MOTSP": math.inf, "IDS": 0}


def test_perfect_tracks_have_hota_one():
    frames = [([1, 2], [5, 9], np.eye(2))] * 4
    assert count_hota(frames).scores() == pytest.approx({"HOTA": 1, "DetA": 1, "AssA": 1, "LocA": 1})


def test_a_track_cut_in_two_halves_is_found_but_not_kept_together():
    frames = [([1], [5], np.ones((1, 1)))] * 2 + [([1], [6], np.ones((1, 1)))] * 2
    scores = count_hota(frames).scores()
    assert scores["DetA"] == 1 and scores["AssA"] == pytest.approx(0.5) and scores["HOTA"] == pytest.approx(0.5**0.5)


def test_nothing_found():
    counts = count_hota([([1], [], np.zeros((1, 0)))])
    assert counts.scores() == {"HOTA": 0, "DetA": 0, "AssA": 0, "LocA": 1}
    assert combine([counts, counts]).scores() == {"HOTA": 0, "DetA": 0, "AssA": 0, "LocA": 1}


def test_order_of_frames_and_names_of_tracks_do_not_matter():
    generator = np.random.default_rng(3)
    frames = [([1, 2, 3], [4, 5], generator.random((3, 2))) for _ in range(6)]
    renamed = [([10, 30, 20], [8, 9], iou) for _, _, iou in frames[::-1]]
    assert count_hota(renamed).scores() == pytest.approx(count_hota(frames).scores(), abs=1e-12)
