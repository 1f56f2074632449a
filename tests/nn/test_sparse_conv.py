"""Sparse layers: dense where they must be, exact identities on repeated frames, streams, training to a target."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pliant.nn import ResidualSparseConv2d, SparseStream, StaticSparseConv2d, TripleSparseConv2d, convert
from pliant.nn.sparse_gates import TripleGate

SKIP, REUSE, COMPUTE = range(3)
EVERY = pytest.mark.parametrize("layer_type", [TripleSparseConv2d, StaticSparseConv2d, ResidualSparseConv2d])


def made(layer_type=TripleSparseConv2d, **options):
    torch.manual_seed(0)
    options = {"stride": 2, "padding": 1} | options
    return layer_type(6, 8, 3, **options).eval()


def frames(count, batch=2):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, 6, 11, 9, generator=generator) for _ in range(count)]


def always(layer, choice):
    """The layer with a gate that decides the same everywhere."""
    with torch.no_grad():
        layer.gate.weight.zero_()
        bias = torch.full_like(layer.gate.bias, -50.0)
        if isinstance(layer.gate, TripleGate):
            bias[choice] = 50.0
        elif choice == COMPUTE:
            bias[:] = 50.0
        layer.gate.bias.copy_(bias)
    return layer


def play(layer, images, stream=None, dense=()):
    stream = stream or SparseStream()
    outputs = []
    with torch.no_grad():
        for i, image in enumerate(images):
            with stream.frame(dense=i in dense):
                outputs.append(layer(image))
    return outputs


@EVERY
def test_without_a_stream_it_is_the_convolution(layer_type):
    layer, (image,) = made(layer_type), frames(1)
    assert torch.equal(layer(image), F.conv2d(image, layer.weight, layer.bias, 2, 1))


@EVERY
def test_from_conv_shares_the_parameters_and_their_names(layer_type):
    conv = nn.Conv2d(6, 8, 3, padding=1, bias=False)
    layer = layer_type.from_conv(conv)
    assert layer.weight is conv.weight and layer.bias is None
    assert set(layer.state_dict()) == {"weight", "gate.weight", "gate.bias"}
    with pytest.raises(ValueError, match="dilation 1 and zeros as padding, not of Conv2d"):
        layer_type.from_conv(nn.Conv2d(6, 8, 3, dilation=2))


@EVERY
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_computing_everywhere_is_dense_on_every_frame(layer_type, training):
    layer, images = always(made(layer_type), COMPUTE).train(training), frames(3)
    for image, output in zip(images, play(layer, images)):
        torch.testing.assert_close(output, layer.dense(image), rtol=0, atol=2e-6)


@EVERY
def test_dense_frames_ask_no_gate(layer_type):
    layer, images, stream = always(made(layer_type), SKIP), frames(3), SparseStream()
    for image, output in zip(images, play(layer, images, stream, dense={0, 1, 2})):
        assert torch.equal(output, layer.dense(image))
    assert stream.decisions == []


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_skipping_gives_zeros_and_reusing_the_last_output(training):
    images = frames(3)
    layer = always(made(), SKIP).train(training)
    assert not play(layer, images)[1].any()
    layer = always(made(), REUSE).train(training)
    first, second, third = play(layer, images)
    assert torch.equal(second, first) and torch.equal(third, first)


@pytest.mark.parametrize("layer_type", [TripleSparseConv2d, ResidualSparseConv2d])
def test_a_repeated_frame_without_skips_stays_dense(layer_type):
    layer, (image,) = made(layer_type), frames(1)
    with torch.no_grad():
        layer.gate.weight.normal_()
        layer.gate.bias[:1] = -50.0 if layer_type is TripleSparseConv2d else 0.0
    for output in play(layer, [image] * 3):
        torch.testing.assert_close(output, layer.dense(image), rtol=0, atol=2e-6)


def mixed_gate(layer):
    with torch.no_grad():
        layer.gate.weight.normal_()
        layer.gate.bias.zero_()
    return layer


def test_the_three_cases_of_equation_8():
    layer, images, stream = mixed_gate(made()), frames(2), SparseStream()
    before, after = play(layer, images, stream)
    policy = stream.decisions[0].policy
    pair = torch.cat(images, 1)  # the previous frame first
    scores = F.conv2d(pair, layer.gate.weight, layer.gate.bias, 2, 1)
    assert torch.equal(policy, scores.argmax(1, keepdim=True).to(torch.uint8))
    assert policy.unique().tolist() == [0, 1, 2]
    dense = layer.dense(images[1])
    expected = torch.where(policy == COMPUTE, dense, torch.where(policy == REUSE, before, 0))
    torch.testing.assert_close(after, expected, rtol=0, atol=2e-6)


def test_training_and_evaluation_agree_for_the_same_decisions():
    layer, images = mixed_gate(made()), frames(3)
    expected = play(layer, images)
    layer.train().gate.noise = False
    for one, other in zip(play(layer, images), expected):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-6)


def test_residual_adds_the_change_without_the_bias():
    layer, images = mixed_gate(made(ResidualSparseConv2d)), frames(2)
    stream = SparseStream()
    before, after = play(layer, images, stream)
    chosen = stream.decisions[0].policy == COMPUTE
    change = F.conv2d(images[1] - images[0], layer.weight, None, 2, 1)
    torch.testing.assert_close(after, before + torch.where(chosen, change, 0), rtol=0, atol=2e-6)


@EVERY
def test_two_streams_through_one_layer_do_not_meet(layer_type):
    layer, images, others = mixed_gate(made(layer_type)), frames(3), frames(3)[::-1]
    alone = play(layer, images), play(layer, others)
    one, two = SparseStream(), SparseStream()
    for i in range(3):
        assert torch.equal(play(layer, [images[i]], one)[0], alone[0][i])
        assert torch.equal(play(layer, [others[i]], two)[0], alone[1][i])


@pytest.mark.parametrize("in_place", [False, True])
def test_a_copied_stream_goes_on_alone(in_place):
    layer, images = mixed_gate(made()), frames(4)
    whole = [o.clone() for o in play(layer, images)]
    stream = SparseStream(in_place)
    play(layer, images[:2], stream)
    saved = copy.deepcopy(stream)
    assert saved.nbytes() == stream.nbytes() > 0
    for _ in range(2):
        resumed = play(layer, images[2:], copy.deepcopy(saved))
        torch.testing.assert_close(resumed[1], whole[3], rtol=0, atol=2e-6)
    stream.reset()
    assert stream.nbytes() == 0
    assert torch.equal(play(layer, images[:1], stream)[0], layer.dense(images[0]))


def test_in_place_writes_into_the_last_output():
    layer, images, stream = mixed_gate(made()), frames(3), SparseStream(in_place=True)
    expected = play(layer, images)[2]
    channels_last = [image.contiguous(memory_format=torch.channels_last) for image in images]
    first, _, third = play(layer, channels_last, stream)
    assert third.data_ptr() == first.data_ptr()
    torch.testing.assert_close(third, expected, rtol=0, atol=2e-6)


def test_rows_that_join_are_dense_and_the_others_go_on():
    layer, images = mixed_gate(made()), frames(3, batch=3)
    stream = SparseStream()
    alone = play(layer, [i[:2] for i in images])
    found = play(layer, [images[0][:2], images[1]], stream)
    torch.testing.assert_close(found[1][:2], alone[1], rtol=0, atol=2e-6)
    torch.testing.assert_close(found[1][2:], layer.dense(images[1][2:]), rtol=0, atol=2e-6)
    stream.keep(torch.tensor([1]))
    (last,) = play(layer, [images[2][1:2]], stream)
    torch.testing.assert_close(last, alone[2][1:], rtol=0, atol=2e-6)


def test_a_new_size_starts_dense():
    layer, (image, _), stream = always(made(), SKIP), frames(2), SparseStream()
    play(layer, [image], stream)
    wide = torch.randn(2, 6, 13, 15)
    assert torch.equal(play(layer, [wide], stream)[0], layer.dense(wide))


def test_a_layer_called_twice_a_frame_remembers_both_calls():
    layer = always(made(stride=1), REUSE)
    first, second = torch.randn(1, 6, 5, 5), torch.randn(1, 6, 5, 5)
    stream = SparseStream()
    for _ in range(2):
        with torch.no_grad(), stream.frame():
            outputs = layer(first), layer(second)
    assert torch.equal(outputs[0], layer.dense(first)) and torch.equal(outputs[1], layer.dense(second))


def test_a_changed_output_is_noticed():
    layer, images, stream = made(), frames(2), SparseStream()
    play(layer, images[:1], stream)[0].relu_()
    with pytest.raises(RuntimeError, match="was changed in place, so it cannot be reused"):
        play(layer, images[1:], stream)


def test_decisions_count_the_computed_positions():
    layer, images, stream = mixed_gate(made()), frames(2), SparseStream()
    play(layer, images, stream)
    (decision,) = stream.decisions
    assert decision.layer is layer and decision.cost == 6 * 8 * 9
    assert decision.computed == (decision.policy == COMPUTE).sum()
    assert decision.share == (decision.policy == COMPUTE).float().mean()


def test_straight_through_gradients():
    """dm2 = sum over c of g F', dm1 = sum over c of g F(t-1), dm0 = 0, then through the softmax (spelled out)."""
    layer, images, stream = mixed_gate(made()).train(), frames(2), SparseStream()
    layer.gate.noise, layer.gate.temperature = False, 0.7
    gradient = torch.randn(2, 8, 6, 5)
    with stream.frame():
        before = layer(images[0]).detach()
    stream.detach()
    with stream.frame():
        layer(images[1]).backward(gradient)
    scores = (
        F.conv2d(torch.cat(images, 1), layer.gate.weight, layer.gate.bias, 2, 1).detach().requires_grad_(True)
    )
    soft = (scores / 0.7).softmax(1)
    weight = torch.stack(
        [torch.zeros(2, 6, 5), (gradient * before).sum(1), (gradient * layer.dense(images[1])).sum(1)], 1
    )
    (soft * weight.detach()).sum().backward()
    torch.testing.assert_close(layer.gate.bias.grad, scores.grad.sum((0, 2, 3)))


