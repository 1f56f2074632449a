"""Which frames make a training clip."""

from __future__ import annotations

import numpy as np

from pliant.datasets.clip_samplers import consecutive, following, window


def rng(seed=0):
    return np.random.default_rng(seed)


def test_consecutive_frames_from_any_start():
    clips = [consecutive(12, 8, rng(seed)) for seed in range(50)]
    assert {clip[0] for clip in clips} == {0, 1, 2, 3, 4}
    assert all(np.diff(clip).tolist() == [1] * 7 for clip in clips)


def test_a_short_video_repeats_its_last_frame():
    assert consecutive(3, 8, rng()) == [0, 1, 2, 2, 2, 2, 2, 2]


def test_the_window_is_drawn_from_with_replacement_and_sorted():
    clips = [window(50, 20, 8, rng(seed)) for seed in range(200)]
    assert {i for clip in clips for i in clip} == set(range(16, 24))
    assert all(clip == sorted(clip) and len(clip) == 8 for clip in clips)
    assert any(len(set(clip)) < 8 for clip in clips)


def test_the_window_is_cut_at_the_ends():
    assert {i for seed in range(100) for i in window(50, 1, 8, rng(seed))} == set(range(5))
    assert {i for seed in range(100) for i in window(50, 49, 8, rng(seed))} == {45, 46, 47, 48, 49}
    assert window(1, 0, 8, rng()) == [0] * 8


def test_following_frames_are_drawn_without_replacement():
    clips = [following(50, 20, 8, rng(seed)) for seed in range(200)]
    assert {i for clip in clips for i in clip} == set(range(20, 32))
    assert all(len(set(clip)) == 8 and clip == sorted(clip) for clip in clips)


def test_following_frames_repeat_the_first_where_few_are_left():
    assert following(10, 7, 8, rng()) == [7] * 5 + [7, 8, 9]
