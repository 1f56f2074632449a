"""spvos_light: sizes, training and streaming agree, a teacher can be imitated, and what the embedded weights score."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

import pliant
from conftest import shared
from pliant.datasets.layouts import read_clips
from pliant.datasets.sources import Sources
from pliant.errors import InputError
from pliant.inference.scores import mean_overlap
from pliant.models.protocols import TrackNetwork
from pliant.models.spvos.imitation import copy_common, encoder_outputs, imitating_parameters, imitation_loss
from pliant.models.spvos.light_recipe import LightRecipe, from_teacher
from pliant.models.spvos.small import build
from pliant.models.spvos.small_recipe import SmallRecipe
from pliant.weights import embedded


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return pliant.build("spvos_light", top_k=10_000)


def test_the_preset_promises_a_tracker_that_fits_the_package(network):
    assert isinstance(network, TrackNetwork)
    assert sum(p.numel() for p in network.parameters()) == 5_770_177


def test_features_have_the_sizes_that_the_rest_expects(network):
    with torch.no_grad():
        shapes = {name: tuple(x.shape) for name, x in encoder_outputs(network, torch.randn(2, 3, 64, 96)).items()}
    assert shapes == {
        "key": (2, 64, 4, 6), "context": (2, 128, 4, 6), "reduced": (2, 256, 4, 6),
        "skip8": (2, 128, 8, 12), "skip4": (2, 64, 16, 24),
    }  # fmt: skip


def test_training_and_inference_compute_the_same(network):
    torch.manual_seed(1)
    images, masks = torch.randn(1, 3, 3, 64, 80), torch.zeros(1, 2, 64, 80)
    masks[0, 0, 10:40, 10:40] = 1
    masks[0, 1, 30:60, 50:75] = 1
    with torch.no_grad():
        odds = network(images, masks, torch.ones(1, 2, dtype=torch.bool), [True, True, False])
        state = network.start(images[:, 0], masks[0])
        first = network.step(state, images[:, 1])
        network.memorize(state, images[:, 1], first)
        second = network.step(state, images[:, 2])
    for index, found in enumerate((first, second)):
        torch.testing.assert_close(found, odds[0, index].softmax(0), atol=2e-4, rtol=0)


def test_a_network_that_gives_what_its_teacher_gives_has_no_loss():
    torch.manual_seed(2)
    teacher, images = build(blocks=(1, 1, 1)).eval(), torch.randn(2, 3, 64, 64)
    losses = imitation_loss(teacher, teacher, images)
    assert set(losses) == {"loss", "key", "context", "reduced", "skip8", "skip4"}
    assert all(float(value.detach()) < 1e-6 for value in losses.values())


def test_imitation_comes_closer_and_leaves_what_was_copied(network):
    torch.manual_seed(3)
    student, teacher = pliant.build("spvos_light"), build(blocks=(1, 1, 1)).eval().requires_grad_(False)
    copy_common(student, teacher)
    own, rest = imitating_parameters(student)
    assert sum(p.numel() for p in own + rest) == sum(p.numel() for p in student.parameters())
    before = [p.clone() for p in rest]
    optimiser = torch.optim.Adam(student.parameters(), 1e-3)
    images, losses = torch.randn(2, 3, 64, 64), []
    for _ in range(12):
        loss = imitation_loss(student, teacher, images)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    assert all(torch.equal(a, b) for a, b in zip(before, rest))
    assert torch.equal(student.decoder.start.conv1.weight, teacher.decoder.start.conv1.weight)


def test_a_teacher_of_other_sizes_is_refused():
    with pytest.raises(RuntimeError, match="size mismatch"):
        copy_common(build(encoder="mobilenet_v2"), build(blocks=(1, 1, 1), decoder_channels=(32, 32, 16)))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """On two photographs and a cut-out of noise, after the embedded teacher."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for kind, channels in (("photos", 3), ("cutouts", 4)):
        (folder / kind).mkdir()
        for number in range(2):
            picture = cv2.resize(rng.integers(0, 255, (30, 40, channels), np.uint8), (400, 300))
            if channels == 4:
                picture[..., 3] = cv2.circle(np.zeros((300, 400), np.uint8), (200, 150), 120, 255, -1)
            cv2.imwrite(str(folder / kind / f"{number}.png"), picture)
    teacher = embedded("spvos_small", "spvos_small.safetensors")
    sources = Sources((folder / "photos",), (folder / "cutouts",), teacher=teacher, cache=folder / "cache")
    return from_teacher(sources)


def test_pictures_come_first_and_clips_after(recipe):
    assert isinstance(recipe, LightRecipe) and recipe.name == "spvos_light"
    first, last = recipe.sample(3, 1, 0.5), recipe.sample(3, 1, 1.0)
    assert set(first) == {"images"} and first["images"].shape == (2, 3, 256, 256)
    assert last["images"].shape == (6, 3, 256, 256) and last["labels"].shape == (6, 256, 256)
    np.testing.assert_array_equal(first["images"], recipe.sample(3, 1, 0.4)["images"])
    rates = [recipe.schedule(p) for p in (0.001, 0.1, 0.6, 0.601, 0.65, 1.0)]
    assert rates[0] < rates[1] > rates[2] > rates[3] and 0.2 < rates[4] < 0.25 and rates[5] == pytest.approx(0.005)


def test_the_network_begins_with_the_teacher_s_decoder_and_both_losses_reach_it(recipe):
    network = recipe.build()
    teacher = pliant.load("spvos_small")
    assert torch.equal(network.decoder.logit.weight, teacher.decoder.logit.weight)
    assert not network.key_encoder.trunk.stem.weight.requires_grad
    batch = {"images": torch.from_numpy(recipe.sample(0, 0, 0.0)["images"][None, :, :, :64, :64])}
    recipe.loss(network, batch, 0.0)["loss"].backward()
    assert network.key.weight.grad is not None and network.decoder.logit.weight.grad is None
    sample = {k: torch.as_tensor(v)[None] for k, v in recipe.sample(0, 0, 0.61).items()}
    recipe.loss(network, sample, 0.61)["loss"].backward()
    assert network.decoder.logit.weight.grad is not None


def test_several_processes_are_refused_while_imitating(recipe):
    with pytest.raises(InputError, match="one process"):
        recipe.loss(torch.nn.Sequential(), {"images": torch.zeros(1, 2, 3, 64, 64)}, 0.0)


def test_without_a_teacher_it_learns_as_spvos_small_does(recipe):
    folder = recipe.pictures.parents[1]
    plain = from_teacher(Sources(photos=(folder / "photos",), cache=folder / "b"))
    assert type(plain) is SmallRecipe and plain.build().preset.encoder == "mobilenet_v2"


@pytest.mark.slow
def test_the_score_of_a_short_sequence_is_not_below_the_model_card_s():
    """car-shadow, 40 frames, in float32, for which the network is made."""
    clips = [clip for clip in read_clips(shared("data", "davis-dev"), "val") if clip.name == "car-shadow"]
    # The card says 87.8; the rest is left for other arithmetic on other machines.
    assert mean_overlap(pliant.load("spvos_light"), clips, "fp32") >= 0.865
