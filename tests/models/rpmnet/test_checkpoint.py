"""Starting the embedding from an ordinary ResNet."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import pliant
from pliant.errors import WeightsError
from pliant.models import rpmnet
from pliant.models.rpmnet.checkpoint import load_resnet, options_in


def resnet(backbone: int = 18) -> dict[str, torch.Tensor]:
    """The state of an ordinary ResNet with random weights, classifier included."""
    torch.manual_seed(7)
    state = rpmnet.build(backbone=backbone, stem="standard").embedding.state_dict()
    state = {key: torch.rand_like(value, dtype=torch.float32) for key, value in state.items()}
    kept = {key: value for key, value in state.items() if not key.startswith("up")}
    return kept | {"fc.weight": torch.zeros(1000, 512)}


def test_the_standard_stem_takes_all_of_it():
    network, state = rpmnet.build(stem="standard"), resnet()
    assert load_resnet(network, state) == []
    assert torch.equal(network.embedding.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    assert torch.equal(network.embedding.bn1.running_var, state["bn1.running_var"])


def test_the_stem_of_the_table_takes_the_stages_but_what_reads_32_channels():
    network, state = rpmnet.build(), resnet()
    left = load_resnet(network, state)
    stem = ["conv1.weight", *(f"bn1.{key}" for key in ("weight", "bias", "running_mean", "running_var"))]
    assert [key for key in left if not key.startswith("layer1.0.downsample")] == [
        *stem,
        "layer1.0.conv1.weight",
    ]
    assert torch.equal(network.embedding.layer2[0].conv1.weight, state["layer2.0.conv1.weight"])


def test_another_depth_is_refused_and_nothing_changes():
    network = rpmnet.build(backbone=34)
    before = network.embedding.layer2[0].conv1.weight.clone()
    with pytest.raises(WeightsError, match="no ResNet-34 under torchvision's names"):
        load_resnet(network, resnet(18))
    assert torch.equal(network.embedding.layer2[0].conv1.weight, before)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"backbone": 34},
        {"backbone": 50, "stem": "standard"},
        {"backbone": 101, "matching": "standard", "layers": 5},
    ],
    ids=str,
)
def test_weights_say_which_network_they_are_of(options: dict):
    with torch.device("meta"):
        state = rpmnet.build(**options).state_dict()
        again = rpmnet.build(**options_in(state)).state_dict()
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in again.items()}


def test_weights_of_another_cell_load_without_options(tmp_path: Path):
    network = rpmnet.build(matching="standard", layers=1)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    loaded = pliant.load("rpmnet", tmp_path / "weights.pt")
    assert loaded.preset.layers == 1 and not loaded.training
    assert torch.equal(loaded.matching.layers[0].weight, network.matching.layers[0].weight)


def test_weights_of_something_else_are_refused(tmp_path: Path):
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match="missing"):
        pliant.load("rpmnet", tmp_path / "weights.pt")
