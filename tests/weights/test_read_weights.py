"""Reading weights: nothing is executed, a wrong file is named for what it is, keys are listed."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

import pliant
from pliant.errors import WeightsError
from pliant.models import spvos
from pliant.models.spvos.checkpoint import from_torchvision
from pliant.weights import read_state, read_weights
from pliant.weights.known_files import recognise


class Harmful:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


@pytest.fixture(scope="module")
def stcn():
    torch.manual_seed(0)
    return spvos.build("stcn")


@pytest.fixture(scope="module")
def stcn_file(stcn, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "stcn.pth"
    torch.save(stcn.state_dict(), path)
    return path


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "network", "module."])
def test_reads_the_layouts_that_people_save(tmp_path, wrap):
    tensors = {"a.weight": torch.ones(2)}
    if wrap == "module.":
        tensors = {"module.a.weight": torch.ones(2)}
    torch.save(tensors if wrap in ("plain", "module.") else {wrap: tensors, "epoch": 3}, tmp_path / "w.pth")
    assert list(read_state(tmp_path / "w.pth")) == ["a.weight"]


def test_nothing_in_a_file_is_executed(tmp_path):
    torch.save({"a": torch.ones(1), "b": Harmful()}, tmp_path / "harmful.pth")
    with pytest.raises(WeightsError, match="holds pickled Python objects beside its tensors"):
        read_state(tmp_path / "harmful.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n0000000000", "is a PNG image, not a safetensors file"),
        (b"\0\0\0\x20ftypisom00000000", "is a video, not"),
        (b"", "is empty, not"),
        (b"hello, this is text", "a file of unknown kind"),
        (b"PK\x03\x04broken", "cannot be read as weights"),
    ],
)
def test_a_wrong_file_is_named_for_what_it_is(tmp_path, content, message):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_state(tmp_path / "x.pth")


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        read_state(tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="is a folder"):
        read_state(tmp_path)


def test_the_weights_of_another_network_are_named(tmp_path, stcn):
    xmem = {"key_proj.d_proj.weight": torch.ones(1, 1024, 3, 3), "value_encoder.fuser.x": torch.ones(1)}
    save_file(xmem, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=r"is a file of XMem and does not fit 'stcn': \d+ missing .* 2 unknown"):
        read_weights(stcn, tmp_path / "x.safetensors", family="spvos", name="stcn")


def test_missing_unknown_and_wrong_keys_are_listed(tmp_path, stcn):
    state = dict(stcn.state_dict())
    del state["key_comp.bias"]
    state["more"] = torch.ones(1)
    state["decoder.pred.bias"] = torch.ones(2)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(WeightsError) as error:
        read_weights(stcn, tmp_path / "x.pth", family="spvos", name="stcn")
    assert "1 missing (key_comp.bias); 1 unknown (more); " in str(error.value)
    assert "1 of another shape (decoder.pred.bias (2,) for (1,))" in str(error.value)


def test_default_takes_the_network_that_the_weights_belong_to(stcn, stcn_file):
    network = pliant.load(weights=stcn_file)
    assert type(network) is type(stcn)
    assert not network.training
    assert torch.equal(network.key_comp.weight, stcn.key_comp.weight)


def test_single_object_weights_get_a_zero_channel(tmp_path, stcn):
    state = dict(stcn.state_dict())
    state["value_encoder.conv1.weight"] = state["value_encoder.conv1.weight"][:, :4]
    torch.save(state, tmp_path / "single.pth")
    weight = pliant.load("stcn", tmp_path / "single.pth").value_encoder.conv1.weight
    assert torch.equal(weight[:, :4], stcn.value_encoder.conv1.weight[:, :4])
    assert not weight[:, 4].any()


def test_torchvision_weights_start_both_encoders(stcn):
    def torchvision_names(module):
        state = {k.replace("res2.", "layer1."): torch.rand_like(v.float()) for k, v in module.state_dict().items()}
        return {k: v for k, v in state.items() if "fuser" not in k and "num_batches" not in k}

    deep = torchvision_names(stcn.key_encoder) | {"layer4.0.conv1.weight": torch.ones(1), "fc.bias": torch.ones(1)}
    shallow = torchvision_names(stcn.value_encoder)
    shallow = {k: v for k, v in shallow.items() if not (k.endswith("bias") and ("conv" in k or "downsample.0" in k))}
    shallow["conv1.weight"] = shallow["conv1.weight"][:, :3]
    result = from_torchvision(deep, shallow)
    expected = {
        k
        for k in stcn.state_dict()
        if k.startswith(("key_encoder", "value_encoder")) and "fuser" not in k and "num_batches" not in k
    }
    assert set(result) == expected
    first = result["value_encoder.conv1.weight"]
    assert torch.equal(first[:, :3], shallow["conv1.weight"])
    extra = first[:, 3:].flatten(1)
    assert torch.allclose(extra @ extra.T, torch.eye(64), atol=1e-5)  # orthogonal rows
    assert not result["value_encoder.layer2.0.conv1.bias"].any()


def test_recognises_nothing_in_strange_keys():
    assert recognise(["a", "b"]) is None
    keys = ["model.encoder.stem.x", "model.decoder.gc.y", "model.decoder.rf3.convFS1.0.deform_params.weight"]
    assert recognise(keys).what == "d2conv3d"
