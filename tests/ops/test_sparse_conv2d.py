"""The sparse convolution: what it must equal, its in-place form, packed weights, errors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pliant import ops
from pliant.ops import native
from pliant.ops.native import use_instruction_set
from pliant.ops.packing import packed_forms

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


def layer(dtype=torch.float32, channels=24, outputs=40, height=13, width=17):
    torch.manual_seed(0)
    x = torch.randn(1, channels, height, width, dtype=dtype).to(memory_format=torch.channels_last)
    weight = (torch.randn(outputs, channels, 3, 3) * (9 * channels) ** -0.5).to(dtype)
    previous = torch.randn(1, outputs, height, width, dtype=dtype).to(memory_format=torch.channels_last)
    return x, weight, torch.randn(outputs, dtype=dtype), previous


def policy(value, height=13, width=17):
    return torch.full((1, 1, height, width), value, dtype=torch.uint8)


@DTYPES
def test_compute_everywhere_is_the_dense_convolution(dtype):
    x, weight, bias, previous = layer(dtype)
    dense = F.relu(F.conv2d(x.double(), weight.double(), bias.double(), padding=1) + previous.double())
    found = ops.sparse_conv2d(x, weight, bias, policy(2), padding=1, residual=previous, activation="relu")
    torch.testing.assert_close(found.double(), dense, rtol=0, atol=1e-5 if dtype == torch.float32 else 0.02)


@DTYPES
def test_nearly_all_computed_takes_the_dense_path_to_the_same_numbers(dtype):
    x, weight, bias, previous = layer(dtype)
    choice = policy(2)
    choice[..., 3, 4:6] = torch.tensor([0, 1], dtype=torch.uint8)
    found = ops.sparse_conv2d(x, weight, bias, choice, previous, padding=1)
    with ops.use_backend("reference"):
        expected = ops.sparse_conv2d(x, weight, bias, choice, previous, padding=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 if dtype == torch.float32 else 0.02)


@DTYPES
def test_reuse_copies_and_skip_clears_to_the_bit(dtype):
    x, weight, bias, previous = layer(dtype)
    choice = torch.randint(3, (1, 1, 13, 17), dtype=torch.uint8)
    found = ops.sparse_conv2d(x, weight, bias, choice, previous, padding=1, activation="relu")
    assert torch.equal(found.where(choice == 1, 0), previous.where(choice == 1, 0))
    assert not found.where(choice == 0, 0).any()


@DTYPES
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
def test_in_place_equals_out_of_place(dtype, share):
    x, weight, bias, previous = layer(dtype)
    choice = torch.where(torch.rand(1, 1, 13, 17) < share, 2, torch.randint(2, (1, 1, 13, 17))).to(
        torch.uint8
    )
    options = {"padding": 1, "activation": "relu"}
    expected = ops.sparse_conv2d(x, weight, bias, choice, previous, **options)
    for place in (previous.clone(), previous.contiguous()):
        assert ops.sparse_conv2d_(x, weight, bias, choice, place, **options) is place
        torch.testing.assert_close(place, expected, rtol=0, atol=0)


@DTYPES
@pytest.mark.parametrize("instructions", ["plain", "avx2", "avx512", "amx"])
@pytest.mark.parametrize("channels, outputs", [(5, 3), (33, 70), (130, 64), (257, 17)])
def test_any_number_of_channels_on_every_instruction_set(dtype, instructions, channels, outputs):
    """Odd ones too; the first pixel after the last one read is no number, and must not be looked at."""
    x, weight, bias, previous = layer(dtype, channels, outputs)
    room = torch.full((x.numel() + 64,), float("nan"), dtype=dtype)
    inside = room[: x.numel()].view(1, 13, 17, channels).permute(0, 3, 1, 2).copy_(x)
    choice = torch.randint(3, (1, 1, 13, 17), dtype=torch.uint8)
    options = {"padding": 1, "residual": previous, "activation": "relu"}
    with use_instruction_set(instructions):
        found = ops.sparse_conv2d(inside, weight, bias, choice, previous, **options)
    exact = F.relu(F.conv2d(x.double(), weight.double(), bias.double(), padding=1) + previous.double())
    exact = torch.where(choice == 2, exact, torch.where(choice == 1, previous.double(), 0))
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-5 if dtype == torch.float32 else 0.03)


@pytest.fixture
def tiled(monkeypatch):
    """Which of the native calls went by tiles."""
    if native.why_missing() is not None:
        pytest.skip(native.why_missing())
    calls = []
    native_call = torch.ops.pliant_native.sparse_conv2d

    def watch(input, packed, by_tiles, *others):
        calls.append(by_tiles)
        return native_call(input, packed, by_tiles, *others)

    monkeypatch.setattr(torch.ops.pliant_native, "sparse_conv2d", watch)
    return calls


@pytest.mark.parametrize("instructions", ["plain", "avx2", "avx512"])
@pytest.mark.parametrize("channels, outputs, padding", [(16, 3, 1), (48, 70, 0), (144, 64, 2), (256, 17, 1)])
def test_tiles_on_every_instruction_set(tiled, instructions, channels, outputs, padding):
    """Odd extents, so that the last tiles are halves and a quarter; parts of tiles are computed, kept and cleared."""
    x, weight, bias, _ = layer(channels=channels, outputs=outputs)
    choice = policy(2, 11 + 2 * padding, 15 + 2 * padding)
    choice[..., 3:8, 2:7], choice[..., -1, 4] = 1, 0
    previous = torch.randn(1, outputs, *choice.shape[2:])
    options = {"padding": padding, "residual": previous.flip(2), "activation": "relu"}
    with use_instruction_set(instructions):
        found = ops.sparse_conv2d(x, weight, bias, choice, previous, **options)
    with ops.use_backend("reference"):
        exact = ops.sparse_conv2d(x.double(), weight.double(), bias.double(), choice, previous.double(),
                                  padding=padding, residual=previous.flip(2).double(), activation="relu")  # fmt: skip
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-5)
    assert tiled == [True]


def test_lone_positions_are_not_computed_by_tiles(tiled):
    x, weight, bias, previous = layer(channels=32)
    choice = policy(1)
    choice[..., ::2, ::2] = 2
    ops.sparse_conv2d(x, weight, bias, choice, previous, padding=1)
    assert tiled == [False]


def test_both_ways_keep_their_weights_beside_each_other(tiled):
    x, weight, bias, previous = layer(channels=32)
    alone = policy(1)
    alone[..., ::2, ::2] = 2
    addresses = []
    for choice in (policy(2), alone) * 2:
        ops.sparse_conv2d(x, weight, bias, choice, previous, padding=1)
        addresses.append([form.data_ptr() for form in packed_forms(weight)])
    assert len(addresses[0]) == 1 and len(addresses[1]) == 2
    assert addresses[1] == addresses[2] == addresses[3]
    assert tiled == [True, False] * 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_where_it_is_read(tiled, value):
    """A tile mixes pixels that the kernel around one of its positions does not read."""
    x, weight, bias, previous = layer(channels=32)
    x[0, :2, 6, 8] = value
    found = ops.sparse_conv2d(x, weight, bias, policy(2), previous, padding=1)
    expected = F.conv2d(x, weight, bias, padding=1)
    assert tiled == [True, False]
    in_place = ops.sparse_conv2d_(x, weight, bias, policy(2), previous, padding=1)
    torch.testing.assert_close(in_place, found, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(found.isnan(), expected.isnan())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_in_place_refuses_shared_memory():
    x, weight, bias, previous = layer(channels=40)
    with pytest.raises(ValueError, match="previous shares its memory with input"):
        ops.sparse_conv2d_(x, weight, bias, policy(2), x, padding=1)
    with pytest.raises(ValueError, match="previous shares its memory with residual"):
        ops.sparse_conv2d_(x, weight, bias, policy(2), previous, padding=1, residual=previous)


def test_a_changed_weight_is_seen():
    x, weight, bias, _ = layer()
    for change in (lambda: weight.mul_(2), lambda: weight.data.add_(1), lambda: weight.zero_()):
        ops.sparse_conv2d(x, weight, bias, policy(2), padding=1, activation="relu")
        change()
        found = ops.sparse_conv2d(x, weight, bias, policy(2), padding=1, activation="relu")
        expected = F.relu(F.conv2d(x, weight, bias, padding=1))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_gradients_come_from_computed_positions_alone():
    x, weight, bias, previous = (t.requires_grad_(True) for t in layer())
    choice = torch.randint(3, (1, 1, 13, 17), dtype=torch.uint8)
    gradient = torch.randn(1, 40, 13, 17)
    found = torch.autograd.grad(
        ops.sparse_conv2d(x, weight, bias, choice, previous, padding=1), [x, weight, bias, previous], gradient
    )
    kept = gradient.where(choice == 2, 0)
    expected = torch.autograd.grad(F.conv2d(x, weight, bias, padding=1), [x, weight, bias], kept)
    for one, other in zip(found, [*expected, gradient.where(choice == 1, 0)]):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_wrong_arguments_are_named():
    x, weight, bias, previous = layer()
    with pytest.raises(
        ValueError, match=r"policy must be \[1, 1, 13, 17\] for input .* not \[1, 1, 13, 16\]"
    ):
        ops.sparse_conv2d(x, weight, bias, policy(2, width=16), padding=1)
    with pytest.raises(ValueError, match=r"previous must be \[1, 40, 13, 17\]"):
        ops.sparse_conv2d(x, weight, bias, policy(2), previous[:, 1:], padding=1)
    with pytest.raises(
        TypeError, match=r"policy must be uint8 \(0 skip, 1 reuse, 2 compute\), not torch.float32"
    ):
        ops.sparse_conv2d(x, weight, bias, policy(2).float(), padding=1)
    with pytest.raises(ValueError, match="activation must be None or 'relu', not 'gelu'"):
        ops.sparse_conv2d(x, weight, bias, policy(2), padding=1, activation="gelu")
    with pytest.raises(ValueError, match="input has 24 channels, weight reads 5 a group"):
        ops.sparse_conv2d(x, weight[:, :5], bias, policy(2), padding=1)


@pytest.mark.parametrize("instructions", ["plain", "avx2", "avx512"])
@pytest.mark.parametrize("channels", [70, 96])
@pytest.mark.parametrize(
    "share, stride, kernel, padding",
    [(0.1, 1, 3, 1), (0.2, 2, 3, 1), (0.25, 1, 1, 0), (0.8, 1, 3, 1), (0.9, 1, 3, 3), (1.0, 1, 3, 0), (0.5, 1, 5, 2)],
)
def test_native_gradients_of_any_share(instructions, channels, share, stride, kernel, padding):
    """Against autograd of the dense convolution in float64; whole vectors of channels, and a rest."""
    generator = torch.Generator().manual_seed(0)
    sizes = (2, channels, 11, 13), (9, channels, kernel, kernel), (9,)
    leaves = [torch.randn(*size, generator=generator).requires_grad_() for size in sizes]
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    dense = F.conv2d(*exact, stride, padding)
    policy = 2 * (torch.rand(2, 1, *dense.shape[2:], generator=generator) < share).to(torch.uint8)
    slope = torch.randn(dense.shape, generator=generator)
    wanted = torch.autograd.grad(torch.where(policy == 2, dense, 0), exact, slope.double())
    with use_instruction_set(instructions):
        out = ops.sparse_conv2d(*leaves, policy, stride=stride, padding=padding)
        found = torch.autograd.grad(out, leaves, slope)
    for one, other in zip(found, wanted):
        torch.testing.assert_close(one.double(), other, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("share", [0.2, 0.9])
@pytest.mark.parametrize("deterministic", [False, True])
def test_gradients_in_bfloat16(share, deterministic):
    """Within its rounding of those of the same numbers in float64, by our kernels and by the dense convolution's."""
    torch.manual_seed(0)
    leaves = [torch.randn(*size).bfloat16().requires_grad_() for size in ((2, 32, 11, 13), (24, 32, 3, 3), (24,))]
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    policy = 2 * (torch.rand(2, 1, 11, 13) < share).to(torch.uint8)
    slope = torch.randn(2, 24, 11, 13).bfloat16()
    dense = F.conv2d(*exact, padding=1)
    wanted = torch.autograd.grad(torch.where(policy == 2, dense, 0), exact, slope.double())
    torch.use_deterministic_algorithms(deterministic)
    try:
        found = torch.autograd.grad(ops.sparse_conv2d(*leaves, policy, padding=1), leaves, slope)
    finally:
        torch.use_deterministic_algorithms(False)
    for one, other in zip(found, wanted):
        assert one.dtype == torch.bfloat16
        torch.testing.assert_close(one.double(), other, atol=0.01 * float(other.abs().max()), rtol=0.01)
