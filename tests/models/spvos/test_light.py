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
from pliant.models.spvos.imitation import encoder_outputs, following_loss, imitation_loss
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
    assert sum(p.numel() for p in network.parameters()) == 2_587_329


def test_keys_and_context_have_the_teacher_s_sizes(network):
    with torch.no_grad():
        shapes = {name: tuple(x.shape) for name, x in encoder_outputs(network, torch.randn(2, 3, 64, 96)).items()}
    assert shapes == {"key": (2, 64, 4, 6), "context": (2, 128, 4, 6)}


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


def test_a_network_that_sees_what_its_teacher_sees_has_no_loss():
    torch.manual_seed(2)
    teacher, images = build(blocks=(1, 1, 1)).eval(), torch.randn(2, 3, 64, 64)
    losses = imitation_loss(teacher, teacher, images)
    assert set(losses) == {"loss", "key", "context"}
    assert all(float(value.detach()) < 1e-6 for value in losses.values())


def a_clip() -> tuple:
    """Noise, one object that is there and one that is not, in three frames; both followed with a hint."""
    torch.manual_seed(3)
    images, masks = torch.randn(1, 3, 3, 64, 64), torch.zeros(1, 3, 2, 64, 64)
    masks[:, :, 0, 16:48, 16:48] = 1
    return images, masks, torch.tensor([[True, False]]), [True, True, False], torch.tensor([True])


def test_following_by_hand():
    """The three parts against their definitions, all pixels counted."""
    torch.manual_seed(4)
    network, teacher = build(blocks=(1, 1, 1), top_k=10_000).eval(), build(blocks=(1, 1, 1)).eval()
    images, masks, valid, memory, hinted = a_clip()
    with torch.no_grad():
        losses = following_loss(network, teacher, images, masks, valid, memory, hinted, 1.0)
        found = network(images, masks[:, 0], valid, memory, hinted).double().softmax(2)
        wanted = teacher(images, masks[:, 0], valid, memory, hinted).double().softmax(2)
        truth = torch.cat([1 - masks[:, 1:].sum(2, keepdim=True), masks[:, 1:]], 2)
        target = (wanted + truth) / 2
        entropy = -(target * found.clamp_min(1e-30).log()).sum(2).mean()
        overlap = [
            1 - (2 * (f * g).sum() + 1) / (f.sum() + g.sum() + 1) for f, g in zip(found[0, :, 1], target[0, :, 1])
        ]
    assert float(losses["cross_entropy"]) == pytest.approx(float(entropy), rel=1e-4)
    assert float(losses["dice"]) == pytest.approx(float(sum(overlap) / 2), rel=1e-4)
    assert float(losses["loss"]) == pytest.approx(float(entropy + sum(overlap) / 2 + losses["value"] / 2), rel=1e-4)
    assert float(following_loss(teacher, teacher, *a_clip(), 1.0)["value"].detach()) < 1e-6


def test_imitation_comes_closer_and_leaves_the_teacher_as_it_is(network):
    torch.manual_seed(3)
    student, teacher = pliant.build("spvos_light"), build(blocks=(1, 1, 1)).eval().requires_grad_(False)
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    optimiser = torch.optim.Adam(student.parameters(), 1e-3)
    images, masks, valid, memory, hinted = a_clip()
    losses = []
    for _ in range(10):
        seen = imitation_loss(student, teacher, images[0])["loss"]
        loss = seen + following_loss(student, teacher, images, masks, valid, memory, hinted, 0.5)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.grad is not None for p in student.parameters())
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())


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


def test_every_sample_is_pictures_and_a_clip(recipe):
    assert isinstance(recipe, LightRecipe) and recipe.name == "spvos_light"
    first, last = recipe.sample(3, 1, 0.0), recipe.sample(3, 1, 1.0)
    assert first["crops"].shape == last["crops"].shape == (2, 3, 256, 256)
    assert (first["images"].shape, last["images"].shape) == ((3, 3, 256, 256), (4, 3, 256, 256))
    np.testing.assert_array_equal(first["crops"], recipe.sample(3, 1, 0.4)["crops"])


def test_a_step_reaches_every_layer_that_is_trained(recipe):
    network = recipe.build()
    assert not network.key_encoder.trunk.stem.weight.requires_grad
    batch = {key: torch.as_tensor(value)[None] for key, value in recipe.sample(0, 0, 0.0).items()}
    batch |= {key: batch[key][..., :64, :64] for key in ("crops", "images", "labels")}
    losses = recipe.loss(network, batch, 0.0)
    assert {"key", "context", "value", "cross_entropy", "dice", "loss"} == set(losses)
    losses["loss"].backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
    groups = recipe.parameter_groups(network)
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert sum(p.numel() for group in groups for p in group["params"]) == trained


def test_several_processes_are_refused(recipe):
    with pytest.raises(InputError, match="one process"):
        recipe.loss(torch.nn.Sequential(), {"crops": torch.zeros(1, 2, 3, 64, 64)}, 0.0)


def test_without_a_teacher_it_learns_as_spvos_small_does(recipe):
    folder = recipe.pictures.parents[1]
    plain = from_teacher(Sources(photos=(folder / "photos",), cache=folder / "b"))
    assert type(plain) is SmallRecipe and plain.build().preset.encoder == "mobilenet_v2"


@pytest.mark.slow
def test_the_score_of_a_short_sequence_is_not_below_the_model_card_s():
    """libby, 49 frames, in float32."""
    clips = [clip for clip in read_clips(shared("data", "davis-dev"), "val") if clip.name == "libby"]
    # The card says 79.5 (bf16); the rest is left for other arithmetic on other machines.
    assert mean_overlap(pliant.load("spvos_light"), clips, "fp32") >= 0.78
