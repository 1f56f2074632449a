"""A gated layer: what skip, reuse and compute mean, in inference and in training."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pliant.models.spvos.gated_conv import GatedConv2d, Pass, running

SHAPES = pytest.mark.parametrize(
    ("kernel", "stride", "bias"), [(1, 1, False), (3, 1, True), (3, 2, False), (7, 2, True)]
)


def layer(method="triple", kernel=3, stride=1, bias=True, dtype=torch.float32) -> GatedConv2d:
    torch.manual_seed(0)
    gated = GatedConv2d(nn.Conv2d(5, 6, kernel, stride, kernel // 2, bias=bias), "layer", method)
    nn.init.normal_(gated.gate.weight, std=0.3)
    nn.init.zeros_(gated.gate.bias)
    return gated.to(dtype).eval()


def decide(gated: GatedConv2d, *biases: float) -> None:
    nn.init.zeros_(gated.gate.weight)
    gated.gate.bias.data.copy_(torch.tensor(biases))


def frames(count: int, dtype=torch.float32, rows: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(count, rows, 5, 9, 11, generator=generator, dtype=torch.float64).to(dtype)
    return [frame.to(memory_format=torch.channels_last) for frame in x]


def run(gated, clip, sparse=(False, True, True), **options):
    """Outputs (copied: a cache is written over) and passes of the frames of a clip."""
    caches, outputs, passes = {}, [], []
    for x, is_sparse in zip(clip, sparse):
        with running(Pass(caches, is_sparse, keep_policies=True, **options)) as current:
            outputs.append(gated(x).clone())
        passes.append(current)
    return outputs, passes


def dense(gated, x):
    return F.conv2d(x, gated.weight, gated.bias, gated.stride, gated.padding)


@torch.no_grad()
@SHAPES
def test_triple_follows_equations_7_and_8(kernel, stride, bias):
    gated, clip = layer("triple", kernel, stride, bias), frames(3)
    outputs, passes = run(gated, clip)
    expected = dense(gated, clip[0])
    assert torch.allclose(outputs[0], expected, atol=1e-6)
    for t in (1, 2):
        logits = gated.gate(torch.cat([clip[t - 1], clip[t]], dim=1))
        policy = logits.argmax(dim=1, keepdim=True)
        expected = torch.where(policy == 2, dense(gated, clip[t]), torch.where(policy == 1, expected, 0))
        assert torch.equal(passes[t].records[0].policy, policy.to(torch.uint8))
        assert set(policy.unique().tolist()) == {0, 1, 2}
        assert torch.allclose(outputs[t], expected, atol=1e-5)


@torch.no_grad()
@SHAPES
def test_static_computes_or_gives_zero(kernel, stride, bias):
    gated, clip = layer("static", kernel, stride, bias), frames(3)
    outputs, _ = run(gated, clip)
    for t in (1, 2):
        expected = torch.where(gated.gate(clip[t]) >= 0, dense(gated, clip[t]), 0)
        assert torch.allclose(outputs[t], expected, atol=1e-5)


@torch.no_grad()
@SHAPES
def test_residual_adds_the_convolved_difference(kernel, stride, bias):
    gated, clip = layer("residual", kernel, stride, bias), frames(3)
    outputs, _ = run(gated, clip)
    expected = dense(gated, clip[0])
    for t in (1, 2):
        difference = clip[t] - clip[t - 1]
        change = F.conv2d(difference, gated.weight, None, gated.stride, gated.padding)
        expected = expected + torch.where(gated.gate(difference.abs()) >= 0, change, 0)
        assert torch.allclose(outputs[t], expected, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("method", "biases"), [("triple", (0, 0, 9)), ("static", (9,)), ("residual", (9,))])
def test_all_compute_is_the_dense_convolution(method, biases):
    gated, clip = layer(method), frames(3)
    decide(gated, *biases)
    outputs, _ = run(gated, clip)
    for output, x in zip(outputs, clip):
        assert torch.allclose(output, dense(gated, x), atol=1e-5)


@torch.no_grad()
def test_reuse_and_compute_on_a_repeated_frame_change_nothing():
    gated, (x, *_) = layer("triple"), frames(1)
    gated.gate.bias[0] = -99  # never skip
    outputs, passes = run(gated, [x, x, x])
    assert passes[1].records[0].policy.unique().tolist() == [1, 2]
    assert torch.allclose(outputs[2], dense(gated, x), atol=1e-5)


@torch.no_grad()
def test_all_skip_gives_zero_not_the_bias():
    gated, clip = layer("triple"), frames(2)
    decide(gated, 9, 0, 0)
    assert not run(gated, clip)[0][1].any()


@torch.no_grad()
def test_a_reused_value_can_be_several_frames_old():
    gated, clip = layer("triple"), frames(3)
    decide(gated, 0, 9, 0)
    outputs, _ = run(gated, clip)
    assert torch.equal(outputs[2], outputs[0])


@torch.no_grad()
def test_without_a_cache_a_layer_runs_dense_or_from_zeros():
    gated, (x, *_) = layer("triple"), frames(1)
    decide(gated, 0, 9, 0)
    assert torch.equal(run(gated, [x], [True])[0][0], dense(gated, x))
    assert not run(gated, [x], [True], cold="zero")[0][0].any()


@torch.no_grad()
def test_another_size_drops_the_cache():
    gated, (x, y) = layer("triple"), frames(2)
    decide(gated, 0, 9, 0)
    assert torch.allclose(run(gated, [x, y[..., :7]])[0][1], dense(gated, y[..., :7]), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("method", ["triple", "static", "residual"])
def test_an_object_that_joins_runs_dense_and_leaves_the_others_alone(method):
    gated, clip = layer(method), frames(3)
    together, _ = run(gated, [clip[0][:1], *clip[1:]])
    first, _ = run(gated, [x[:1] for x in clip])
    assert torch.allclose(together[1][:1], first[1], atol=1e-6)
    assert torch.allclose(together[2][:1], first[2], atol=1e-6)
    assert torch.allclose(together[1][1:], dense(gated, clip[1][1:]), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("method", ["triple", "static", "residual"])
def test_outside_a_pass_it_is_an_ordinary_convolution(method):
    gated, (x, *_) = layer(method), frames(1)
    assert torch.equal(gated(x), dense(gated, x))


@pytest.mark.parametrize("method", ["triple", "static", "residual"])
def test_with_gradients_the_decisions_are_the_same(method):
    gated, clip = layer(method), frames(3)
    with torch.no_grad():
        fast, _ = run(gated, clip)
    slow, _ = run(gated, clip)
    for a, b in zip(fast, slow):
        assert torch.allclose(a, b, atol=1e-5)


def test_gradients_come_from_where_the_values_came_from():
    gated, clip, caches = layer("triple", dtype=torch.float64), frames(2, torch.float64), {}
    gated.gate.requires_grad_(False)  # the soft path reaches filters through the gate's inputs alone
    with running(Pass(caches, False)):
        gated(clip[0])
    past = caches["layer"].output = caches["layer"].output.detach().requires_grad_()
    with running(Pass(caches, True, keep_policies=True)) as current:
        output = gated(clip[1])
    policy = current.records[0].policy
    g = torch.randn_like(output)
    by_past, by_weight, by_bias = torch.autograd.grad(output, [past, gated.weight, gated.bias], g)
    computed = torch.where(policy == 2, g, 0)
    assert torch.allclose(by_past, torch.where(policy == 1, g, 0), atol=1e-12)
    assert torch.allclose(by_bias, computed.sum((0, 2, 3)), atol=1e-10)
    expected = torch.nn.grad.conv2d_weight(clip[1], gated.weight.shape, computed, padding=1)
    assert torch.allclose(by_weight, expected, atol=1e-10)


def test_the_computed_share_has_a_gradient_to_the_gate():
    gated, clip = layer("triple").train(), frames(2)
    torch.manual_seed(1)
    _, passes = run(gated, clip)
    record = passes[1].records[0]
    assert record.computed.item() == (record.policy == 2).sum()
    assert record.positions == 2 * 9 * 11
    assert record.cost == 9 * 5 * 6
    record.computed.backward()
    assert gated.gate.bias.grad[2] > 0 > gated.gate.bias.grad[0]
