"""From a run's weights to the file in the package."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pliant.errors import WeightsError
from pliant.weights import embed as module
from pliant.weights import read_state
from pliant.weights.embed import embed


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    state = {"a.weight": torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), "b.weight": torch.ones(3)}
    save_file(state, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def test_half_precision_and_what_made_it(weights: Path, tmp_path: Path):
    assert embed(weights, tmp_path / "out.safetensors", {"model": "tiny"}) == 2 * 35
    state = read_state(tmp_path / "out.safetensors")
    assert all(torch.equal(value, read_state(weights)[key].half()) for key, value in state.items())
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert file.metadata() == {"model": "tiny"}


def test_named_tensors_take_one_byte_a_value(weights: Path, tmp_path: Path):
    assert embed(weights, tmp_path / "out.safetensors", eight_bit=["a.weight"]) == 32 + 2 * 3
    exact, kept = read_state(weights)["a.weight"], read_state(tmp_path / "out.safetensors")["a.weight"].float()
    large = exact.abs() > 1 / 64
    assert (kept - exact)[large].abs().max() > 0
    assert ((kept - exact) / exact)[large].abs().max() < 0.07


def test_what_does_not_fit_is_refused(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LIMIT_BYTES", 69)
    with pytest.raises(WeightsError, match="70 bytes, more than the 69"):
        embed(weights, tmp_path / "out.safetensors")
    save_file({"a": torch.tensor([1e6])}, tmp_path / "large.safetensors")
    with pytest.raises(WeightsError, match="a does not fit half precision"):
        embed(tmp_path / "large.safetensors", tmp_path / "out.safetensors")
