"""Official checkpoints: every layout that is known, both ways."""

from __future__ import annotations

import json

import pytest
import torch

import pliant
from conftest import shared
from pliant.errors import WeightsError
from pliant.models.d2conv3d import PRESETS
from pliant.models.d2conv3d.checkpoint import from_official, to_official
from pliant.models.d2conv3d.presets import Encoder
from pliant.weights import read_weights
from pliant.weights.known_files import recognise


def small(name):
    """The network ``name`` with a small encoder and decoder, so that tests are quick."""
    torch.manual_seed(1)
    encoder = Encoder(PRESETS[name].encoder.kind, (1, 1, 1, 1), planes=4, eps=PRESETS[name].encoder.eps)
    return pliant.build(name, width=8, encoder=encoder)


@pytest.mark.parametrize("name", ["threedc_seg", "threedc_seg_r2plus1d", "threedc_seg_revised", "d2conv3d"])
def test_there_and_back(name):
    network = small(name)
    back = from_official(to_official(network), network)
    assert back.keys() == network.state_dict().keys()
    assert all(torch.equal(back[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    "fixture, name",
    [
        ("3dcseg_csn152", "threedc_seg"),
        ("3dcseg_r2plus1d", "threedc_seg_r2plus1d"),
        ("d2conv3d_xyz", "d2conv3d"),
        ("d2conv3d_aspp", "d2conv3d_aspp"),
    ],
)
def test_names_and_shapes_are_those_of_the_official_code(fixture, name):
    shapes = json.loads((shared("parity", fixture) / "manifest.json").read_text())["state_dict"]
    with torch.device("meta"):
        ours = {key: list(value.shape) for key, value in to_official(pliant.build(name)).items()}
    counters = {key for key in shapes if key.endswith("num_batches_tracked") and key not in ours}
    assert ours == {key: shape for key, shape in shapes.items() if key not in counters}


def save(state, path):
    torch.save({"epoch": 3, "model": state}, path)
    return path


def test_a_training_checkpoint_of_d2conv3d(tmp_path):
    """Wrapped twice, and with the constants of its input."""
    network, other = small("d2conv3d"), small("d2conv3d")
    state = to_official(network) | {"mean": torch.zeros(3, 1, 1, 1), "std": torch.ones(3, 1, 1, 1)}
    path = save({f"module.model.{key}": value for key, value in state.items()}, tmp_path / "5.ckpt")
    torch.nn.init.zeros_(other.decoder.prediction.weight)
    read_weights(other, path, family="d2conv3d", name="d2conv3d")
    assert torch.equal(other.decoder.prediction.weight, network.decoder.prediction.weight)


def threedc_seg_file(network):
    """As 3DC-Seg writes it: the encoder twice, a classifier, unused heads, counters, a second decoder."""
    state = to_official(network)
    state |= {key.replace("encoder.", "encoder.resnet."): v for key, v in state.items() if "encoder." in key}
    unused = (
        "encoder.resnet.fc.weight",
        "encoder.conv1_p.weight",
        "decoders.0.pred5.weight",
        "encoder.mean",
        "encoder.bn1.num_batches_tracked",
        "decoder.GC.conv_l1.weight",
        "encoder.res2.0.conv1.weight",
    )
    return state | {key: torch.ones(2) for key in unused}


def test_a_checkpoint_of_3dc_seg(tmp_path):
    network, other = small("threedc_seg"), small("threedc_seg")
    path = save(threedc_seg_file(network), tmp_path / "bmvc_final.pth")
    torch.nn.init.zeros_(other.encoder.layer3[0].conv1.weight)
    read_weights(other, path, family="d2conv3d", name="threedc_seg")
    for key, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)


def test_tied_tensors_that_differ_are_refused():
    network = small("threedc_seg")
    state = threedc_seg_file(network)
    state["encoder.resnet.layer1.0.conv1.weight"] = state["encoder.resnet.layer1.0.conv1.weight"] + 1
    with pytest.raises(WeightsError, match=r"two different tensors for encoder\.layer1\.0\.conv1\.weight"):
        from_official(state, network)


def test_another_variant_is_named_by_what_its_layers_predict():
    with pytest.raises(WeightsError, match="predict 28 channels each, as those of d2conv3d_i do"):
        from_official(to_official(small("d2conv3d_i")), small("d2conv3d"))


@pytest.mark.parametrize(
    "name", ["threedc_seg", "threedc_seg_r2plus1d", "threedc_seg_revised", "d2conv3d", "d2conv3d_aspp"]
)
def test_a_file_tells_which_network_it_is_of(name):
    with torch.device("meta"):
        assert recognise(to_official(pliant.build(name))).model == name


def test_encoder_weights_fill_the_encoder_alone():
    network, trained = small("d2conv3d"), small("threedc_seg")
    torch.nn.init.ones_(trained.encoder.stem.conv1.weight)
    official = to_official(trained)
    bare = {key.removeprefix("encoder."): v for key, v in official.items() if key.startswith("encoder.")}
    state = from_official(bare | {"fc.weight": torch.ones(2), "fc.bias": torch.ones(2)}, network)
    assert state.keys() == network.state_dict().keys()
    assert torch.equal(state["encoder.stem.conv1.weight"], trained.encoder.stem.conv1.weight)
    assert torch.equal(state["decoder.prediction.weight"], network.decoder.prediction.weight)


def test_3dc_seg_does_not_pass_for_the_revised_network(tmp_path):
    path = save(threedc_seg_file(small("threedc_seg")), tmp_path / "bmvc_final.pth")
    with pytest.raises(WeightsError, match=r"does not fit 'threedc_seg_revised': 30 missing .*of another"):
        read_weights(small("threedc_seg_revised"), path, family="d2conv3d", name="threedc_seg_revised")


def test_what_is_no_checkpoint_of_the_family_is_listed(tmp_path):
    path = save({"backbone.stem.weight": torch.ones(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="missing"):
        read_weights(small("d2conv3d"), path, family="d2conv3d", name="d2conv3d")
