"""benchmarks/gpu_check.py: its answer is its exit code."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch

from conftest import ROOT


@pytest.fixture
def gpu_check(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("gpu_check", ROOT / "benchmarks" / "gpu_check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["gpu_check.py", *arguments])
        return module.main()

    module.call = call
    return module


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so_and_exits_2(gpu_check, capsys):
    assert gpu_check.call() == 2
    assert "There is no GPU that PyTorch sees" in capsys.readouterr().err


def test_a_wrong_number_is_named_and_exits_1(gpu_check, capsys, monkeypatch):
    pytest.importorskip("triton", reason="Triton is not installed; pip install 'pliant[gpu]'")
    small = ("--interpret", "--operator", "deform_attention3d", "--case", "no queries")
    assert gpu_check.call(*small) == 0
    right = gpu_check.exact
    twice = lambda *call: {key: 2 * value + 1 for key, value in right(*call).items()}  # noqa: E731
    monkeypatch.setattr(gpu_check, "exact", twice)
    assert gpu_check.call(*small) == 1
    assert "deform_attention3d [no queries] float32, triton: gradient of value off by 1" in capsys.readouterr().out
