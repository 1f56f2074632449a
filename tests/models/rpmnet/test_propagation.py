"""Following masks: what holds for any weights, and what a network that sees no motion must do."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from pliant.inference.snapshot import load_snapshot, save_snapshot
from pliant.models import rpmnet
from pliant.models.protocols import TrackNetwork, TrackState
from pliant.models.rpmnet.propagation import enlarge_offsets


def network(still: bool = False, **options) -> rpmnet.RPMNet:
    """Random weights with offsets of some cells; ``still``: all offsets are zero."""
    torch.manual_seed(3)
    net = rpmnet.build("rpmnet_r18_deformable", **options).eval()
    torch.nn.init.normal_(net.matching.layers[-1].deform_conv.weight, std=0 if still else 0.1)
    return net


def images(count: int, size: tuple[int, int] = (66, 81)) -> torch.Tensor:
    return torch.randn(count, 1, 3, *size, generator=torch.Generator().manual_seed(0))


def one_hot(objects: int, size: tuple[int, int] = (66, 81)) -> torch.Tensor:
    labels = torch.randint(objects + 1, size, generator=torch.Generator().manual_seed(1))
    return F.one_hot(labels, objects + 1).movedim(-1, 0)[1:].float()


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def test_it_is_a_track_network():
    net = network()
    assert isinstance(net, TrackNetwork)
    assert isinstance(net.start(images(1)[0], one_hot(1)), TrackState)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"resolution": "table"},
        {"sharpen": True},
        {"anchor": True},
        {"iterations": 2},
        {"references": 2},
        {"references": 2, "likeness": 16, "edges": True},
        {"colour": "rgb"},
    ],
    ids=str,
)
def test_one_hot_masks_stay_in_0_to_1_and_sum_to_1(options: dict):
    net, frames = network(**options), images(5)
    state = net.start(frames[0], one_hot(3))
    for image in frames[1:]:
        probabilities = net.step(state, image)
        assert probabilities.shape == (4, 66, 81) and probabilities.dtype == torch.float32
        assert probabilities.min() >= 0 and probabilities.max() <= 1
        torch.testing.assert_close(probabilities.sum(0), torch.ones(66, 81))


def test_without_motion_masks_stay_bit_for_bit():
    net, masks = network(still=True), one_hot(2)
    state = net.start(images(1)[0], masks)
    for image in images(3):
        assert torch.equal(net.step(state, image)[1:], masks)


def test_without_motion_the_table_mode_blurs_only_once():
    net = network(still=True, resolution="table")
    state = net.start(images(1)[0], one_hot(2))
    first, second = (net.step(state, image) for image in images(2))
    assert torch.equal(first, second)


def test_a_constant_offset_shifts_masks_by_whole_pixels():
    net, masks = network(still=True), one_hot(1, (64, 80))
    net.matching.layers[-1].deform_conv.bias.copy_(torch.tensor([1.0, -2.0]))  # cells of 4 pixels
    state = net.start(images(1, (64, 80))[0], masks)
    moved = net.step(state, images(1, (64, 80))[0])[1]
    assert torch.equal(moved[:60, 8:], masks[0, 4:, :72])
    assert not moved[60:].any() and not moved[:, :8].any()  # from outside comes background


def test_objects_do_not_influence_each_other():
    net, frames, masks = network(), images(3), one_hot(3)
    together, alone = net.start(frames[0], masks), net.start(frames[0], masks[1:2])
    for image in frames[1:]:
        torch.testing.assert_close(net.step(together, image)[2], net.step(alone, image)[1])


def test_offsets_enlarge_with_their_grid():
    offset = torch.ones(1, 2, 17, 21)
    large = enlarge_offsets(offset, (66, 81))
    assert large.shape == (1, 2, 66, 81)
    torch.testing.assert_close(large[0, :, 0, 0], torch.tensor([66 / 17, 81 / 21]))


@pytest.mark.parametrize("anchor", [False, True])
def test_an_object_that_appears_later_joins_at_the_end(anchor: bool):
    net, frames = network(anchor=anchor), images(4)
    state = net.start(frames[0], one_hot(1))
    now = net.step(state, frames[1])
    late = torch.zeros(66, 81)
    late[20:40, 30:50] = 1
    given = torch.cat((now * (1 - late), late[None]))
    net.memorize(state, frames[1], given, permanent=True)
    assert len(state.anchors) == (2 if anchor else 0)
    after = net.step(state, frames[2])
    assert after.shape == (3, 66, 81) and after[2].max() > 0.5
    torch.testing.assert_close(after.sum(0), torch.ones(66, 81))


def test_an_anchor_draws_a_lost_object_back():
    net, frames, masks = network(still=True, anchor=True), images(2), one_hot(1)
    state = net.start(frames[0], masks)
    lost = torch.cat((torch.ones(1, 66, 81), torch.zeros(1, 66, 81)))
    net.memorize(state, frames[0], lost)
    torch.testing.assert_close(net.step(state, frames[1])[1], masks[0] / 2)


def test_memorizing_another_frame_goes_on_from_there():
    net, frames, masks = network(), images(3), one_hot(1)
    state = net.start(frames[0], masks)
    given = torch.cat((1 - masks, masks))
    net.memorize(state, frames[1], given)
    fresh = net.start(frames[1], masks)
    assert torch.equal(net.step(state, frames[2]), net.step(fresh, frames[2]))


@pytest.mark.parametrize(
    "options",
    [{}, {"resolution": "table"}, {"references": 2}, {"references": 2, "likeness": 9, "edges": True}],
    ids=str,
)
def test_memorizing_its_own_answer_changes_nothing(options: dict):
    net, frames = network(**options), images(3)
    state = net.start(frames[0], one_hot(2))
    answer = net.step(state, frames[1])
    untouched = copy.deepcopy(state)
    net.memorize(state, frames[1], answer)
    assert torch.equal(net.step(state, frames[2]), net.step(untouched, frames[2]))


@pytest.mark.parametrize("options", [{}, {"anchor": True}, {"references": 2}], ids=str)
def test_a_forgotten_object_becomes_background(options: dict):
    net, frames, masks = network(**options), images(2), one_hot(3)
    state, without = net.start(frames[0], masks), net.start(frames[0], masks[[0, 2]])
    net.forget(state, 1)
    torch.testing.assert_close(net.step(state, frames[1]), net.step(without, frames[1]))


def test_memory_is_constant():
    net, frames = network(anchor=True), images(4)
    state = net.start(frames[0], one_hot(2))
    before = state.nbytes()
    for image in frames[1:]:
        net.memorize(state, image, net.step(state, image))
    assert state.nbytes() == before > 0


def test_no_objects_is_all_background():
    state = (net := network()).start(images(1)[0], torch.zeros(0, 66, 81))
    assert torch.equal(net.step(state, images(2)[1]), torch.ones(1, 66, 81))


@pytest.mark.parametrize("whole", [False, True], ids=["autocast", "whole network"])
def test_in_bfloat16_offsets_stay_in_float32(whole: bool):
    net, frames = network(), images(2)
    plain = net.start(frames[0], one_hot(1))
    exact = net.match(net.embed(frames[1]), plain.embedding)
    if whole:
        net, frames = net.to(torch.bfloat16), frames.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=not whole):
        state = net.start(frames[0], one_hot(1))
        offset = net.match(net.embed(frames[1]), state.embedding)
        probabilities = net.step(state, frames[1])
    assert offset.dtype == torch.float32 and (offset - exact).abs().mean() < 0.02 * exact.abs().mean()
    assert not torch.equal(offset, offset.bfloat16().float())
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.sum(0), torch.ones(66, 81))


def test_online_update_changes_the_stream_and_not_the_network():
    net, frames, masks = network(online_update=2), images(2, (64, 64)), one_hot(1, (64, 64))
    before = copy.deepcopy(net.state_dict())
    state = net.start(frames[0], masks)
    plain = network().start(frames[0], masks)
    assert not torch.equal(net.step(state, frames[1]), network().step(plain, frames[1]))
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in before.items())
    again = net.start(frames[0], masks)
    assert all(torch.equal(value, again.fitted[name]) for name, value in state.fitted.items())


@pytest.mark.parametrize("options", [{"anchor": True, "online_update": 1}, {"references": 2, "likeness": 16}], ids=str)
def test_a_state_can_be_saved_and_goes_on_the_same(tmp_path: Path, options: dict):
    net, frames = network(**options), images(3, (64, 64))
    state = net.start(frames[0], one_hot(2, (64, 64)))
    net.step(state, frames[1])
    save_snapshot(tmp_path / "state.pt", state, {})
    loaded, _ = load_snapshot(tmp_path / "state.pt")
    assert torch.equal(net.step(loaded, frames[2]), net.step(state, frames[2]))
    assert loaded.nbytes() == state.nbytes()


def test_wrong_shapes_say_what_was_expected():
    net = network()
    state = net.start(images(1)[0], one_hot(2))
    with pytest.raises(ValueError, match=r"expected \[1, 3, H, W\]"):
        net.step(state, torch.zeros(3, 66, 81))
    with pytest.raises(ValueError, match=r"this stream started with \(1, 3, 66, 81\)"):
        net.step(state, torch.zeros(1, 3, 64, 81))
    with pytest.raises(ValueError, match=r"masks \(1, 4, 4\)"):
        net.start(images(1)[0], torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="probabilities of 1 objects: the state has 2"):
        net.memorize(state, images(1)[0], torch.ones(2, 66, 81))
    with pytest.raises(ValueError, match="object 2: the state has 2"):
        net.forget(state, 2)
