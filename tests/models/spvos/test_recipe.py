"""The paper's training: data, schedules, losses, and one step of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pliant.datasets.clip_augmentation import augment_clip, sample_frames
from pliant.errors import DatasetError
from pliant.models.spvos.gated_conv import Record
from pliant.models.spvos.recipe import SpvosRecipe, hard_share, sparse_loss, training_clips


def make_davis(root, count=2):
    for name in [f"clip{i}" for i in range(count)]:
        for t in range(8):
            for kind in ("JPEGImages", "Annotations"):
                (root / kind / "480p" / name).mkdir(parents=True, exist_ok=True)
            picture = np.random.default_rng(t).integers(0, 255, (60, 80, 3), np.uint8)
            Image.fromarray(picture).save(root / "JPEGImages" / "480p" / name / f"{t:05d}.jpg")
            labels = np.zeros((60, 80), np.uint8)
            labels[5:40, 5:40], labels[10:50, 45:75] = 1, 2
            mask = Image.fromarray(labels)
            mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
            mask.save(root / "Annotations" / "480p" / name / f"{t:05d}.png")
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "train.txt").write_text("\n".join(f"clip{i}" for i in range(count)))
    return root


@pytest.fixture(scope="module")
def davis_folder(tmp_path_factory):
    return make_davis(tmp_path_factory.mktemp("davis"))


def test_frames_stay_within_the_gap_and_go_both_ways():
    generator = np.random.default_rng(0)
    drawn = [sample_frames(40, 5, generator) for _ in range(300)]
    gaps = np.diff(drawn, axis=1)
    assert np.abs(gaps).max() <= 6
    assert {int(g) for g in np.sign(gaps.sum(axis=1))} == {1, -1}
    assert (gaps[:, 0] * gaps[:, 1] >= 0).all()  # clipped at a video's end, frames may repeat but never turn
    assert 0 <= np.min(drawn) < np.max(drawn) <= 39
    assert all(0 <= min(f) <= max(f) < 3 for f in (sample_frames(3, 25, generator) for _ in range(50)))


def test_augmentation_moves_masks_with_pictures():
    """A picture whose brightness is its mask stays so, away from edges."""
    label = np.zeros((90, 120), np.uint8)
    label[20:70, 30:90] = 1
    frame = np.repeat((label * 250)[..., None], 3, axis=2).astype(np.uint8)
    frames, labels = augment_clip([frame] * 3, [label] * 3, 64, np.random.default_rng(1))
    assert frames.shape == (3, 64, 64, 3)
    assert labels.shape == (3, 64, 64)
    inside = labels.astype(bool)
    assert inside.mean() > 0.05
    assert np.median(frames[inside]) > 180
    assert set(np.unique(labels)) <= {0, 1}


def test_hard_pixels_fall_from_all_to_15_percent():
    assert [hard_share(p) for p in (0, 1 / 8, 7 / 16, 1)] == pytest.approx([1, 1, 0.15, 0.15])
    assert hard_share(9 / 32) == pytest.approx(0.575)


def test_the_learning_rate_is_the_papers(davis_folder):
    recipe = SpvosRecipe("spvos_triple", ())
    rate = [2e-5 * recipe.schedule(s / 160_000) for s in (0, 8_000, 32_000, 160_000)]
    assert rate == pytest.approx([1e-6, 2e-5, 2e-5, 1e-6])


def test_a_layer_seen_on_two_frames_is_pooled():
    records = [Record(name, torch.tensor(float(n)), 100, 9) for name, n in (("a", 0), ("a", 20), ("b", 10))]
    assert sparse_loss(records, 0.0, 0.1).item() == pytest.approx(0, abs=1e-9)
    assert sparse_loss(records, 0.0, None).item() == pytest.approx(0.1)
    assert sparse_loss(records[1:2], 0.0, 0.1).item() == pytest.approx(2 * 0.1**2)


def test_samples_are_clips_of_two_objects_and_repeat(davis_folder):
    recipe = SpvosRecipe("spvos_triple", tuple(training_clips(davis_folder)), side=64)
    sample = recipe.sample(3, 1, 0.5)
    assert sample["images"].shape == (3, 3, 64, 64)
    assert set(np.unique(sample["labels"])) <= {0, 1, 2}
    assert sample["valid"].any()
    assert np.array_equal(sample["images"], recipe.sample(3, 1, 0.5)["images"])
    assert not np.array_equal(sample["images"], recipe.sample(3, 2, 0.5)["images"])


def test_a_step_trains_filters_and_gates(davis_folder):
    recipe = SpvosRecipe("spvos_triple", tuple(training_clips(davis_folder)), side=64)
    torch.manual_seed(0)
    network = recipe.build()
    batch = {key: torch.from_numpy(value)[None] for key, value in recipe.sample(0, 0, 0.0).items()}
    losses = recipe.loss(network, batch, progress=0.0)
    losses["loss"].backward()
    assert losses["loss"].item() == pytest.approx((losses["cross_entropy"] + losses["sparsity"]).item(), rel=1e-5)
    assert 0.5 < losses["computed"] <= 1  # gates start near dense
    assert network.decoder.compress.conv1.gate.bias.grad.any()
    assert network.decoder.compress.conv1.weight.grad.any()


def test_davis_counts_five_times_beside_youtube_vos(tmp_path):
    make_davis(tmp_path / "DAVIS", 1)
    folder = make_davis(tmp_path / "other", 1)
    for kind in ("JPEGImages", "Annotations"):
        (tmp_path / "YouTubeVOS" / kind).mkdir(parents=True)
        (folder / kind / "480p" / "clip0").rename(tmp_path / "YouTubeVOS" / kind / "clip0")
        (folder / kind / "480p").rmdir()
        (folder / kind).rmdir()
    assert len(training_clips(tmp_path)) == 6


def test_a_folder_without_clips_is_named(tmp_path):
    with pytest.raises(DatasetError, match="holds no annotated clip in DAVIS or YouTube-VOS layout"):
        training_clips(tmp_path)
