"""The example of docs/sparsify-your-network.md at a tiny size, and the page's own three lines."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from pliant.nn import TripleSparseConv2d

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "sparsify-your-network.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("sparsify", ROOT / "examples" / "sparsify.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_learns_gets_gates_and_learns_on(example):
    torch.manual_seed(0)
    net = example.network(channels=8, layers=2)
    example.train(net, 2, sparse=False, side=64)
    before = {name: parameter.clone() for name, parameter in net.named_parameters()}
    example.sparsify(net)
    assert [type(layer) for layer in net if isinstance(layer, TripleSparseConv2d)] == [TripleSparseConv2d]
    assert all(torch.equal(parameter, before[name]) for name, parameter in net.named_parameters() if name in before)
    example.train(net, 2, sparse=True, side=64)
    assert not torch.equal(net[4].gate.weight, example.sparsify(example.network(8, 2))[4].gate.weight)
    found = example.measure({"sparse": net.eval()}, 6, 64, 96)["sparse"]
    assert 0 <= found["overlap"] <= 1
    assert 0 <= found["share"] <= 1


def test_frames_and_masks_agree(example):
    frames, masks = example.video(3, 64, 96, discs=1)
    assert frames.shape == (3, 3, 64, 96)
    assert masks.shape == (3, 1, 16, 24)
    area = 3.14159 * example.RADIUS**2 / 16
    assert masks[0].sum().item() == pytest.approx(area, rel=0.05)
    assert not torch.equal(masks[0], masks[2])


def test_the_lines_of_the_page_run():
    net = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))
    names = {"net": net, "video": torch.randn(4, 1, 3, 32, 32), "torch": torch}
    assert len(SNIPPETS) == 3
    for code in SNIPPETS:
        exec(compile(code, "sparsify-your-network.md", "exec"), names)
    assert isinstance(net[2], TripleSparseConv2d)
    assert names["outputs"][-1].shape == (1, 1, 8, 8)
