"""Carrying masks from several frames: what is found around a place, and which frames are kept."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pliant.models import rpmnet
from pliant.models.rpmnet.references import Reference, blend, coarse_offset, compose, from_nearby, refresh


def directions(*size: int) -> torch.Tensor:
    """Random embeddings of unit length: [1, 32, *size]."""
    return F.normalize(torch.randn(1, 32, *size, generator=torch.Generator().manual_seed(2)), dim=1)


def box_maps(height: int, width: int, top: int, left: int, side: int = 6) -> torch.Tensor:
    """Background and one square object: [2, height, width]."""
    mask = torch.zeros(height, width)
    mask[top : top + side, left : left + side] = 1
    return torch.stack((1 - mask, mask))


def constant(dy: float, dx: float, *size: int) -> torch.Tensor:
    return torch.tensor([float(dy), float(dx)]).reshape(1, 2, 1, 1).expand(1, 2, *size).clone()


def test_offsets_one_after_the_other_add_up():
    total = compose(constant(1, -2, 12, 16), constant(0.5, 3, 12, 16))
    torch.testing.assert_close(total, constant(1.5, 1, 12, 16))


def test_outside_the_picture_the_nearest_offset_counts():
    total = compose(constant(0, 100, 12, 16), constant(0, 3, 12, 16))
    torch.testing.assert_close(total, constant(0, 103, 12, 16))


def test_what_is_alike_nearby_is_found():
    keys = directions(20, 24)
    query, values = keys.roll((2, -1), (2, 3)), torch.rand(1, 1, 20, 24)
    total, weights = from_nearby(query, keys, values, 3)
    inside = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close((total / weights)[inside], values.roll((2, -1), (2, 3))[inside], atol=1e-3, rtol=0)


def test_nothing_alike_leaves_no_weight():
    query = directions(8, 8)
    _, weights = from_nearby(query, -query, torch.ones(1, 1, 8, 8), 0)
    assert weights.max() < 1e-6


def test_the_coarse_look_finds_a_large_motion():
    smooth = F.interpolate(torch.randn(1, 32, 20, 30, generator=torch.Generator().manual_seed(0)), scale_factor=2)
    key = F.normalize(smooth, dim=1)
    query = key.roll((8, -12), (2, 3))
    found = coarse_offset(query, key)
    torch.testing.assert_close(found[..., 14:-14, 14:-14], constant(-8, 12, 12, 32), atol=0.01, rtol=0)


def test_a_reference_that_left_its_place_is_found_again():
    """The newest frame says background everywhere nearby, the annotated one knows better and is offset by two cells."""
    key = directions(20, 24)
    annotated = Reference(key, box_maps(20, 24, 7, 8), constant(2, 0, 20, 24), permanent=True)
    faint = torch.stack((torch.full((20, 24), 0.9), torch.full((20, 24), 0.1)))
    newest = Reference(-key, faint, constant(0, 0, 20, 24))
    maps = blend(key, [annotated, newest], constant(0, 0, 20, 24), 3)
    torch.testing.assert_close(maps[:, 6:14, 6:16], box_maps(20, 24, 7, 8)[:, 6:14, 6:16], atol=0.01, rtol=0)
    assert annotated.offset[..., 8:12, 9:13].abs().max() < 0.05  # where it lies has been corrected as well


@pytest.mark.parametrize("permanent", [True, False])
def test_what_drifted_beyond_reach_comes_back_from_an_annotated_frame_only(permanent: bool):
    """Everything moved by ten columns unseen, as behind something: the newest frame knows nothing of it."""
    smooth = F.interpolate(directions(10, 16), scale_factor=3, mode="bilinear")
    key = F.normalize(smooth, dim=1)
    annotated = Reference(key, box_maps(30, 48, 12, 14, 8), constant(0, 0, 30, 48), permanent=permanent)
    faint = torch.stack((torch.full((30, 48), 0.9), torch.full((30, 48), 0.1)))
    newest = Reference(-key, faint, constant(0, 0, 30, 48))
    maps = blend(key.roll(10, 3), [annotated, newest], constant(0, 0, 30, 48), 3)
    assert (maps[1, 13:19, 25:31].min() > 0.9) == permanent


def test_an_older_reference_does_not_hide_an_object_that_came_later():
    key = directions(20, 24)
    old = Reference(key, torch.ones(1, 20, 24), constant(0, 0, 20, 24), permanent=True)
    newest = Reference(key, box_maps(20, 24, 7, 8), constant(0, 0, 20, 24))
    maps = blend(key, [old, newest], constant(0, 0, 20, 24), 1)
    assert maps[1, 8:12, 9:13].min() > 0.9


def test_annotated_frames_stay_and_the_oldest_others_go():
    def made(number: int, permanent: bool = False) -> Reference:
        embedding = torch.full((1, 1, 1, 1), float(number))
        return Reference(embedding, torch.ones(1, 1, 1), torch.zeros(1, 2, 1, 1), permanent)

    references = [made(0, permanent=True)]
    for number in range(1, 5):
        references = refresh(references, made(number), 2)
    assert [int(each.embedding) for each in references] == [0, 3, 4]


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 1, 3, 66, 81, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("recent", [1, 3])
def test_memory_stays_constant_once_full(recent: int):
    net, masks = rpmnet.build(references=recent).eval(), torch.zeros(1, 66, 81)
    masks[:, 20:40, 20:50] = 1
    sizes = []
    with torch.inference_mode():
        state = net.start(images(1)[0], masks)
        for image in images(6):
            net.memorize(state, image, net.step(state, image))
            sizes.append(state.nbytes())
    assert len(set(sizes[recent:])) == 1


def test_a_still_picture_keeps_its_masks():
    net, masks = rpmnet.build(references=2, edges=False).eval(), torch.zeros(2, 66, 81)
    masks[0, 20:40, 20:40], masks[1, 20:40, 40:60] = 1, 1
    with torch.inference_mode():
        state = net.start(images(1)[0], masks)
        for _ in range(3):
            answer = net.step(state, images(1)[0])
    assert ((answer[1:] > 0.5) == (masks > 0.5)).float().mean() > 0.97
