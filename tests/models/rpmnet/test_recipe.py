"""The recipe: what the network is shown, what it is asked for, and that it learns to match from that."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pliant.datasets.unlabelled import Footage
from pliant.losses.photometric import found_again
from pliant.models.rpmnet import RPMNet, colour
from pliant.models.rpmnet.presets import Preset
from pliant.models.rpmnet.recipe import Recipe, Terms, change_light, hide_channels, photometric_terms, similarity_term
from pliant.ops import warp


@pytest.fixture
def frames(tmp_path: Path) -> Footage:
    """A clip of 8 frames of a smooth picture that moves by 2 columns a frame."""
    wide = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    wide = cv2.resize(wide, (128, 72), interpolation=cv2.INTER_CUBIC)
    (tmp_path / "clip").mkdir()
    for t in range(8):
        cv2.imwrite(str(tmp_path / "clip" / f"{t}.png"), wide[:, 2 * t : 2 * t + 96])
    return Footage([tmp_path / "clip"], 72, cache=tmp_path / "cache")


def batch_of(recipe: Recipe, count: int = 2, step: int = 0, progress: float = 0.0) -> dict[str, torch.Tensor]:
    samples = [recipe.sample(step, index, progress) for index in range(count)]
    return {key: torch.stack([torch.as_tensor(sample[key]) for sample in samples]) for key in samples[0]}


def test_a_sample_is_a_function_of_step_and_index(frames: Footage):
    recipe = Recipe(frames, size=64)
    sample, again, other = recipe.sample(3, 1, 0.1), recipe.sample(3, 1, 0.1), recipe.sample(4, 1, 0.1)
    assert sample["target"].shape == (3, 64, 64) and sample["target"].dtype == np.uint8
    assert all(np.array_equal(sample[key], again[key]) for key in sample)
    assert not np.array_equal(sample["light"], other["light"])


def test_crops_of_a_pair_differ_by_the_shift_that_is_told(tmp_path: Path):
    """A still picture: what the target shows at a cell the reference shows ``shift`` cells further on."""
    still = cv2.resize(np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8), (96, 72))
    for t in range(2):
        cv2.imwrite(str(tmp_path / f"{t}.png"), still)
    recipe = Recipe(Footage([tmp_path], 72, cache=tmp_path / "cache"), size=48, play=24, views=0)
    seen = set()
    for index in range(6):
        sample = recipe.sample(0, index, 0.0)
        dy, dx = (int(4 * cells) for cells in sample["shift"])
        target = sample["target"][:, max(0, -dy) : 48 - max(0, dy), max(0, -dx) : 48 - max(0, dx)]
        reference = sample["reference"][:, max(0, dy) : 48 + min(0, dy), max(0, dx) : 48 + min(0, dx)]
        assert np.array_equal(target, reference)
        seen.add((dy, dx))
    assert len(seen) > 3


def test_the_second_view_shows_each_place_where_the_map_says(tmp_path: Path):
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8), (160, 120))
    for t in range(2):
        cv2.imwrite(str(tmp_path / f"{t}.png"), smooth)
    recipe = Recipe(Footage([tmp_path], 120, cache=tmp_path / "cache"), size=64, play=24, views=1.0)
    for index in range(6):
        sample = recipe.sample(0, index, 0.0)
        assert sample["known"]
        rows, columns = np.mgrid[:16, :16]
        y, x = np.einsum("ij,jkl->ikl", sample["affine"], np.stack([rows, columns, np.ones_like(rows)]))
        inside = (y >= 0) & (y <= 15) & (x >= 0) & (x <= 15)
        assert inside.mean() > 0.3
        again = cv2.remap(
            sample["reference"].transpose(1, 2, 0), (4 * x + 1.5).astype(np.float32), (4 * y + 1.5).astype(np.float32),
            cv2.INTER_LINEAR,
        )  # fmt: skip
        first = cv2.resize(sample["target"].transpose(1, 2, 0), (16, 16), interpolation=cv2.INTER_AREA)
        assert np.abs(again.astype(int) - first)[inside].mean() < 6
        middle = sample["affine"] @ np.array([7.5, 7.5, 1])
        np.testing.assert_allclose(sample["shift"], middle - 7.5, atol=1e-4)


def test_places_are_found_again_by_embeddings_that_tell_them_apart():
    """Each position its own vector, moved by (2, 1) cells: nothing to lose; none known: 0; all alike: log of all."""
    apart = torch.eye(64).reshape(1, 64, 8, 8)
    moved = torch.roll(apart, (2, 1), (2, 3))
    affine = torch.tensor([[[1.0, 0, 2], [0, 1, 1]]])
    places = torch.arange(64)[None]
    assert float(found_again(apart, moved, affine, places)) < 1e-3
    assert float(found_again(apart, apart, affine, places)) > 10
    assert float(found_again(apart, moved, affine + 100, places)) == 0
    alike = torch.ones(1, 4, 8, 8)
    assert float(found_again(alike, alike, affine, places)) == pytest.approx(math.log(64), rel=1e-5)
    half = torch.tensor([[[1.0, 0, 0.5], [0, 1, 0]]])
    logarithms = (apart.flatten(2)[0].T @ apart.flatten(2)[0] / 0.07).log_softmax(1)
    expected = -(logarithms[9, 9] + logarithms[9, 17]) / 2
    assert float(found_again(apart, apart, half, torch.tensor([[9]]))) == pytest.approx(float(expected), rel=1e-5)


def test_channels_are_hidden_as_often_as_said():
    random = np.random.default_rng(0)
    seen = np.stack([hide_channels(Terms(), random) for _ in range(2000)])
    assert seen[:, 0].all()
    hidden = 2 - seen[:, 1:].sum(1)
    assert np.allclose([(hidden == n).mean() for n in (0, 1, 2)], [0.25, 0.5, 0.25], atol=0.04)
    assert abs(seen[hidden == 1, 1].mean() - 0.5) < 0.06


def test_light_changes_brightness_and_contrast():
    image = torch.rand(2, 3, 8, 8) * 0.4 + 0.3
    assert torch.equal(change_light(image, torch.zeros(2, 2)), image.clamp(0, 1))
    bright = change_light(image, torch.tensor([[0.2, 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(bright[0].mean(), 1.2 * image[0].mean())
    flat = change_light(image, torch.tensor([[0.0, -0.5], [0.0, 0.0]]))
    torch.testing.assert_close(flat[0].std(), 0.5 * image[0].std())


def test_identical_frames_without_motion_cost_nothing():
    image = colour.from_rgb(torch.rand(1, 3, 16, 16), "lab")
    still, weights = torch.zeros(1, 2, 16, 16), torch.ones(1, 3)
    for progress in (0.0, 1.0):
        terms = photometric_terms(image, image, still, still, weights, Terms(), progress)
        assert all(value.abs() < 2e-3 for value in terms.values()), terms


def test_colours_are_copied_best_by_embeddings_that_tell_places_apart():
    colours = colour.from_rgb(torch.rand(1, 3, 12, 12), "lab")
    telling = F.normalize(torch.randn(1, 32, 12, 12), dim=1)
    visible, weights = torch.ones(1, 1, 12, 12), torch.ones(1, 3)
    good = similarity_term(colours, colours, (telling, telling), weights, visible)
    blind = similarity_term(colours, colours, (torch.ones_like(telling),) * 2, weights, visible)
    assert good < 0.05 * blind
    assert similarity_term(colours, colours, (telling, telling), weights, 0 * visible) == 0


def test_the_true_motion_costs_less_than_none():
    reference = F.interpolate(torch.rand(1, 3, 6, 6), size=(24, 24), mode="bicubic").clamp(0, 1)
    reference = colour.from_rgb(reference, "lab")
    there = torch.zeros(1, 2, 24, 24)
    there[:, 0], there[:, 1] = 1.5, -2
    target, still, weights = warp(reference, there), torch.zeros_like(there), torch.ones(1, 3)
    true = photometric_terms(target, reference, there, -there, weights, Terms(), 1.0)
    none = photometric_terms(target, reference, still, still, weights, Terms(), 1.0)
    assert true["colour"] < 0.1 * none["colour"] and true["structure"] < 0.1 * none["structure"]


@pytest.mark.parametrize("kind", ["l1", "huber", "mse", "quantised"])
@pytest.mark.parametrize("space", ["lab", "rgb"])
def test_every_loss_reaches_every_parameter(frames: Footage, kind: str, space: str):
    recipe = Recipe(frames, preset=Preset(colour=space), terms=Terms(colour=kind, cycle=0.1), size=64)
    torch.manual_seed(0)
    network = recipe.build()
    losses = recipe.loss(network, batch_of(recipe), 0.5)
    assert set(losses) == {"loss", "colour", "structure", "smoothness", "cycle", "similarity", "again", "motion"}
    losses["loss"].backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert network.embedding.conv1.weight.grad.any()


def test_every_parameter_is_in_one_group(frames: Footage):
    recipe = Recipe(frames)
    network = recipe.build()
    grouped = [p for group in recipe.parameter_groups(network) for p in group["params"]]
    assert len(grouped) == len(list(network.parameters())) == len({id(p) for p in grouped})
    assert all(p.ndim > 1 for p in recipe.parameter_groups(network)[0]["params"])


def test_bfloat16_gives_nearly_the_same_loss(frames: Footage):
    recipe = Recipe(frames, size=64)
    torch.manual_seed(0)
    network, batch = recipe.build().eval(), batch_of(recipe)
    with torch.no_grad():
        torch.manual_seed(1)  # the same random places
        exact = recipe.loss(network, batch, 0.0)["loss"]
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16):
            low = recipe.loss(network, batch, 0.0)["loss"]
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, exact, rtol=0.05, atol=0)


def shifted_texture(count: int, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Targets and references [count, 3, 32, 32] of one random texture, and by how many pixels [count, 2], up to 4 in
    both directions, it was shifted."""
    texture = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(5))
    texture = F.interpolate(texture, size=(54, 54), mode="bicubic")
    texture = ((texture - texture.mean()) / texture.std() * 0.2 + 0.5).clamp(0, 1).expand(count, -1, -1, -1)
    shift = (torch.rand(count, 2, generator=random) * 2 - 1) * 4
    target = warp(texture, shift[:, :, None, None].expand(-1, -1, 54, 54))
    return target[..., 11:43, 11:43], texture[..., 11:43, 11:43], shift


