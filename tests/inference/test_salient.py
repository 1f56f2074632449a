"""Salient objects of a video: probabilities at the pictures' size, objects, jobs that are continued."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import pliant
from pliant.errors import MaskError, WeightsError
from pliant.inference.salient import SalientStream, first_labels, first_mask, salient
from pliant.inference.salient_jobs import salient_to_folder
from pliant.video import read


class Brightness(nn.Module):
    """A clip network that finds what is bright; its logit is 20 (mean colour - 0.5)."""

    stride, clip_length = 16, 8
    pixel_mean, pixel_std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(5.0))

    def forward(self, clip):
        return self.gain * clip.mean(dim=1, keepdim=True)


class FeatureBrightness(Brightness):
    """The same, as a function of features of single frames; counts how many it made."""

    encoded = 0

    def encode(self, images, before):
        self.encoded += len(images)
        return (images.mean(dim=1, keepdim=True),)

    def decode(self, features):
        return self.gain * features[0].transpose(1, 2)


def pictures(count, height=60, width=100):
    """Dark frames with a bright square that moves to the right."""
    frames = np.full((count, height, width, 3), 20, np.uint8)
    for t in range(count):
        frames[t, 20:40, 3 * t + 5 : 3 * t + 25] = 230
    return frames


@pytest.fixture
def folder(tmp_path):
    def write(count, **size):
        target = tmp_path / f"clip{count}"
        target.mkdir()
        for index, frame in enumerate(pictures(count, **size)):
            Image.fromarray(frame).save(target / f"{index:03d}.png")
        return target

    return write


@pytest.mark.parametrize("count", [1, 3, 8, 11, 20])
def test_every_frame_comes_out_once_and_in_order(count):
    stream, frames = SalientStream(Brightness()), pictures(count)
    found = [p for image in frames for p in stream.push(image)] + stream.finish()
    assert len(found) == count
    for image, probability in zip(frames, found):
        assert probability.shape == (60, 100)
        assert np.array_equal(probability > 0.5, image[:, :, 0] > 128)


def test_odd_sizes_come_back_as_they_were():
    stream = SalientStream(Brightness(), size=64)
    (probability,) = [*stream.push(pictures(1, 47, 101)[0]), *stream.finish()]
    assert probability.shape == (47, 101)
    assert probability[30, 15] > 0.9 > 0.1 > probability[5, 80]


def test_features_of_a_frame_are_made_once_and_give_the_same():
    network, frames = FeatureBrightness(), pictures(20)
    plain, cached = SalientStream(Brightness(), overlap=7), SalientStream(network, overlap=7)
    expected = [p for image in frames for p in plain.push(image)] + plain.finish()
    found = [p for image in frames for p in cached.push(image)] + cached.finish()
    assert network.encoded == 20
    for a, b in zip(expected, found):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_frames_of_another_size_are_refused():
    stream = SalientStream(Brightness())
    stream.push(pictures(1)[0])
    with pytest.raises(ValueError, match="frame 1 is 30 x 100, those before are 60 x 100"):
        stream.push(pictures(1)[0][:30])


def test_maps_of_the_dynamic_layers_are_kept_for_every_frame():
    stream = SalientStream(pliant.build("d2conv3d_tiny"), size=64, show=("dilation", "modulation"))
    for image in pictures(10):
        stream.push(image)
    stream.finish()
    assert sorted(stream.maps) == list(range(10))
    np.testing.assert_allclose(stream.maps[9]["dilation"], 1)
    np.testing.assert_allclose(stream.maps[9]["modulation"], 0.5)


def test_a_network_without_maps_says_so():
    stream = SalientStream(Brightness(), show=("dilation",))
    with pytest.raises(ValueError, match="Brightness has no dynamic dilated layer"):
        for image in pictures(8):
            stream.push(image)


def test_other_networks_and_words_are_refused():
    with pytest.raises(TypeError, match="Linear does not segment clips"):
        SalientStream(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="show knows dilation and modulation, not rates"):
        SalientStream(Brightness(), show=("rates",))


def test_the_generator_gives_frames_with_their_objects(folder):
    found = list(salient(folder(12), Brightness()))
    assert [f.frame.name for f in found] == [f"{i:03d}" for i in range(12)]
    assert [np.unique(f.labels).tolist() for f in found] == [[0, 1]] * 12
    assert found[5].confidence[1] > 0.9


def test_the_first_mask_of_a_tracker():
    frames = pictures(5)
    frames[:, 50:58, 80:95] = 240  # a second, smaller thing
    labels = first_labels(list(frames), Brightness())
    assert (labels[30, 10], labels[54, 85], labels[5, 5]) == (1, 2, 0)
    assert first_labels(list(frames), Brightness(), keep_largest=1).max() == 1
    with pytest.raises(ValueError, match="at least the first frame"):
        first_labels([], Brightness())


def test_the_first_mask_of_a_source(folder, tmp_path):
    clip = folder(12)
    labels = first_mask(clip, Brightness(), start=4)
    np.testing.assert_array_equal(labels, first_labels(list(pictures(12)[4:]), Brightness()))
    assert labels[30, 20] == 1 and labels[30, 10] == 0
    dark = tmp_path / "dark"
    dark.mkdir()
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(dark / "0.png")
    with pytest.raises(MaskError, match="nothing salient in the first 1 frames of .*dark: mark what to follow"):
        first_mask(dark, Brightness())


def test_without_embedded_weights_it_says_what_to_pass(folder):
    with pytest.raises(WeightsError, match="--weights PATH"):
        salient(folder(1), "d2conv3d")


def run(source, out, network=None, **options):
    with read(source) as frames:
        return salient_to_folder(frames, out, network or Brightness(), **options)


def test_a_job_writes_everything(folder, tmp_path):
    summary = run(folder(12), tmp_path / "out", soft=True)
    out = tmp_path / "out"
    names = {"masks", "soft", "overlay.mp4", "contact_sheet.png", "results.json", "summary.json"}
    assert names <= {p.name for p in out.iterdir()}
    assert summary["frames"] == 12
    assert summary["objects"]["1"]["frames_seen"] == 12
    mask = np.array(Image.open(out / "masks" / "004.png"))
    assert np.array_equal(mask > 0, pictures(12)[4, :, :, 0] > 128)
    soft = np.array(Image.open(out / "soft" / "004.png"))
    assert np.array_equal(soft > 127, mask > 0)
    assert json.loads((out / "summary.json").read_text())["task"] == "salient"


def test_maps_become_videos(folder, tmp_path):
    network = pliant.build("d2conv3d_tiny").eval()
    run(folder(9), tmp_path / "out", network, size=64, show=("dilation", "modulation"))
    for name in ("dilation", "modulation"):
        with read(tmp_path / "out" / f"{name}.mp4") as frames:
            assert sum(1 for _ in frames) == 9


class Stops(Exception):
    pass


@pytest.mark.parametrize("after", [1, 7, 16, 29, 36])
def test_an_interrupted_job_continues_to_the_same_result(folder, tmp_path, after):
    """With a network that sees its whole clip, so that clips must begin at the same frames."""
    torch.manual_seed(0)
    network, source = pliant.build("d2conv3d_tiny").eval(), folder(37)
    options = {"size": 48, "threshold": 0.45, "smallest": 0.02, "overlay": False, "soft": True}
    with torch.no_grad():  # off the level of one half, so that there are objects
        network.decoder.prediction.weight.mul_(30)

    def interrupt(progress):
        if progress.done == after:
            raise Stops

    with pytest.raises(Stops):
        run(source, tmp_path / "b", network, on_frame=interrupt, **options)
    run(source, tmp_path / "b", network, resume=True, **options)
    run(source, tmp_path / "a", network, **options)
    some = 0
    for path in sorted((tmp_path / "a" / "masks").glob("*.png")):
        expected, found = np.array(Image.open(path)), np.array(Image.open(tmp_path / "b" / "masks" / path.name))
        assert np.array_equal(expected, found), path.name
        some += expected.any()
    assert some > 10
