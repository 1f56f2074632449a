"""The tracker's promises, on a small untrained network: they hold whatever the network has learnt."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import pliant
from pliant.inference.frames import prepare
from pliant.inference.snapshot import load_snapshot, save_snapshot
from pliant.inference.tracker import Tracker, TrackerState
from pliant.models.spvos.small import build

SIZE = (72, 100)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build(blocks=(1, 1, 1), memory_frames=2).eval()


@pytest.fixture
def clip():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (90, 120, 3), np.uint8)
    return [np.ascontiguousarray(base[t : t + SIZE[0], 2 * t : 2 * t + SIZE[1]]) for t in range(9)]


@pytest.fixture
def labels():
    labels = np.zeros(SIZE, np.uint8)
    labels[10:40, 20:60] = 7
    labels[45:70, 60:90] = 3
    return labels


def tracker(network, **options):
    return Tracker(network, size=64, memory_every=2, **options)


def test_labels_are_the_ids_that_were_given_at_the_size_that_was_given(network, clip, labels):
    follow = tracker(network)
    assert np.array_equal(follow.add_objects(clip[0], labels), labels)
    out = follow.step(clip[1])
    assert out.shape == SIZE and out.dtype == np.uint8 and set(np.unique(out)) <= {0, 3, 7}
    assert follow.objects == (3, 7)
    np.testing.assert_allclose(follow.probabilities.sum(0), 1, atol=1e-5)


def test_two_streams_through_one_network_do_not_meet(network, clip, labels):
    alone, first, second = tracker(network), tracker(network), tracker(network)
    expected = [alone.add_objects(clip[0], labels)] + [alone.step(image) for image in clip[1:]]
    first.add_objects(clip[0], labels)
    second.add_objects(clip[3], np.roll(labels, 5, 1))
    for image, want in zip(clip[1:], expected[1:]):
        assert np.array_equal(first.step(image), want)
        second.step(image[:, ::-1])


def test_a_copy_goes_on_alike_and_alone(network, clip, labels):
    one = tracker(network)
    one.add_objects(clip[0], labels)
    one.step(clip[1])
    two = one.copy()
    for image in clip[2:]:
        assert np.array_equal(one.step(image), two.step(image))


def test_a_snapshot_on_disk_goes_on_alike(network, clip, labels, tmp_path):
    one = tracker(network)
    one.add_objects(clip[0], labels)
    for image in clip[1:5]:
        one.step(image)
    save_snapshot(tmp_path / "state.pt", one.state, {"frames": 5})
    two = tracker(network)
    two.state, about = load_snapshot(tmp_path / "state.pt")
    assert about == {"frames": 5}
    for image in clip[5:]:
        assert np.array_equal(one.step(image), two.step(image))


def test_a_damaged_snapshot_says_what_to_do(tmp_path):
    (tmp_path / "state.pt").write_bytes(b"PK nothing")
    with pytest.raises(pliant.PliantError, match="--overwrite to begin anew"):
        load_snapshot(tmp_path / "state.pt")


def test_objects_join_later_and_leave(network, clip, labels):
    follow = tracker(network)
    follow.add_objects(clip[0], np.where(labels == 7, labels, 0))
    follow.step(clip[1])
    merged = follow.add_objects(clip[2], np.where(labels == 3, labels, 0))
    assert follow.objects == (7, 3)
    assert np.array_equal(merged == 3, labels == 3)
    assert follow.step(clip[3]).shape == SIZE
    assert len(follow.probabilities) == 3
    follow.remove_object(7)
    assert follow.objects == (3,) and 7 not in follow.step(clip[4])
    follow.remove_object(3)
    assert follow.objects == ()


def test_a_correction_is_taken_exactly_and_remembered(network, clip, labels):
    follow = tracker(network)
    follow.add_objects(clip[0], labels)
    follow.step(clip[1])
    before = len(follow.state.network.bank.frames)
    corrected = np.zeros_like(labels)
    corrected[20:50, 30:70] = 7
    out = follow.add_objects(clip[1], corrected)
    assert np.array_equal(out == 7, corrected == 7)
    assert follow.state.frame == 1, "a frame that was stepped already is not counted again"
    assert len(follow.state.network.bank.frames) == before + 1
    assert follow.state.network.bank.frames[-1].permanent


def test_a_complete_mask_says_that_others_are_absent(network, clip, labels):
    follow = tracker(network)
    follow.add_objects(clip[0], labels)
    out = follow.add_objects(clip[1], np.where(labels == 7, labels, 0), complete=True)
    assert follow.lost == (3,) and follow.confidence[3] == 0 and 3 not in out


def test_memory_has_a_ceiling(network, clip, labels):
    follow = tracker(network)
    follow.add_objects(clip[0], labels)

    def largest() -> int:
        sizes = []
        for image in clip:
            follow.step(image)
            sizes.append(follow.nbytes())
        return max(sizes)

    bound = largest()
    for _ in range(5):
        assert largest() <= bound
    assert follow.state.network.bank.frames[0].time == 0, "the annotated frame stays"


def test_every_size_of_picture_comes_back_at_its_own(network):
    rng = np.random.default_rng(1)
    for height, width in ((33, 47), (200, 90), (64, 64), (31, 300)):
        image = rng.integers(0, 255, (height, width, 3), np.uint8)
        labels = np.zeros((height, width), np.uint8)
        labels[height // 4 : height // 2, width // 4 : width // 2] = 1
        follow = tracker(network)
        follow.add_objects(image, labels)
        assert follow.step(image).shape == (height, width)
        assert follow.probabilities.shape == (2, height, width)


def test_tensors_are_taken_too(network, clip, labels):
    one, two = tracker(network), tracker(network)
    one.add_objects(clip[0], labels)
    two.add_objects(torch.from_numpy(clip[0]), torch.from_numpy(labels))
    assert np.array_equal(one.step(clip[1]), two.step(torch.from_numpy(clip[1])))


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((72, 100), np.uint8), ValueError, r"must be \[H, W, 3\] RGB, got \[72, 100\]"),
        (np.zeros((72, 100, 3), np.float32), TypeError, "must be uint8"),
        (np.zeros((70, 100, 3), np.uint8), ValueError, r"this frame is \[70, 100\], the first was \[72, 100\]"),
    ],
)
def test_wrong_pictures_are_named(network, clip, labels, image, error, message):
    follow = tracker(network)
    follow.add_objects(clip[0], labels)
    with pytest.raises(error, match=message):
        follow.step(image)


def test_misuse_is_named(network, clip, labels):
    follow = tracker(network)
    with pytest.raises(RuntimeError, match="call add_objects"):
        follow.step(clip[0])
    with pytest.raises(ValueError, match="every pixel is 0"):
        follow.add_objects(clip[0], np.zeros(SIZE, np.uint8))
    with pytest.raises(ValueError, match="they must agree"):
        follow.add_objects(clip[0], labels[:-1])
    follow.add_objects(clip[0], labels)
    with pytest.raises(KeyError, match="object 9 is not followed"):
        follow.remove_object(9)
    with pytest.raises(TypeError, match="does not follow objects"):
        Tracker(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="at least 32"):
        Tracker(network, size=8)


def test_the_state_is_one_value_that_can_be_copied():
    assert copy.deepcopy(TrackerState()) == TrackerState()


def test_track_takes_arrays_and_says_what_is_lost(network, clip, labels):
    found = list(pliant.track(clip, mask={1: labels}, model=network, size=64, probabilities=True))
    assert len(found) == len(clip)
    assert not found[0].labels.any() and found[0].objects == ()
    assert np.array_equal(found[1].labels, labels)
    assert found[2].objects == (3, 7) and found[2].probabilities.shape == (3, *SIZE)
    assert all(0 <= value <= 1 for value in found[-1].confidence.values())


def test_track_with_nothing_marked_says_so(clip, network):
    with pytest.raises(pliant.InputError, match="give a mask or a box"):
        list(pliant.track(clip, model=network))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_many_objects_in_either_precision(clip, precision):
    follow = Tracker(prepare(build(blocks=(1, 1, 1)), precision), size=64, memory_every=2)
    labels = np.zeros(SIZE, np.uint8)
    for k in range(6):
        labels[10:30, 4 + 15 * k : 14 + 15 * k] = k + 1
    follow.add_objects(clip[0], labels)
    for image in clip[1:4]:
        follow.step(image)
    assert len(follow.probabilities) == 7 and np.isfinite(follow.probabilities).all()
