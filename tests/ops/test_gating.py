"""The gates of sparse convolutions, held to the convolution in float64 and the largest of its three scores."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pliant.ops import native
from pliant.ops.gating import takes_triple_gate, triple_gate, triple_policy

LAYOUT = {"memory_format": torch.channels_last}
# rows, channels, height, width, kernel, stride, padding
CASES = [
    (1, 64, 9, 14, (3, 3), (1, 1), (1, 1)),
    (2, 96, 7, 5, (3, 3), (2, 2), (1, 1)),
    (1, 32, 1, 1, (3, 3), (1, 1), (1, 1)),
    (3, 160, 6, 11, (1, 1), (1, 1), (0, 0)),
    (1, 1056, 3, 9, (3, 3), (1, 1), (1, 1)),
    (1, 32, 8, 13, (5, 2), (1, 3), (3, 0)),
]


@pytest.fixture(params=["plain", "avx2", "avx512", "amx"])
def level(request: pytest.FixtureRequest):
    if native.why_missing() is not None:
        pytest.skip(native.why_missing())
    if native.INSTRUCTION_SETS.index(request.param) > native.INSTRUCTION_SETS.index(native.instruction_set()):
        pytest.skip(f"this machine has no {request.param}")
    with native.use_instruction_set(request.param):
        yield request.param


def _drawn(case: tuple, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    rows, channels, height, width, kernel, stride, padding = case
    torch.manual_seed(sum(case[:4]))
    input = torch.randn(rows, channels, height, width).to(dtype).contiguous(**LAYOUT)
    weight = (torch.randn(6, channels, *kernel) / channels**0.5).to(dtype).contiguous(**LAYOUT)
    scores = F.conv2d(input.double(), weight.double(), None, stride, padding)
    carried = torch.randn(scores[:, :3].shape).contiguous(**LAYOUT)
    return input, weight, torch.randn(3), carried, scores


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_as_the_convolution_in_float64(case: tuple, dtype: torch.dtype, level: str) -> None:
    input, weight, bias, carried, scores = _drawn(case, dtype)
    if dtype == torch.bfloat16 and not native.bfloat16_products():
        pytest.skip(f"no bfloat16 products with {level}")
    policy, following = triple_gate(input, weight, bias, carried, *case[5:])
    torch.testing.assert_close(following.double(), scores[:, 3:], rtol=0, atol=2e-5)
    now = scores[:, :3] + carried + bias[:, None, None]
    best, second = now.topk(2, dim=1).values.unbind(1)
    clear = (best - second > 1e-4)[:, None]
    assert clear.double().mean() > 0.9
    assert torch.equal(policy[clear], now.argmax(1, keepdim=True).to(torch.uint8)[clear])
    nothing, alone = triple_gate(input, weight, bias, None, *case[5:])
    assert nothing is None and torch.equal(alone, following)


def test_equal_scores_go_to_the_first_and_a_nan_is_skipped(level: str) -> None:
    weight = torch.zeros(6, 32, 1, 1).contiguous(**LAYOUT)
    input = torch.zeros(1, 32, 1, 6).contiguous(**LAYOUT)
    carried = torch.tensor(
        [[0.0, 0, 0], [0, 1, 1], [1, 0, 1], [0, 0, 1], [float("nan")] * 3, [0, float("-inf"), float("inf")]]
    )
    carried = carried.T[None, :, None].contiguous(**LAYOUT)
    policy, _ = triple_gate(input, weight, torch.zeros(3), carried, (1, 1), (0, 0))
    assert policy.flatten().tolist() == [0, 1, 0, 2, 0, 2]
    scores = torch.zeros(1, 6, 1, 6).contiguous(**LAYOUT)
    assert torch.equal(triple_policy(scores, carried, torch.zeros(3))[0], policy)


def test_a_nan_stays_in_its_neighbourhood(level: str) -> None:
    input, weight, bias, carried, _ = _drawn(CASES[0], torch.float32)
    input[0, 5, 4, 6] = float("nan")
    following = triple_gate(input, weight, bias, carried, (1, 1), (1, 1))[1]
    expected = torch.zeros(9, 14, dtype=torch.bool)
    expected[3:6, 5:8] = True
    assert torch.equal(following.isnan().any(1)[0], expected)


def test_the_same_with_one_thread_and_several(level: str) -> None:
    input, weight, bias, carried, _ = _drawn(CASES[1], torch.float32)
    threads = torch.get_num_threads()
    found = []
    for count in (1, 3):
        torch.set_num_threads(count)
        found.append(triple_gate(input, weight, bias, carried, (2, 2), (1, 1)))
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*found))


def test_says_what_it_takes() -> None:
    if native.why_missing() is not None:
        pytest.skip(native.why_missing())
    input, weight = torch.zeros(1, 64, 2, 2), torch.zeros(6, 64, 1, 1)
    assert takes_triple_gate(input, weight)
    assert not takes_triple_gate(input[:, :48], weight[:, :48].contiguous())
    assert not takes_triple_gate(input.double(), weight.double())
    assert not takes_triple_gate(input, weight.bfloat16())
