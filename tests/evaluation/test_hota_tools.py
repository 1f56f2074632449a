"""HOTA by the package trackeval and by pliant's own implementation."""

from __future__ import annotations

import numpy as np
import pytest

from pliant.evaluation import hota_tools


def random_frames(seed: int) -> list:
    """Tracks that come and go, with overlaps on a coarse grid so that ties and thresholds are hit."""
    generator = np.random.default_rng(seed)
    frames = []
    for _ in range(generator.integers(1, 12)):
        truths = generator.permutation(6)[: generator.integers(0, 6)]
        results = 100 + generator.permutation(7)[: generator.integers(0, 7)]
        iou = generator.integers(0, 21, (len(truths), len(results))) / 20
        frames.append((truths.tolist(), results.tolist(), iou))
    return frames


@pytest.mark.parametrize("seed", range(20))
def test_own_numbers_equal_trackeval(seed, monkeypatch):
    pytest.importorskip("trackeval.metrics.hota", reason="pip install 'pliant[mots]'")
    sequences = [random_frames(100 * seed + part) for part in range(3)]
    theirs = hota_tools.scores([hota_tools.count(frames) for frames in sequences])
    monkeypatch.setattr(hota_tools, "uses_trackeval", lambda: False)
    ours = hota_tools.scores([hota_tools.count(frames) for frames in sequences])
    assert ours == pytest.approx(theirs, rel=0, abs=1e-12)
