"""Sparse trackers on long videos: what they hold stops growing."""

from __future__ import annotations

import os
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pliant.inference.tracker import Tracker
from pliant.models import build

OPTIONS = {"blocks": (1, 1, 1), "memory_frames": 3}
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
@pytest.mark.parametrize("method", ["triple", "static", "residual"])
def test_memory_stays_flat(method):
    torch.manual_seed(0)
    tracker = Tracker(build(f"spvos_small_{method}", **OPTIONS).eval(), size=96)
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 255, (160, 200, 3), np.uint8)
    labels = np.zeros((96, 128), np.uint8)
    labels[20:50, 30:70] = 1
    labels[60:80, 80:110] = 2
    held, resident = [], []
    for t in range(150):
        y, x = t % 60, (2 * t) % 70
        image = np.ascontiguousarray(scene[y : y + 96, x : x + 128])
        if t == 0:
            tracker.add_objects(image, labels)
        else:
            tracker.step(image)
        if t > 40 and t % 3 == 0:  # the same place between two remembered frames
            held.append(tracker.nbytes())
            resident.append(resident_mib())
    assert len(set(held)) == 1
    first, last = resident[: len(resident) // 3], resident[-len(resident) // 3 :]
    assert statistics.median(last) - statistics.median(first) < 8  # a leak of a map a frame would be tens
