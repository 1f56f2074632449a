"""Objects of a foreground: ids that stay, regions that touch, things that go and return."""

from __future__ import annotations

import numpy as np
import pytest

from pliant.inference.connected_objects import ConnectedObjects


def frame(*boxes):
    """A mask of 60 x 100 with boxes (x0, y0, x1, y1)."""
    mask = np.zeros((60, 100), bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def at(labels, x, y):
    return int(labels[y, x])


def test_ids_in_order_of_size_and_stay_with_what_moves():
    objects = ConnectedObjects()
    labels = objects.label(frame((5, 5, 15, 15), (40, 20, 70, 50)))
    assert (at(labels, 50, 30), at(labels, 10, 10)) == (1, 2)
    for step in range(1, 8):  # the small one outgrows the other, both move
        labels = objects.label(frame((5 + 3 * step, 5, 15 + 3 * step, 15), (40 + step, 20, 50 + step, 28)))
        assert (at(labels, 45 + step, 22), at(labels, 10 + 3 * step, 10)) == (1, 2)


def test_something_fast_keeps_its_id_by_its_motion():
    objects = ConnectedObjects()
    ids = {int(objects.label(frame((8 * t, 10, 8 * t + 10, 20))).max()) for t in range(10)}
    assert ids == {1}


def test_a_region_that_swallows_a_speck_and_loses_another_keeps_its_id():
    objects = ConnectedObjects(smallest=0.0)
    before, after = np.zeros((60, 80), bool), np.zeros((60, 80), bool)
    before[10:40, 10:50] = True
    before[20:26, 54:60] = True  # a speck beside it, id 2
    after[10:40, 14:60] = True  # it has grown over the speck
    after[20:24, 10:12] = True  # and left one behind
    assert set(np.unique(objects.label(before))) == {0, 1, 2}
    labels = objects.label(after)
    assert labels[25, 30] == 1


def test_a_new_region_gets_a_new_id():
    objects = ConnectedObjects()
    objects.label(frame((5, 5, 15, 15)))
    labels = objects.label(frame((5, 5, 15, 15), (60, 30, 90, 55)))
    assert (at(labels, 10, 10), at(labels, 70, 40)) == (1, 2)


def test_what_returns_in_time_keeps_its_id_and_what_comes_later_does_not():
    def returns_after(gone):
        objects = ConnectedObjects(memory=5)
        objects.label(frame((5, 5, 25, 25)))
        for _ in range(gone):
            assert not objects.label(frame()).any()
        return int(objects.label(frame((6, 5, 26, 25))).max())

    assert returns_after(4) == 1
    assert returns_after(9) == 2


def test_regions_that_touch_are_shared_out():
    objects = ConnectedObjects()
    objects.label(frame((10, 20, 30, 40), (50, 20, 70, 40)))
    labels = objects.label(frame((10, 20, 70, 40)))  # one region now
    assert (at(labels, 12, 30), at(labels, 68, 30)) == (1, 2)
    assert set(np.unique(labels)) == {0, 1, 2}
    labels = objects.label(frame((10, 20, 30, 40), (50, 20, 70, 40)))  # and two again
    assert (at(labels, 12, 30), at(labels, 68, 30)) == (1, 2)


def test_only_the_largest_are_kept_and_specks_are_dropped():
    mask = frame((5, 5, 15, 15), (40, 20, 70, 50), (90, 2, 92, 4))
    assert set(np.unique(ConnectedObjects(smallest=0.001).label(mask))) == {0, 1, 2}
    assert (ConnectedObjects(keep_largest=1).label(mask) > 0).sum() == 30 * 30


def test_labels_are_the_mask_but_for_specks():
    mask = np.random.default_rng(0).random((60, 100)) > 0.3
    assert np.array_equal(ConnectedObjects(smallest=0).label(mask) > 0, mask)


def test_observing_the_labels_rebuilds_the_state():
    boxes = [((2 * t, 10, 2 * t + 12, 30), (80 - 3 * t, 30, 95 - 3 * t, 50)) for t in range(12)]
    straight, resumed = ConnectedObjects(), ConnectedObjects()
    labels = [straight.label(frame(*b)) for b in boxes]
    for seen in labels[:6]:
        resumed.observe(seen)
    for expected, b in zip(labels[6:], boxes[6:]):
        assert np.array_equal(resumed.label(frame(*b)), expected)


def test_an_empty_frame_has_no_objects():
    assert not ConnectedObjects().label(frame()).any()


def test_more_than_255_ids_do_not_overflow():
    objects = ConnectedObjects(memory=0)
    for t in range(300):  # a new thing every time, far from the last
        labels = objects.label(frame(((t % 2) * 80, (t % 3) * 20, (t % 2) * 80 + 6, (t % 3) * 20 + 6)))
        objects.label(frame())
    assert labels.max() <= 255


@pytest.mark.parametrize("options", [{"keep_largest": 0}, {"smallest": 1.0}])
def test_bad_options_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ConnectedObjects(**options)
