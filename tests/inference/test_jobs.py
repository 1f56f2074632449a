"""A whole job that is interrupted where it hurts."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import torch
from PIL import Image

import pliant
from pliant.inference.jobs import track_to_folder
from pliant.inference.tracker import Tracker
from pliant.video import read

FRAMES = 7


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return pliant.build("spvos_small").eval()


@pytest.fixture(autouse=True)
def interruptible():
    """SIGINT as an interactive program has it; a shell's background jobs start with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def clip(tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 120, (64, 96, 3), np.uint8)
    for t in range(FRAMES):
        image = ground.copy()
        image[20:44, 10 + 5 * t : 40 + 5 * t] = 200
        Image.fromarray(image).save(folder / f"{t:05d}.png")
    return folder


def run(network, clip, out, **options):
    mask = np.zeros((64, 96), np.uint8)
    mask[20:44, 10:40] = 1
    with read(clip) as frames:
        track_to_folder(frames, out, network, mask=mask, size=64, overlay=False, **options)


def masks(out):
    return {path.name: path.read_bytes() for path in sorted((out / "masks").iterdir())}


@pytest.mark.parametrize("frame", [1, 3, 4])
@pytest.mark.parametrize("before", [True, False], ids=["before the step", "after the step"])
def test_an_interruption_within_a_frame_waits_for_its_end(network, clip, tmp_path, monkeypatch, frame, before):
    run(network, clip, tmp_path / "whole")
    step, count = Tracker.step, 0

    def interrupted(tracker, image):
        nonlocal count
        count += 1
        if count == frame and before:
            signal.raise_signal(signal.SIGINT)
        labels = step(tracker, image)
        if count == frame and not before:
            signal.raise_signal(signal.SIGINT)
        return labels

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Tracker, "step", interrupted)
        run(network, clip, tmp_path / "cut")
    assert len(masks(tmp_path / "cut")) == frame + 1, "the frame was finished first"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    run(network, clip, tmp_path / "cut", resume=True)
    assert masks(tmp_path / "cut") == masks(tmp_path / "whole")


def test_a_second_interruption_is_let_through_at_once_and_nothing_is_lost(network, clip, tmp_path, monkeypatch):
    run(network, clip, tmp_path / "whole")
    step = Tracker.step

    def interrupted_twice(tracker, image):
        signal.raise_signal(signal.SIGINT)
        step(tracker, image)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not reached")

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Tracker, "step", interrupted_twice)
        run(network, clip, tmp_path / "cut")
    run(network, clip, tmp_path / "cut", resume=True)
    assert masks(tmp_path / "cut") == masks(tmp_path / "whole")
