"""Choosing the implementation of an operator."""

from __future__ import annotations

import importlib
import importlib.util
import re

import pytest
import torch

from pliant.errors import MissingDependencyError
from pliant.ops import OPERATORS, deform_conv3d, use_backend, warp
from pliant.ops.backend import requested_backend


def test_the_choice_ends_with_the_block():
    with use_backend("reference"):
        assert requested_backend() == "reference"
        with use_backend("cpu"):
            assert requested_backend() == "cpu"
        assert requested_backend() == "reference"
    assert requested_backend() == "auto"


def test_an_unknown_backend_is_refused():
    with (
        pytest.raises(ValueError, match="must be one of reference, cpu, gpu, not 'cuda'"),
        use_backend("cuda"),
    ):
        pass


def test_kernels_that_an_operator_does_not_have_are_an_error():
    with use_backend("gpu"), pytest.raises(MissingDependencyError, match="warp cannot run .* no kernels for the gpu"):
        warp(torch.zeros(1, 1, 3, 3), torch.zeros(1, 2, 3, 3))


def test_triton_asked_for_and_not_installed_is_an_error_that_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    x, w = torch.randn(1, 2, 1, 3, 3), torch.randn(2, 2, 1, 1, 1)
    hint = re.escape("Triton is not installed; pip install 'pliant[gpu]'")
    with use_backend("gpu"), pytest.raises(MissingDependencyError, match=hint):
        deform_conv3d(x, torch.zeros(1, 3, 1, 3, 3), w)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_the_kernels_asked_for_without_a_gpu_are_an_error(monkeypatch):
    pytest.importorskip("triton")
    for operator in OPERATORS.values():  # whoever imports them now decides for all that comes: interpreted
        if operator.gpu is not None:
            importlib.import_module(operator.gpu)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    x, w = torch.randn(1, 2, 1, 3, 3), torch.randn(2, 2, 1, 1, 1)
    with use_backend("gpu"), pytest.raises(MissingDependencyError, match="PyTorch sees no GPU"):
        deform_conv3d(x, torch.zeros(1, 3, 1, 3, 3), w)
