"""``pliant convert-checkpoint`` and ``pliant models`` as their users see them."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

import pliant
from pliant.cli import cli
from pliant.models import MODELS, xmem


@pytest.fixture(scope="module")
def xmem_file(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("official") / "XMem.pth"
    torch.save(xmem.build("xmem", hidden_channels=0).state_dict(), path)
    return path


def run(*arguments):
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def test_a_converted_checkpoint_loads_by_itself(xmem_file, tmp_path):
    out = tmp_path / "xmem.safetensors"
    result = run("convert-checkpoint", xmem_file, out)
    assert result.exit_code == 0, result.output
    assert "XMem: " in result.output
    assert f"--model xmem --weights {out}" in result.output
    state = torch.load(xmem_file, weights_only=True)
    loaded = pliant.load(weights=out).state_dict()
    assert set(loaded) == set(state)
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_an_existing_file_is_not_replaced_unasked(xmem_file, tmp_path):
    out = tmp_path / "x.safetensors"
    out.write_text("mine")
    result = run("convert-checkpoint", xmem_file, out)
    assert "exists; pass overwrite" in str(result.exception)
    assert out.read_text() == "mine"
    assert run("convert-checkpoint", xmem_file, out, "--overwrite").exit_code == 0


def test_a_strange_checkpoint_is_refused_with_what_is_expected(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")
    result = run("convert-checkpoint", tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert "of no layout known here; expected one of: XMem, STCN" in str(result.exception)
    assert not list(tmp_path.glob("*.safetensors"))


def test_one_torchvision_file_is_named(tmp_path):
    torch.save({"layer1.0.conv3.weight": torch.ones(1), "layer4.0.conv1.weight": torch.ones(1)}, tmp_path / "r.pth")
    result = run("convert-checkpoint", tmp_path / "r.pth", tmp_path / "b.safetensors")
    assert "a torchvision ResNet with bottlenecks, which is no whole network here" in str(result.exception)


def test_models_lists_every_network_with_its_size():
    rows = json.loads(run("models", "--json").output)
    assert [row["name"] for row in rows] == list(MODELS)
    by_name = {row["name"]: row for row in rows}
    assert by_name["stcn"]["parameters"] == 54_434_180
    assert by_name["xmem"]["weights"] == "file"
    text = run("models", "--task", "track").output
    assert "54.4 M" in text
    assert all(name in text for name, model in MODELS.items() if model.task == "track")
