"""The video of what gates decided."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch

from pliant.errors import InputError
from pliant.inference.jobs import track_to_folder
from pliant.inference.policy_video import draw_policy, shares_of
from pliant.models import spvos
from pliant.models.spvos.gated_conv import Record
from pliant.video import read

TINY = {"blocks": (1, 1, 1), "memory_frames": 2}


def record(policy, cost):
    policy = torch.tensor(policy, dtype=torch.uint8)[:, None]
    return Record("layer", (policy == 2).sum(), policy.numel(), cost, policy)


def test_shares_are_weighted_by_multiply_adds_and_averaged_over_objects():
    coarse = record([[[2, 1]]], cost=30)  # one row, two columns: 60 multiply-adds
    fine = record([[[0, 0, 2, 2]], [[2, 0, 2, 1]]], cost=5)  # two objects: 40
    shares = shares_of([coarse, fine], 1, 4)
    assert torch.allclose(shares.sum(0), torch.ones(1, 4))
    assert torch.allclose(shares[2, 0], torch.tensor([0.6 + 0.2, 0.6, 0.4, 0.2]))
    assert torch.allclose(shares[1, 0], torch.tensor([0.0, 0.0, 0.6, 0.6 + 0.2]))
    assert torch.equal(shares_of([], 2, 2)[2], torch.ones(2, 2)), "a dense frame"


def test_the_drawing_tells_the_three_apart():
    shares = np.eye(3, dtype=np.float32)[:, None]  # columns: skip, reuse, compute
    skip, reuse, compute = draw_policy(np.full((1, 3, 3), 100, np.uint8), shares)[0].tolist()
    assert skip == [50, 50, 50] and reuse[2] > reuse[0] and compute[0] > compute[2]


@pytest.fixture
def pictures(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for t in range(5):
        Image.fromarray(rng.integers(0, 255, (64, 80, 3), dtype=np.uint8)).save(tmp_path / f"{t}.png")
    mask = np.zeros((64, 80), np.uint8)
    mask[20:40, 20:40] = 1
    return tmp_path, mask


@pytest.mark.parametrize("name", ["spvos_small_triple", "spvos_triple"])
def test_a_tracked_clip_comes_with_its_decisions(pictures, tmp_path, name):
    folder, mask = pictures
    torch.manual_seed(0)
    network = spvos.build(name, **(TINY if "small" in name else {})).eval()
    with read(str(folder / "*.png")) as frames:
        track_to_folder(frames, tmp_path / "out", network, mask=mask, size=64, show_policy=True)
    with av.open(str(tmp_path / "out" / "policy.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 5


def test_a_dense_network_has_nothing_to_show(pictures, tmp_path):
    folder, mask = pictures
    with read(str(folder / "*.png")) as frames, pytest.raises(InputError, match="has no gates, it computes every"):
        track_to_folder(frames, tmp_path / "out", spvos.build("spvos_small", **TINY), mask=mask, show_policy=True)
    assert not (tmp_path / "out" / "policy.mp4").exists()
