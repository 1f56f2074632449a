"""Choosing the implementation of an operator."""

from __future__ import annotations

import pytest
import torch

from pliant.errors import MissingDependencyError
from pliant.ops import deform_conv3d, use_backend
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


def test_kernels_that_are_asked_for_and_missing_are_an_error():
    x, w = torch.randn(1, 2, 1, 3, 3), torch.randn(2, 2, 1, 1, 1)
    with (
        use_backend("gpu"),
        pytest.raises((MissingDependencyError, ValueError), match="cannot run on"),
    ):
        deform_conv3d(x, torch.zeros(1, 3, 1, 3, 3), w)