def test_frequencies_of_the_noisy_choice_are_the_softmax():
    torch.manual_seed(0)
    gate = made().gate.train()
    scores = torch.tensor([0.3, -1.0, 0.9]).view(1, 3, 1, 1).expand(1, 3, 200, 200)
    for temperature in (0.1, 1.0, 10.0):
        gate.temperature = temperature
        policy, masks = gate.decide(scores)
        assert torch.equal(masks.unique(), torch.tensor([0.0, 1.0])) and torch.equal(
            masks.sum(1), torch.ones(1, 200, 200)
        )
        found = masks.mean((0, 2, 3))
        torch.testing.assert_close(found, scores[0, :, 0, 0].softmax(0), rtol=0, atol=0.01)
        assert torch.equal(policy[:, 0], masks.argmax(1))


@pytest.mark.parametrize(
    "layer_type, size", [(TripleSparseConv2d, 6), (StaticSparseConv2d, 1), (ResidualSparseConv2d, 1)]
)
def test_gate_parameters_of_the_query_encoder(layer_type, size):
    """39 convolutions of a ResNet-50 to stage 3: 182,517 floats triple, 30,439 static and residual (SpVOS, Table I)."""
    blocks = [(64, 256, 3), (128, 512, 4), (256, 1024, 6)]
    inputs, total = 64, 0
    for width, outputs, count in blocks:
        for _ in range(count):
            for channels, kernel in ((inputs, 1), (width, 3), (width, 1)):
                layer = layer_type(channels, 1, kernel)
                total += sum(p.numel() for p in layer.gate.parameters())
            inputs = outputs
    assert total == {6: 182_517, 1: 30_439}[size]


