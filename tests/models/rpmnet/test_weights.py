"""The weights in the package: what their card says they can do."""

from __future__ import annotations

import numpy as np
import pytest

import pliant
from conftest import shared
from pliant.datasets import davis
from pliant.metrics.frames import frame_scores

_FRAMES = 25


@pytest.mark.slow
@pytest.mark.parametrize(("name", "card"), [("dog", 86.0), ("blackswan", 91.9)])
def test_the_first_frames_score_as_the_card_says(name: str, card: float):
    """Mean J of frames 1 to 24 at a short side of 240, less half a point for another machine's arithmetic."""
    clip = next(clip for clip in davis.clips(shared("data/davis-dev"), "val") if clip.name == name)
    tracker = pliant.Tracker(pliant.load("rpmnet"), size=240)
    tracker.add_objects(clip.frame(0), clip.labels(0))
    scores = []
    for index in range(1, _FRAMES):
        found = tracker.step(clip.frame(index))
        scores.append(frame_scores(found, clip.labels(index), [1])[0][0])
    assert 100 * np.mean(scores) >= card - 0.5
