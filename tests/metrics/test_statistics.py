"""Mean, recall and decay by hand."""

from __future__ import annotations

import math

import pytest

from pliant.metrics import decay, mean, recall


def test_recall_is_above_the_half_not_at_it():
    assert recall([0.5, 0.500001, 0.2, 0.9]) == 0.5


def test_decay_of_one_value_is_none():
    assert decay([0.3]) == 0


def test_quarters_share_their_end_frames():
    values = [0, 1, 2, 3, 4, 5, 6, 7, 8]  # edges 0, 2, 4, 6, 8
    assert decay(values) == mean([0, 1, 2]) - mean([6, 7, 8])


@pytest.mark.parametrize(
    ("count", "edges"), [(2, (0, 0, 1, 1, 1)), (3, (0, 1, 1, 2, 2)), (6, (0, 1, 3, 4, 5)), (77, (0, 19, 38, 57, 76))]
)
def test_edges_are_rounded_half_up(count, edges):
    values = [float(n * n) for n in range(count)]
    assert decay(values) == mean(values[: edges[1] + 1]) - mean(values[edges[3] :])


@pytest.mark.parametrize("count", [1, 100, 256])
def test_eight_bits_are_enough_up_to_256(count):
    values = [float(n) for n in range(count)]
    assert decay(values, eight_bit=True) == decay(values)


def test_eight_bits_overflow():
    assert math.isnan(decay([0.5] * 300, eight_bit=True))
    values = [float(n) for n in range(413)]
    assert decay(values, eight_bit=True) != decay(values)


def test_nan_stays():
    assert math.isnan(mean([1.0, math.nan])) and math.isnan(mean([]))