def test_convert_replaces_and_keeps_the_function():
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Sequential(nn.Conv2d(6, 4, 1), nn.Conv2d(4, 4, 3))
    )
    image = torch.randn(1, 3, 8, 8)
    expected = network(image)

    def rule(name, layer):
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
            return TripleSparseConv2d.from_conv(layer)
        return None

    assert convert(network, rule) is network
    assert [type(m).__name__ for m in (network[0], network[2][0], network[2][1])] == [
        "TripleSparseConv2d", "Conv2d", "TripleSparseConv2d",
    ]  # fmt: skip
    assert torch.equal(network(image), expected)
    with pytest.raises(ValueError, match="the rule replaces none of the 8 layers of Sequential"):
        convert(network, lambda name, layer: None)


def test_training_reaches_the_target_and_keeps_what_matters():
    """A square moves over noise: the layer learns to compute a tenth of the positions, those near the square.

    With four times the weight on the share it would rather reuse everywhere: noise alone computes a tenth.
    """
    torch.manual_seed(0)
    layer = TripleSparseConv2d(1, 4, 3, padding=1).train()
    target = nn.Conv2d(1, 4, 3, padding=1).requires_grad_(False)
    layer.weight.data.copy_(target.weight)
    layer.bias.data.copy_(target.bias)
    optimizer = torch.optim.Adam(layer.gate.parameters(), lr=0.1)

    def clip(batch):
        image = torch.zeros(batch, 1, 16, 16)
        for n, (y, x) in enumerate(torch.randint(0, 12, (batch, 2)).tolist()):
            image[n, :, y : y + 4, x : x + 4] = 4 + torch.randn(4, 4)
        return 0.02 * torch.randn(batch, 1, 16, 16), image

    for _ in range(100):
        stream = SparseStream()
        for image in clip(16):
            with stream.frame():
                output = layer(image)
        share = stream.decisions[0].share
        loss = 10 * (output - target(image)).square().mean() + 5 * (share - 0.1).square()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    layer.eval()
    stream = SparseStream()
    before, image = clip(64)
    error = (play(layer, [before, image], stream)[1] - target(image)).square().mean()
    wrong = (target(before) - target(image)).square().mean()
    assert 0.08 < stream.decisions[0].share < 0.16
    assert error < 0.05 * wrong
