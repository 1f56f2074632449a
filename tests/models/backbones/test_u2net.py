"""U2-NetP: the paper's blocks written out, its decoder cut short, weights out of an ONNX file."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pliant.errors import WeightsError
from pliant.models.backbones.u2net import ResidualU, U2NetP, read_u2net


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return U2NetP().eval()


def relu_conv(layer, *maps):
    x = torch.cat(maps, 1)
    return F.relu(F.conv2d(x, layer.weight, layer.bias, padding=layer.dilation, dilation=layer.dilation))


def pool(x):
    return F.max_pool2d(x, 2, 2, ceil_mode=True)


def like(x, other):
    return F.interpolate(x, other.shape[2:], mode="bilinear", align_corners=False)


@torch.no_grad()
def test_rsu4_as_the_paper_draws_it():
    """Figure 2 of the paper for L = 4: two poolings, one dilated convolution at the bottom."""
    block = ResidualU(3, 4, 5, 4)
    x = torch.randn(1, 3, 13, 18)
    x0 = relu_conv(block.first, x)
    x1 = relu_conv(block.down[0], x0)
    x2 = relu_conv(block.down[1], pool(x1))
    x3 = relu_conv(block.down[2], pool(x2))
    x4 = relu_conv(block.down[3], x3)
    assert block.down[3].dilation == (2, 2)
    y3 = relu_conv(block.up[0], x4, x3)
    y2 = relu_conv(block.up[1], like(y3, x2), x2)
    y1 = relu_conv(block.up[2], like(y2, x1), x1)
    torch.testing.assert_close(block(x), y1 + x0)


@torch.no_grad()
def test_rsu4f_keeps_the_size():
    block = ResidualU(3, 4, 5, 4, dilated=True)
    assert [layer.dilation[0] for layer in (*block.down, *block.up)] == [1, 2, 4, 8, 4, 2, 1]
    x = torch.randn(1, 3, 11, 12)
    x0 = relu_conv(block.first, x)
    x1 = relu_conv(block.down[0], x0)
    x2 = relu_conv(block.down[1], x1)
    x3 = relu_conv(block.down[2], x2)
    x4 = relu_conv(block.down[3], x3)
    y = relu_conv(block.up[2], relu_conv(block.up[1], relu_conv(block.up[0], x4, x3), x2), x1)
    torch.testing.assert_close(block(x), y + x0)


@torch.no_grad()
def test_the_whole_network(network):
    """1,125,485 is the sum of the tensors of the published file, batch norms folded in."""
    assert sum(p.numel() for p in network.parameters()) == 1_125_485
    logits, features = network(torch.randn(1, 3, 50, 71))
    assert logits.shape == (1, 1, 50, 71)
    assert [tuple(f.shape[2:]) for f in features] == [(50, 71), (25, 36), (13, 18), (7, 9), (4, 5), (2, 3)]


@torch.no_grad()
def test_without_the_finest_stages_the_rest_is_the_same(network):
    short = U2NetP(finest=2).eval()
    short.load_state_dict({key: network.state_dict()[key] for key in short.state_dict()})
    image = torch.randn(1, 3, 64, 96)
    logits, features = short(image)
    for found, expected in zip(features, network(image)[1][2:], strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(logits, network.side["2"](features[0]))


def write_onnx(network, file, change=lambda nodes: nodes):
    """The convolutions of ``network`` in the order in which they run."""
    onnx = pytest.importorskip("onnx")
    nodes, values, order = [], [], []
    hooks = [
        layer.register_forward_hook(lambda layer, *_: order.append(layer))
        for layer in network.modules()
        if isinstance(layer, torch.nn.Conv2d)
    ]
    with torch.enable_grad():  # without gradients the fused form runs, past the hooks
        network(torch.randn(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    for i, layer in enumerate(order):
        for name in ("weight", "bias"):
            values.append(onnx.numpy_helper.from_array(getattr(layer, name).detach().numpy(), f"{i}.{name}"))
        nodes.append(onnx.helper.make_node("Conv", [f"x{i}", f"{i}.weight", f"{i}.bias"], [f"x{i + 1}"]))
    graph = onnx.helper.make_graph(change(nodes), "graph", [], [], values)
    onnx.save(onnx.helper.make_model(graph), str(file))


def test_weights_come_in_the_order_in_which_they_run(network, tmp_path):
    write_onnx(network, tmp_path / "u2netp.onnx")
    state = read_u2net(tmp_path / "u2netp.onnx")
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


def test_another_file_is_named_for_what_it_is(network, tmp_path):
    write_onnx(network, tmp_path / "less.onnx", lambda nodes: nodes[:-3])
    with pytest.raises(WeightsError, match="less.onnx is not U2-NetP: 116 convolutions"):
        read_u2net(tmp_path / "less.onnx")
    (tmp_path / "text.onnx").write_text("no weights at all")
    with pytest.raises(WeightsError, match="text.onnx is not an ONNX file"):
        read_u2net(tmp_path / "text.onnx")
