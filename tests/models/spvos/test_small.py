"""The small tracker: sizes, training and inference agree, gradients reach everything, memory thins out."""

from __future__ import annotations

import pytest
import torch

import pliant
from pliant.models.memory_bank import MemoryBank, least_useful
from pliant.models.protocols import TrackNetwork
from pliant.models.spvos.aggregation import aggregate
from pliant.models.spvos.small import build

TINY = {"blocks": (1, 1, 1), "top_k": 10_000, "memory_frames": 4}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build(**TINY)


def test_the_preset_builds_and_promises_a_tracker():
    network = pliant.build("spvos_small")
    assert isinstance(network, TrackNetwork)
    assert sum(p.numel() for p in network.parameters()) == 11_948_929
    assert 2 * 11_948_929 < 25_000_000, "in half precision the weights fit the package"


def test_training_and_inference_compute_the_same(network):
    """The clip-wise forward of training, frame by frame through start, step and memorize."""
    torch.manual_seed(1)
    images = torch.randn(1, 4, 3, 64, 80)
    masks = torch.zeros(1, 2, 64, 80)
    masks[0, 0, 10:40, 10:40] = 1
    masks[0, 1, 30:60, 50:75] = 1
    with torch.no_grad():
        odds = network(images, masks, torch.ones(1, 2, dtype=torch.bool), [True, True, False, False])
        state = network.start(images[:, 0], masks[0])
        first = network.step(state, images[:, 1])
        network.memorize(state, images[:, 1], first)
        second = network.step(state, images[:, 2])
        third = network.step(state, images[:, 3])
    for index, found in enumerate((first, second, third)):
        torch.testing.assert_close(found, odds[0, index].softmax(0), atol=2e-4, rtol=0)


def test_an_absent_object_changes_nothing(network):
    torch.manual_seed(2)
    images, masks = torch.randn(1, 3, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    masks[0, 0, 10:40, 10:40] = 1
    with torch.no_grad():
        alone = network(images, masks, torch.tensor([[True]]), [True] * 3).softmax(2)
        padded = torch.cat([masks, torch.rand_like(masks)], 1)
        both = network(images, padded, torch.tensor([[True, False]]), [True] * 3).softmax(2)
    torch.testing.assert_close(both[:, :, :2], alone, atol=1e-4, rtol=0)


def test_every_parameter_learns(network):
    torch.manual_seed(3)
    masks = torch.zeros(1, 2, 64, 64)
    masks[0, 0, 10:40, 10:40] = 1
    masks[0, 1, 40:60, 40:60] = 1
    odds = network(torch.randn(1, 3, 3, 64, 64), masks, torch.ones(1, 2, dtype=torch.bool), [True] * 3)
    odds.softmax(2)[:, :, 1:].square().mean().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    # The softmax over memory does not see what all memory keys share.
    assert silent in ([], ["key.bias"])
    network.zero_grad()


def test_permuting_objects_permutes_probabilities(network):
    torch.manual_seed(4)
    images, masks = torch.randn(2, 1, 3, 64, 64), torch.rand(3, 64, 64)
    order = [2, 0, 1]
    with torch.no_grad():
        found = [network.step(network.start(images[0], m), images[1]) for m in (masks, masks[order])]
    torch.testing.assert_close(found[0][1:][order], found[1][1:], atol=1e-5, rtol=0)


def test_an_object_that_joins_later_does_not_read_frames_before_it(network):
    torch.manual_seed(5)
    images = torch.randn(3, 1, 3, 64, 64)
    early, late = torch.rand(1, 64, 64), torch.rand(1, 64, 64)
    with torch.no_grad():
        state = network.start(images[0], early)
        network.step(state, images[1])
        network.memorize(state, images[1], aggregate(torch.cat([early, late])), permanent=True)
    groups = state.bank.groups()
    assert [(indices, key.shape[1]) for indices, key, _ in groups] == [([0], 2), ([1], 1)]


def test_what_is_forgotten_first():
    assert least_useful([0, 5, 10, 15, 20, 25], [True] + [False] * 5) == 1
    assert least_useful([0, 20, 25, 30, 35, 40], [True] + [False] * 5) == 2
    assert least_useful([0, 1], [True, False]) == 1


def test_a_bank_never_drops_annotated_frames():
    bank = MemoryBank(capacity=3)
    key, values = torch.zeros(2, 4, 4), torch.zeros(1, 3, 4, 4)
    for time in range(40):
        bank.add(time, key, values, permanent=time in (0, 13))
    times = [frame.time for frame in bank.frames]
    assert times[:2] == [0, 13] and times[-1] == 39 and len(times) == 5


def test_embedded_weights_follow_the_object():
    """On a plain scene: a textured square that moves over another texture."""
    import numpy as np

    rng = np.random.default_rng(0)
    ground = np.kron(rng.integers(40, 120, (30, 30, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    thing = np.kron(rng.integers(150, 255, (9, 9, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    images, truth = [], []
    for t in range(8):
        image, mask = ground.copy(), np.zeros((240, 240), np.uint8)
        image[60 + 4 * t : 132 + 4 * t, 40 + 9 * t : 112 + 9 * t] = thing
        mask[60 + 4 * t : 132 + 4 * t, 40 + 9 * t : 112 + 9 * t] = 1
        images.append(image)
        truth.append(mask)
    found = [result.labels for result in pliant.track(images, mask=truth[0])]
    overlaps = [((f == 1) & (t == 1)).sum() / ((f == 1) | (t == 1)).sum() for f, t in zip(found, truth)]
    assert min(overlaps) > 0.8
