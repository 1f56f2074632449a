"""What every operator refuses, and what runs where the kernels are not there."""

from __future__ import annotations

import pytest
import torch

from pliant.errors import MissingDependencyError
from pliant.ops import OPERATORS, registration, use_backend
from pliant.testing.operators import assert_near, exact, run

FIRST = [pytest.param(operator.function, operator.cases[0], id=name) for name, operator in OPERATORS.items()]


@pytest.mark.parametrize("function, case", FIRST)
def test_tensors_on_two_devices_are_refused_by_name(function, case):
    arguments = case.make(torch.float32)
    for name in case.differentiable()[1:]:
        elsewhere = {**arguments, name: arguments[name].to("meta")}
        with pytest.raises(ValueError, match=f"{name} is on meta, .* on cpu; move one of them"):
            function(**elsewhere)


@pytest.mark.parametrize("function, case", FIRST)
def test_whole_numbers_are_refused_by_name(function, case):
    arguments = case.make(torch.float32)
    for name in case.differentiable():
        with pytest.raises(TypeError, match=f"{name} must be one of float32, .* not int64"):
            function(**{**arguments, name: arguments[name].long()})


@pytest.mark.parametrize("function, case", FIRST)
def test_gradients_have_the_strides_that_a_compiler_was_told(function, case):
    arguments, wanted = case.make(torch.float32), case.differentiable()
    for name in wanted:
        arguments[name] = arguments[name].movedim(0, -1).contiguous().movedim(-1, 0)
    found = run(function, arguments, wanted)
    for name in wanted:
        assert found[f"gradient of {name}"].stride() == torch.empty_like(arguments[name]).stride(), name


@pytest.mark.parametrize("function, case", FIRST)
def test_without_kernels_the_results_are_the_same(function, case, monkeypatch):
    """As on a machine without a compiler: everything runs on the reference, gradients too."""
    monkeypatch.setattr(registration, "why_no_module", lambda module, backend: "the native kernels were not built")
    arguments, wanted = case.make(torch.float32), case.differentiable()
    assert_near(run(function, arguments, wanted), exact(function, arguments, wanted), 3e-5)
    with use_backend("cpu"), pytest.raises(MissingDependencyError, match="'cpu': the native kernels were not built"):
        function(**arguments)
