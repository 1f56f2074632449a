"""Every operator of the table, every case, every backend: results and gradients against the reference in
float64.
"""

from __future__ import annotations

import pytest
import torch

from pliant.ops import OPERATORS, native, use_backend
from pliant.testing.operators import allowed_in_half_precision, assert_near, exact, run

CASES = [
    pytest.param(name, case, id=f"{name}-{case.name}")
    for name, operator in OPERATORS.items()
    for case in operator.cases
    if not case.benchmark
]
# One small case an operator for the checks that are about registration, not about numbers.
FIRST = [pytest.param(name, operator.cases[0], id=name) for name, operator in OPERATORS.items()]
SMOOTH = [
    pytest.param(name, case, id=f"{name}-{case.name}")
    for name, operator in OPERATORS.items()
    for case in operator.cases
    if case.gradcheck
]


def sets_to_test():
    """Instruction sets of this machine, weakest first; none where the kernels were not built."""
    if native.why_missing() is not None:
        return ()
    sets = native.INSTRUCTION_SETS
    return sets[: sets.index(native.instruction_set()) + 1]


@pytest.mark.parametrize("name, case", CASES)
def test_float64_matches_the_reference(name, case):
    function = OPERATORS[name].function
    arguments, wanted = case.make(torch.float64), case.differentiable()
    assert_near(run(function, arguments, wanted), exact(function, arguments, wanted), 1e-12)


@pytest.mark.parametrize("name, case", CASES)
def test_float32_matches_the_reference(name, case):
    function = OPERATORS[name].function
    arguments, wanted = case.make(torch.float32), case.differentiable()
    expected = exact(function, arguments, wanted)
    assert_near(run(function, arguments, wanted), expected, 3e-5)
    for instruction_set in sets_to_test():
        with native.use_instruction_set(instruction_set):
            assert_near(run(function, arguments, wanted), expected, 3e-5)


@pytest.mark.parametrize("name, case", CASES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_half_precision_is_as_good_as_plain_half_precision(name, case, dtype):
    function = OPERATORS[name].function
    arguments, wanted = case.make(dtype), case.differentiable()
    expected = exact(function, arguments, wanted)
    with use_backend("reference"):
        plain = run(function, arguments, wanted)
    results = [run(function, arguments, wanted)]
    for instruction_set in sets_to_test():
        with native.use_instruction_set(instruction_set):
            results.append(run(function, arguments, wanted))
    for key, (places, allowed) in allowed_in_half_precision(expected, plain, dtype).items():
        for found in results:
            assert (found[key].double() - expected[key])[places].abs().max() <= allowed, key


@pytest.mark.parametrize("name, case", SMOOTH)
def test_gradcheck(name, case):
    arguments, wanted = case.make(torch.float64), case.differentiable()
    leaves = [arguments[k].requires_grad_(True) for k in wanted]

    def call(*values):
        return OPERATORS[name].function(**{**arguments, **dict(zip(wanted, values))})

    assert torch.autograd.gradcheck(call, leaves)


@pytest.mark.parametrize("name, case", FIRST)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_opcheck(name, case, dtype):
    arguments = case.make(dtype)
    for key in case.differentiable():
        arguments[key].requires_grad_(True)
    seen = []
    registered = getattr(torch.ops.pliant, name)

    def record(*values):
        seen.append(values)
        return registered(*values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.ops.pliant, name, record)
        OPERATORS[name].function(**arguments)
    torch.library.opcheck(registered.default, seen[0])


@pytest.mark.parametrize("name, case", FIRST)
def test_compiles_into_one_graph(name, case):
    function, wanted = OPERATORS[name].function, case.differentiable()
    arguments = case.make(torch.float32)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    assert_near(
        run(compiled, arguments, wanted),
        {k: v.double() for k, v in run(function, arguments, wanted).items()},
        1e-6,
    )


@pytest.mark.parametrize("name, case", FIRST)
def test_exports(name, case):
    arguments = case.make(torch.float32)
    tensors = {k: v for k, v in arguments.items() if torch.is_tensor(v)}
    options = {k: v for k, v in arguments.items() if k not in tensors}

    class Call(torch.nn.Module):
        def forward(self, tensors):
            return OPERATORS[name].function(**tensors, **options)

    exported = torch.export.export(Call(), (tensors,))
    assert torch.equal(exported.module()(tensors), Call()(tensors))


@pytest.mark.parametrize("name, case", CASES)
def test_layout_of_the_arguments_does_not_matter(name, case):
    function = OPERATORS[name].function
    arguments, wanted = case.make(torch.float32), case.differentiable()
    expected = {k: v.double() for k, v in run(function, arguments, wanted).items()}
    for spread in (_with_gaps, _channels_last):
        strided = {k: spread(v) if torch.is_tensor(v) and v.dim() > 1 else v for k, v in arguments.items()}
        assert_near(run(function, strided, wanted), expected, 1e-6)
    # A sum delivers its gradient with stride 0.
    expanded = torch.ones(()).expand(expected["output"].shape)
    contiguous = {k: v.double() for k, v in run(function, arguments, wanted, expanded.contiguous()).items()}
    assert_near(run(function, arguments, wanted, expanded), contiguous, 1e-6)


def _with_gaps(tensor):
    wide = torch.full((*tensor.shape, 2), float("nan") if tensor.is_floating_point() else 0).to(tensor.dtype)
    wide[..., 0] = tensor
    return wide[..., 0]


def _channels_last(tensor):
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1)


@pytest.mark.parametrize("name, case", FIRST)
def test_the_same_bits_for_any_number_of_threads(name, case):
    function = OPERATORS[name].function
    arguments, wanted = case.make(torch.float32), case.differentiable()
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(run(function, arguments, wanted))
    finally:
        torch.set_num_threads(before)
    for key, value in results[0].items():
        assert torch.equal(value, results[1][key]), key


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_is_where_its_name_says(name):
    row = OPERATORS[name]
    assert row.function.__name__ == name
    assert row.function.__module__ == f"pliant.ops.{name}.op"
    assert len({case.name for case in row.cases}) == len(row.cases)
    assert hasattr(torch.ops.pliant, name)
