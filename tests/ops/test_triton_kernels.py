"""The Triton kernels, interpreted on the CPU: small cases of every operator, results and gradients against the
reference in float64. ``python benchmarks/gpu_check.py`` runs all cases on a GPU.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from conftest import ROOT
from pliant.ops import OPERATORS, sparse_conv2d, sparse_conv2d_, use_backend
from pliant.testing.operators import allowed_in_half_precision, assert_near, exact, run

pytest.importorskip("triton", reason="Triton is not installed; pip install 'pliant[gpu]'")

# The interpreter needs milliseconds for each corner of each tap, so these are the cases with few of them.
SMALL = {
    "deform_conv2d": ("tiny", "far, infinite and not a number", "empty batch"),
    "deform_conv3d": ("tiny", "empty batch"),
    "dynamic_dilated_conv3d": ("tiny", "row kernel", "empty batch"),
    "deform_attention3d": ("tiny", "one cell", "empty batch", "no queries"),
    "sparse_conv2d": ("tiny", "skips and reuses", "pointwise", "empty batch"),
}
HALF = ("dynamic_dilated_conv3d", "deform_attention3d", "sparse_conv2d")
CASES = [
    pytest.param(name, case, id=f"{name}-{case.name}")
    for name, operator in OPERATORS.items()
    if operator.gpu is not None
    for case in operator.cases
    if case.name in SMALL[name]
]


@pytest.mark.parametrize("name, case", CASES)
def test_float32_matches_the_reference(name, case):
    function = OPERATORS[name].function
    arguments, wanted = case.make(torch.float32), case.differentiable()
    with use_backend("gpu"):
        found = run(function, arguments, wanted)
    assert_near(found, exact(function, arguments, wanted), 3e-5)


# One case for each set of kernels. The interpreter cannot multiply matrices of bfloat16, so float16 stands for both.
@pytest.mark.parametrize("name, case", [p for p in CASES if p.values[1].name == "tiny" and p.values[0] in HALF])
def test_half_precision_is_as_good_as_plain_half_precision(name, case):
    function = OPERATORS[name].function
    arguments, wanted = case.make(torch.float16), case.differentiable()
    expected = exact(function, arguments, wanted)
    with use_backend("reference"):
        plain = run(function, arguments, wanted)
    with use_backend("gpu"):
        found = run(function, arguments, wanted)
    for key, (places, allowed) in allowed_in_half_precision(expected, plain, torch.float16).items():
        assert (found[key].double() - expected[key])[places].abs().max() <= allowed, key


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_in_place_the_sparse_convolution_clears_keeps_and_computes(memory_format):
    arguments = next(c for c in OPERATORS["sparse_conv2d"].cases if c.name == "tiny").make(torch.float32)
    expected = sparse_conv2d(**arguments)
    arguments["previous"] = arguments["previous"].clone(memory_format=memory_format)
    with use_backend("gpu"):
        found = sparse_conv2d_(**arguments)
    assert found is arguments["previous"]
    torch.testing.assert_close(found, expected)


def test_what_the_kernels_do_not_cover_is_named():
    deformable, sparse = OPERATORS["deform_conv3d"], OPERATORS["sparse_conv2d"]
    with use_backend("gpu"), pytest.raises(ValueError, match="compute in float32, not in float64"):
        deformable.function(**deformable.cases[0].make(torch.float64))
    groups = next(case for case in sparse.cases if case.name == "groups")
    with use_backend("gpu"), pytest.raises(ValueError, match="take one group, not 4"):
        sparse.function(**groups.make(torch.float32))


def test_the_kernels_compile_for_a_gpu_that_is_not_here():
    """The compiler refuses what the interpreter lets through, for example a name whose shape changes in a loop."""
    command = [sys.executable, "-W", "ignore", ROOT / "benchmarks" / "gpu_compile.py", "--capability", "90", "--case"]
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    run = subprocess.run([*command, "tiny"], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("registers") == 28  # the kernels of five operators, in two dtypes
