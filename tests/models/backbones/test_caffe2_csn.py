"""Weights out of Caffe2 pickles, and nothing executed."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch

from pliant.errors import WeightsError
from pliant.models.backbones.caffe2_csn import read_caffe2_csn
from pliant.models.backbones.csn import ChannelSeparatedResNet

BLOCKS = (1, 2, 1, 1)


def caffe2_names(network):
    """The tensors of ``network`` as the Video Model Zoo calls them."""
    blobs = {"last_out_L400_w": np.zeros((400, 8)), "conv1_w": network.stem.conv1.weight}
    norms = {"conv1_spatbn_relu": network.stem.bn1}
    layers = (network.layer1, network.layer2, network.layer3, network.layer4)
    for number, block in enumerate(block for layer in layers for block in layer):
        for theirs, ours in ((1, 1), (3, 2), (4, 3)):
            blobs[f"comp_{number}_conv_{theirs}_w"] = getattr(block, f"conv{ours}").weight
            norms[f"comp_{number}_spatbn_{theirs}"] = getattr(block, f"bn{ours}")
        if block.downsample is not None:
            blobs[f"shortcut_projection_{number}_w"] = block.downsample[0].weight
            norms[f"shortcut_projection_{number}_spatbn"] = block.downsample[1]
    for name, norm in norms.items():
        for theirs, ours in (("s", "weight"), ("b", "bias"), ("rm", "running_mean"), ("riv", "running_var")):
            blobs[f"{name}_{theirs}"] = getattr(norm, ours)
    return {k: v.detach().numpy() if torch.is_tensor(v) else v for k, v in blobs.items()}


def save(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))
    return path


def test_every_tensor_finds_its_place(tmp_path):
    network = ChannelSeparatedResNet(BLOCKS, planes=4)
    for value in network.state_dict().values():
        value.uniform_()
    state = read_caffe2_csn(save({"blobs": caffe2_names(network)}, tmp_path / "csn.pkl"), BLOCKS)
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


class Evil:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


def test_nothing_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"evil\.pkl: the file wants to run (posix|nt)\.mkdir"):
        read_caffe2_csn(save({"blobs": Evil()}, tmp_path / "evil.pkl"))
    assert not (tmp_path / "made-by-a-pickle").exists()


def test_what_is_missing_is_named(tmp_path):
    blobs = caffe2_names(ChannelSeparatedResNet(BLOCKS, planes=4))
    del blobs["comp_1_conv_3_w"]
    with pytest.raises(WeightsError, match="no tensor comp_1_conv_3_w; expected an ir-CSN of 5 blocks"):
        read_caffe2_csn(save({"blobs": blobs}, tmp_path / "csn.pkl"), BLOCKS)


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps([1, 2], 2)])
def test_other_files_are_named(tmp_path, content):
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"x\.pkl is no Caffe2 file of weights"):
        read_caffe2_csn(path)
