"""Training of clip networks: what a sample is, what a folder may look like, a run from end to end."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import pliant
from pliant.datasets.pictures import PictureStore, pack_pictures
from pliant.datasets.salient_pictures import SalientPictures, _is_clear, write_saliency
from pliant.datasets.sources import Sources
from pliant.errors import DatasetError, InputError
from pliant.models.d2conv3d.presets import Steering
from pliant.models.d2conv3d.recipe import (
    FolderRecipe,
    Stage,
    SyntheticRecipe,
    _annotated,
    _build,
    from_folder,
    plain_from_sources,
    small_from_sources,
)
from pliant.models.d2conv3d.small import SmallSegmenter
from pliant.training import RECIPES
from pliant.training.loop import Settings, train


@pytest.fixture
def root(tmp_path):
    """Two videos: a bright square (object 1, then 2) on a dark ground; the second video lacks a mask."""
    for name, frames in (("one", 5), ("two", 3)):
        for kind in ("JPEGImages", "Annotations"):
            (tmp_path / kind / name).mkdir(parents=True)
        for t in range(frames):
            image, mask = np.full((24, 40, 3), 30, np.uint8), np.zeros((24, 40), np.uint8)
            image[8:16, 4 * t : 4 * t + 10], mask[8:16, 4 * t : 4 * t + 10] = 220, 1 + t % 2
            cv2.imwrite(str(tmp_path / "JPEGImages" / name / f"{t:05d}.jpg"), image)
            if (name, t) != ("two", 1):
                Image.fromarray(mask).save(tmp_path / "Annotations" / name / f"{t:05d}.png")
    return tmp_path


def recipe(root, **options):
    options = {"name": "d2conv3d_tiny", "size": (24, 40), "batch_size": 2, "length": 4, **options}
    return FolderRecipe(_annotated(root), **options)


def test_the_small_network_s_encoder_keeps_its_weights_on_a_folder_too(root):
    own = recipe(root, name="salient_small_plain", size=(64, 64))
    network = own.build()
    batch = {key: torch.from_numpy(value)[None] for key, value in own.sample(0, 0, 0.0).items()}
    assert batch["clip"].shape == (1, 3, 4, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        own.loss(network, batch, 0.0)["loss"].backward()
    assert network.prediction.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in network.encoder.parameters())


def test_only_videos_with_every_mask_are_used(root):
    assert [clip.name for clip in _annotated(root)] == ["one"]


def test_a_folder_without_masks_is_explained(tmp_path):
    with pytest.raises(DatasetError, match=r"no video with a mask for every frame; expected JPEGImages/<name>"):
        _annotated(tmp_path)
    with pytest.raises(InputError, match="give --data"):
        from_folder(Sources())


def test_a_sample_is_a_normalised_clip_and_its_foreground(root):
    sample = recipe(root).sample(0, 0, 0.0)
    assert (sample["clip"].shape, sample["clip"].dtype) == ((3, 4, 32, 64), np.float32)
    assert (sample["target"].shape, sample["target"].dtype) == ((1, 4, 32, 64), bool)
    assert sample["target"].sum() == 4 * 80  # both objects, no padding
    assert (sample["clip"][0, 0][sample["target"][0, 0]] > 1).all()
    black = -0.43216 / 0.22803
    np.testing.assert_allclose(sample["clip"][0, :, 0], black, rtol=1e-5)


def test_every_frame_is_once_the_start_of_a_clip_in_an_epoch(root, monkeypatch):
    chosen = []
    one = recipe(root, batch_size=1)
    monkeypatch.setattr(
        FolderRecipe, "_chosen", lambda self, count, frame, rng: chosen.append(frame) or [frame] * self.length
    )
    for step in range(10):
        one.sample(step, 0, 0.0)
    assert sorted(chosen[:5]) == sorted(chosen[5:]) == [0, 1, 2, 3, 4]
    assert chosen[:5] != chosen[5:]


def test_draws_are_new_in_each_epoch_unless_fixed(root):
    def of_each_epoch(fixed):
        drawn = recipe(root, sampler="repository", fixed_draws=fixed, batch_size=1)
        clips = [drawn.sample(step, 0, 0.0)["target"].tobytes() for step in range(5)]
        later = [drawn.sample(step, 0, 0.0)["target"].tobytes() for step in range(5, 10)]
        return sorted(clips) == sorted(later)

    assert of_each_epoch(True)
    assert not of_each_epoch(False)


def test_the_learning_rate_falls_to_a_tenth_after_half(root):
    assert [recipe(root).schedule(p) for p in (0, 0.49, 0.5, 1)] == [1, 1, 0.1, 0.1]


@pytest.mark.slow
def test_a_run_learns_and_its_weights_load(root, tmp_path):
    losses = []
    settings = Settings(
        steps=30, batch_size=2, learning_rate=3e-3, workers=0, precision="fp32", average=0.0, clip_norm=10.0
    )
    train(recipe(root), tmp_path / "run", settings, on_step=lambda r: losses.append(r.losses["loss"]))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    again = recipe(root, initial=tmp_path / "run" / "weights.safetensors").build()
    assert again.encoder.checkpoint_blocks
    with pytest.raises(AssertionError):  # the weights are not those of a new network
        torch.testing.assert_close(again.state_dict(), recipe(root).build().state_dict())


@pytest.fixture
def pictures(tmp_path):
    photos, cutouts = tmp_path / "photos", tmp_path / "cutouts"
    photos.mkdir()
    cutouts.mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        noise = rng.integers(0, 255, (30, 40, 3), np.uint8)
        cv2.imwrite(str(photos / f"{index}.png"), cv2.resize(noise, (320, 240)))
        alpha = np.zeros((100, 100, 1), np.uint8)
        alpha[10:90, 20:80] = 255
        colours = cv2.resize(rng.integers(0, 255, (9, 9, 3), np.uint8), (100, 100), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(cutouts / f"{index}.png"), np.dstack([colours, alpha]))
    return pack_pictures(tmp_path / "pack.bin", photos=[photos], cutouts=[cutouts], films=[])


@pytest.mark.slow
def test_synthetic_clips_train_the_small_network(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(SmallSegmenter, "size", 64)
    stages = (Stage(0.0, 3, 32, 1.0), Stage(0.5, 4, 48, 1.0))
    synthetic = SyntheticRecipe(pictures, stages=stages)
    assert synthetic.sample(0, 0, 0.0)["clip"].shape == (3, 3, 64, 64)
    assert synthetic.sample(0, 0, 0.9)["target"].shape == (1, 4, 64, 64)
    first, second = synthetic.sample(7, 1, 0.0), synthetic.sample(7, 1, 0.0)
    assert np.array_equal(first["clip"], second["clip"])
    losses = []
    settings = Settings(steps=2, batch_size=2, workers=0, precision="fp32")
    network = train(synthetic, tmp_path / "run", settings, on_step=lambda r: losses.append(r.losses))
    assert losses[0].keys() >= {"loss", "lovasz", "cross_entropy"}
    assert not any(p.requires_grad for p in synthetic.build().encoder.parameters())
    assert network.skip32.weight.requires_grad is False  # what is returned is the average


def test_the_frozen_encoder_runs_in_half_precision_where_the_rest_is_mixed(pictures, monkeypatch):
    monkeypatch.setattr(SmallSegmenter, "size", 64)
    synthetic = SyntheticRecipe(pictures, stages=(Stage(0.0, 2, 32, 1.0),), name="salient_small_plain")
    network = synthetic.build()
    nn.init.normal_(network.prediction.weight)
    batch = {key: torch.from_numpy(value)[None] for key, value in synthetic.sample(0, 0, 0.0).items()}
    whole = synthetic.loss(network, batch, 0.0)["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = synthetic.loss(network, batch, 0.0)["loss"]
    torch.testing.assert_close(mixed, whole, rtol=0.05, atol=0.02)
    mixed.backward()
    assert network.skip32.weight.grad.abs().sum() > 0 and network.encoder.fuse is None
    assert all(p.grad is None and p.dtype == torch.float32 for p in network.encoder.parameters())


def test_clips_of_all_shapes_are_stretched(pictures, monkeypatch):
    synthetic = SyntheticRecipe(pictures)
    shapes = [synthetic._shape(240, number) for number in range(60)]
    assert set(shapes) == {(240, 427), (240, 240), (427, 240)} and shapes.count((240, 427)) > 30


def test_where_nothing_moves_what_was_placed_is_salient(pictures, monkeypatch):
    from pliant.datasets.synthetic import SyntheticClips

    monkeypatch.setattr(SmallSegmenter, "size", 32)
    monkeypatch.setattr(SyntheticRecipe, "_shape", lambda self, side, number: (side, side))
    synthetic = SyntheticRecipe(pictures, stages=(Stage(0.0, 3, 32, 1.0),))
    clip = SyntheticClips(synthetic._store, 0, (32, 32), 3)[0]
    for moves in (True, False):
        still = replace(clip, own_motion=(moves,))
        monkeypatch.setattr(SyntheticClips, "__getitem__", lambda self, index, still=still: still)
        target = synthetic.sample(0, 0, 0.0)["target"][0]
        assert np.array_equal(target > 0, clip.moving if moves else clip.placed)
    assert clip.placed[clip.moving].all()


def test_a_teacher_says_what_is_salient_in_pictures(pictures, tmp_path):
    def bright(image):
        return cv2.resize(image.mean(2).astype(np.float32) / 255, (320, 320))

    store = PictureStore(pictures)
    file = write_saliency(store, bright, tmp_path / "saliency.npz")
    assert write_saliency(store, None, file) == file  # kept
    taught = SyntheticRecipe(pictures, saliency=file, looks=1.0, stages=(Stage(0.0, 5, 64, 1.0),))
    monotone = SalientPictures(store, file)
    monotone.__dict__["_clear"] = {"photos": np.arange(3), "films": np.arange(0)}
    frames, saliency = monotone[4]
    assert (frames.shape, frames.dtype) == ((4, 256, 256, 3), np.uint8)
    assert (saliency.shape, saliency.min() >= 0, saliency.max() <= 1) == ((4, 256, 256), True, True)
    assert np.corrcoef(frames.mean(3).ravel(), saliency.ravel())[0, 1] > 0.8  # the map moves with its picture
    again = SalientPictures(store, file)
    again.__dict__["_clear"] = monotone._clear
    assert np.array_equal(again[4][0], frames) and not np.array_equal(again[5][0], frames)
    assert taught.saliency == file


@pytest.mark.parametrize(
    "share, undecided, clear", [(0.2, 0.0, True), (0.8, 0.0, False), (0.2, 0.3, False), (0.0, 0.0, False)]
)
def test_only_pictures_with_a_clear_object_teach(share, undecided, clear):
    seen = np.zeros(10_000, np.uint8)
    seen[: int(share * 10_000)] = 250
    seen[10_000 - int(undecided * 10_000) :] = 120
    assert _is_clear(seen.reshape(100, 100)) == clear


def test_a_steered_network_begins_as_its_plain_twin(tmp_path):
    torch.manual_seed(0)
    plain = pliant.build("salient_small_plain").eval()
    save_file(plain.state_dict(), tmp_path / "plain.safetensors")
    for steering in (Steering(), Steering("deform", "tyx", modulated=False)):
        steered = _build("salient_small", tmp_path / "plain.safetensors", {"steering": steering}).eval()
        nn.init.normal_(steered.prediction.weight, std=0.1)
        plain.prediction.load_state_dict(steered.prediction.state_dict())
        clip = torch.randn(1, 3, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(steered(clip), plain(clip), atol=1e-4, rtol=1e-4)


def test_recipes_are_in_the_table(root):
    assert {"salient_small", "d2conv3d"} <= set(RECIPES)
    own = small_from_sources(Sources(clips=root))
    assert (own.name, own.stride, own.flip) == ("salient_small", 32, True)
    kept = pliant.load("salient_small").encoder.state_dict()
    assert all(torch.equal(value, kept[key]) for key, value in own.build().encoder.state_dict().items())
    with pytest.raises(InputError, match="salient_small_plain needs --from: U2-NetP's ONNX file"):
        plain_from_sources(Sources(clips=root))
    with pytest.raises(InputError, match="give --photos or --data"):
        small_from_sources(Sources())