def error_of_shifts(network: RPMNet, random: torch.Generator) -> float:
    """Mean error in pixels over 32 new shifts; the offsets of a picture are averaged, but for its outer cells."""
    target, reference, shift = shifted_texture(32, random)
    with torch.no_grad():
        offset, _ = network.eval()(colour.from_rgb(target, "lab"), colour.from_rgb(reference, "lab"))
    return float((4 * offset[..., 2:-2, 2:-2].mean((2, 3)) - shift).norm(dim=1).mean())


@pytest.mark.slow
def test_it_recovers_the_shift_of_a_random_texture_to_a_fifth_of_a_pixel():
    """500 steps, from colours alone: no shift is ever shown to the network. Measured: 2.87 px before, 0.18 px after."""
    torch.manual_seed(0)
    terms = Terms(hide_one=0, hide_both=0, light=0, similarity=0)
    recipe, random = Recipe(None, terms=terms), torch.Generator().manual_seed(0)
    network = recipe.build()
    assert error_of_shifts(network, torch.Generator().manual_seed(1)) > 2
    network.train()
    optimiser = torch.optim.AdamW(recipe.parameter_groups(network), fused=True)
    steps, count = 500, 16
    neutral = {"seen": torch.ones(count, 3), "light": torch.zeros(count, 2, 2), "shift": torch.zeros(count, 2)}
    neutral |= {"affine": torch.zeros(count, 2, 3), "known": torch.zeros(count, dtype=torch.bool)}
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 30) * 0.5 * (1 + math.cos(math.pi * step / steps))
        target, reference, _ = shifted_texture(count, random)
        batch = {"target": target * 255, "reference": reference * 255, **neutral}
        optimiser.zero_grad()
        recipe.loss(network, batch, step / steps)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    assert error_of_shifts(network, torch.Generator().manual_seed(1)) < 0.2
