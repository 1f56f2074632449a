"""Synthetic clips: the same for a seed, exact in their masks, varied."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pliant.datasets.pictures import PictureStore, pack_pictures
from pliant.datasets.synthetic import SyntheticClips
from pliant.errors import DatasetError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for group in ("photos", "cutouts"):
        (folder / group).mkdir()
    for i in range(4):
        noise = cv2.resize(rng.integers(0, 255, (12, 16, 3), np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / "photos" / f"{i}.jpg"), noise)
        alpha = np.zeros((120, 120, 1), np.uint8)
        cv2.circle(alpha, (60, 60), 45, 255, -1)
        cv2.imwrite(str(folder / "cutouts" / f"{i}.png"), np.dstack([noise[:120, :120], alpha]))
    file = pack_pictures(folder / "pack.bin", photos=[folder / "photos"], cutouts=[folder / "cutouts"], films=[])
    return PictureStore(file)


def test_a_pack_holds_what_was_given(store):
    assert (store.count("photos"), store.count("cutouts"), store.count("films")) == (4, 4, 0)
    assert store.get("cutouts", 0).shape == (120, 120, 4)


def test_a_pack_of_nothing_says_what_to_pass(tmp_path):
    with pytest.raises(DatasetError, match="pass --photos FOLDER"):
        pack_pictures(tmp_path / "pack.bin", photos=[], cutouts=[], films=[])


def test_an_index_is_a_clip_for_ever(store):
    clips = SyntheticClips(store, seed=3, size=(64, 80), length=5)
    one, two, other = clips[11], clips[11], clips[12]
    assert np.array_equal(one.frames, two.frames) and np.array_equal(one.labels, two.labels)
    assert not np.array_equal(one.frames, other.frames)


def test_labels_count_from_one_and_show_in_the_first_frame(store):
    clips = SyntheticClips(store, size=(64, 64), length=3, max_objects=3)
    for index in range(30):
        clip = clips[index]
        assert clip.frames.shape == (3, 64, 64, 3) and clip.labels.shape == (3, 64, 64)
        assert set(np.unique(clip.labels[0])) - {0} == set(range(1, len(clip.own_motion) + 1))
        assert 1 <= len(clip.own_motion) <= 3


def test_things_move_and_most_on_their_own(store):
    clips = SyntheticClips(store, size=(64, 64), length=3)
    moved = [np.abs(c.frames[0].astype(int) - c.frames[2]).mean() for c in (clips[i] for i in range(20))]
    assert np.median(moved) > 2
    own = np.concatenate([clips[i].own_motion for i in range(40)])
    assert 0.6 < own.mean() < 1


def test_more_speed_is_more_motion(store):
    def change(speed):
        clips = SyntheticClips(store, size=(64, 64), length=2, speed=speed)
        return np.mean([(c.labels[0] != c.labels[1]).mean() for c in (clips[i] for i in range(30))])

    assert change(1.5) > 1.5 * change(0.1)


@pytest.mark.parametrize("what", ["shadows", "restless"])
def test_what_moves_and_is_no_thing_changes_pictures_but_no_mask(store, what):
    options = {"size": (64, 80), "length": 3, "seed": 5}
    plain, other = SyntheticClips(store, **options), SyntheticClips(store, **options, **{what: 1.0})
    changed = 0
    for index in range(6):
        before, after = plain[index], other[index]
        for name in ("labels", "moving", "placed"):
            assert np.array_equal(getattr(before, name), getattr(after, name))
        changed += not np.array_equal(before.frames, after.frames)
    assert changed == 6


def test_a_shadow_is_dark_soft_and_beside_its_thing(store):
    from pliant.datasets.synthetic import _layers, _paint, _with_shadow

    rng = np.random.default_rng(1)
    camera = np.repeat(np.eye(2, 3, dtype=np.float32)[None], 2, 0)
    layer = next(x for x in _layers(store, rng, (120, 160), 2, 0.5, 1, camera, 0.0) if x.role == "object")
    layer.centre[:] = [80, 50]
    shadow, thing = _with_shadow(layer, rng, 1.0)
    assert thing is layer and shadow.role == "shadow"
    canvas, ids = np.full((120, 160, 3), 200, np.float32), np.zeros((120, 160), np.uint8)
    _paint(canvas, ids, shadow, 0, 1)
    assert not ids.any() and canvas.min() < 190 and canvas.max() == 200
    assert len(np.unique(canvas.round())) > 5
