"""RPM-Net against the tables of its supplement, and the identities that hold for any weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pliant import ops
from pliant.errors import UnknownNameError
from pliant.models import rpmnet
from pliant.models.rpmnet.network import Embedding, Matching, reduce
from pliant.models.rpmnet.presets import PAPER, PRESETS


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def printed_lines(embedding: Embedding) -> list[torch.nn.Module]:
    """The modules behind lines 1 to 105 of Table 1, in its order (a line of a block is one convolution)."""
    stages = (embedding.layer1, embedding.layer2, embedding.layer3, embedding.layer4)
    blocks = [conv for stage in stages for block in stage for conv in (block.conv1, block.conv2, block.conv3)]
    ups = [embedding.up4, embedding.up3, embedding.up2, embedding.up1]
    return [embedding.conv1, embedding.maxpool, *blocks, *ups]


def table_1() -> list[tuple[int, int]]:
    """(channels, denominator of H and W) of lines 1 to 105 as printed."""
    lines = [(32, 2), (32, 4)]
    for width, count, denominator in ((64, 3, 8), (128, 4, 16), (256, 23, 32), (512, 3, 64)):
        lines += [(width, denominator), (width, denominator), (4 * width, denominator)] * count
    return [*lines, (1024, 32), (512, 16), (256, 8), (32, 4)]


def test_table_1_line_by_line():
    embedding = Embedding(101).eval()
    lines = printed_lines(embedding)
    shapes: dict[int, tuple[int, ...]] = {}
    for number, module in enumerate(lines, 1):
        module.register_forward_hook(lambda m, i, output, n=number: shapes.update({n: tuple(output.shape[1:])}))
    with torch.no_grad():
        embedding(torch.randn(1, 3, 128, 192))
    assert len(lines) == 105
    # The first 1x1 of a stage still sees the size before it: the stride sits in its 3x3.
    before_stride = {3: 4, 12: 8, 24: 16, 93: 32}
    for number, (channels, denominator) in enumerate(table_1(), 1):
        denominator = before_stride.get(number, denominator)
        assert shapes[number] == (channels, 128 // denominator, 192 // denominator), f"line {number}"


def test_lines_106_to_109():
    matching = Matching()
    outputs = []
    for layer in matching.layers:
        layer.register_forward_hook(lambda m, i, output: outputs.append(tuple(output.shape[1:])))
        layer.deform_params.register_forward_hook(lambda m, i, output: outputs.append(tuple(output.shape[1:])))
    offset = matching(torch.randn(1, 32, 6, 7), torch.randn(1, 32, 6, 7))
    assert outputs == [(18, 6, 7), (32, 6, 7), (18, 6, 7), (16, 6, 7), (18, 6, 7), (2, 6, 7)]
    assert ops.warp(torch.rand(1, 3, 6, 7), offset).shape == (1, 3, 6, 7)  # a reference image
    assert ops.warp(torch.rand(1, 1, 6, 7), offset).shape == (1, 1, 6, 7)  # a mask


EMBEDDING = {18: 12_722_688, 34: 22_830_848, 50: 48_341_184, 101: 67_333_312}
MATCHING = {"deformable": 41_576, "standard1": 1_154, "standard3": 23_378, "standard5": 34_946} | {
    f"dilated{rate}": 23_378 for rate in (3, 6, 9)
}


@pytest.mark.parametrize("backbone", EMBEDDING)
def test_parameters_of_the_embedding(backbone: int):
    with torch.device("meta"):
        assert parameters(Embedding(backbone)) == EMBEDDING[backbone]


def test_parameters_of_the_parts_of_resnet_18():
    e = Embedding(18)
    parts = (e.conv1, e.bn1, e.layer1, e.layer2, e.layer3, e.layer4, e.up4, e.up3, e.up2, e.up1)
    assert [parameters(part) for part in parts] == [
        4_704, 64, 131_712, 525_568, 2_099_712, 8_393_728, 1_179_904, 295_040, 73_792, 18_464,
    ]  # fmt: skip


def test_table_2_has_28_presets_and_each_its_parameters():
    cells = [name for name in PRESETS if name != "rpmnet"]
    assert len(cells) == 28 and {name.split("_", 2)[2] for name in cells} == set(PAPER) == set(MATCHING)
    for name in cells:
        backbone, row = int(name.split("_")[1][1:]), name.split("_", 2)[2]
        with torch.device("meta"):
            assert parameters(rpmnet.build(name)) == EMBEDDING[backbone] + MATCHING[row], name


@pytest.mark.parametrize(
    "row, reach", [("standard1", 1), ("standard3", 3), ("standard5", 5), ("dilated3", 9), ("dilated9", 27)]
)
def test_reach_of_matching(row: str, reach: int):
    matching = rpmnet.build(f"rpmnet_r18_{row}").matching
    for layer in matching.layers:
        torch.nn.init.ones_(layer.weight)
    impulse = torch.zeros(1, 32, 61, 61)
    impulse[..., 30, 30] = 1
    columns = matching(impulse, impulse)[0, 0].any(0).nonzero()
    assert (columns.min(), columns.max()) == (30 - reach, 30 + reach)


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (120, 214), (90, 66), (1, 1), (33, 70)])
@pytest.mark.parametrize("stem", ["table", "standard"])
def test_every_size_fits(size: tuple[int, int], stem: str):
    with torch.no_grad():
        e = Embedding(18, stem).eval()(torch.randn(1, 3, *size))
    assert e.shape == (1, 32, -(-size[0] // 4), -(-size[1] // 4))


def test_standard_stem_has_the_keys_and_shapes_of_an_ordinary_resnet():
    state = Embedding(50, "standard").state_dict()
    assert state["conv1.weight"].shape == (64, 3, 7, 7)
    assert state["layer1.0.conv1.weight"].shape == (64, 64, 1, 1)
    assert state["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    backbone = [p.numel() for name, p in Embedding(50, "standard").named_parameters() if not name.startswith("up")]
    assert sum(backbone) == 23_508_032  # ResNet-50 without its classifier


def test_zero_offsets_give_the_downsampled_reference():
    network = rpmnet.build().eval()
    torch.nn.init.zeros_(network.matching.layers[-1].deform_conv.weight)
    reference = torch.rand(1, 3, 64, 72)
    with torch.no_grad():
        offset, back = network(torch.rand(1, 3, 64, 72), reference)
    assert not offset.any() and not back.any()
    expected = reference.unfold(2, 4, 4).unfold(3, 4, 4).mean((-1, -2))
    assert torch.equal(ops.warp(reduce(reference), offset), reduce(reference))
    torch.testing.assert_close(reduce(reference), expected)


def test_a_new_network_starts_near_the_identity():
    torch.manual_seed(0)
    with torch.no_grad():
        offset, _ = rpmnet.build().eval()(torch.randn(1, 3, 128, 128), torch.randn(1, 3, 128, 128))
    assert 0 < offset.abs().mean() < 0.3


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, -2), (-3, 2)])
def test_integer_offsets_give_exact_shifts(shift: tuple[int, int]):
    dy, dx = shift
    image = torch.rand(1, 2, 9, 11)
    offset = torch.tensor([dy, dx], dtype=torch.float32).reshape(1, 2, 1, 1).expand(1, 2, 9, 11)
    padded = F.pad(image, (4, 4, 4, 4))
    assert torch.equal(ops.warp(image, offset), padded[..., 4 + dy : 13 + dy, 4 + dx : 15 + dx])


def test_deformable_matching_starts_as_standard_matching_with_the_same_weights():
    deformable, standard = Matching("deformable"), Matching("standard")
    for layer, plain in zip(deformable.layers, standard.layers):
        plain.load_state_dict(layer.deform_conv.state_dict())
    a, b = torch.randn(2, 1, 32, 10, 12)
    torch.testing.assert_close(deformable(a, b), standard(a, b))


@pytest.mark.parametrize("rate", [3, 6, 9])
def test_a_deformable_layer_contains_the_dilated_one(rate: int):
    layer = Matching().layers[0]
    taps = [((i - 1) * (rate - 1), (j - 1) * (rate - 1)) for i in range(3) for j in range(3)]
    layer.deform_params.bias.data = torch.tensor(taps, dtype=torch.float32).flatten()
    x = torch.randn(1, 64, 20, 21)
    dilated = F.conv2d(x, layer.deform_conv.weight, padding=rate, dilation=rate)
    torch.testing.assert_close(layer(x), dilated, atol=1e-4, rtol=1e-4)


def test_swapping_the_frames_swaps_the_answers():
    network = rpmnet.build().eval()
    a, b = torch.randn(2, 1, 3, 64, 64)
    with torch.no_grad():
        there, back = network(a, b)
        torch.testing.assert_close(network(b, a), (back, there))


def test_a_batch_equals_its_samples():
    network = rpmnet.build().eval()
    a, b = torch.randn(2, 2, 3, 64, 64)
    with torch.no_grad():
        whole = network(a, b)[0]
        torch.testing.assert_close(whole[1:], network(a[1:], b[1:])[0], atol=1e-5, rtol=1e-4)


def test_iterations_add_up():
    network = rpmnet.build(iterations=2).eval()
    a, b = torch.randn(2, 1, 32, 8, 8)
    with torch.no_grad():
        first = network.matching(a, b)
        torch.testing.assert_close(network.match(a, b), first + network.matching(a, ops.warp(b, first)))


def test_what_cannot_be_built_says_so():
    with pytest.raises(UnknownNameError, match="did you mean backbone"):
        rpmnet.build(backbon=50)
    with pytest.raises(UnknownNameError, match="no preset of rpmnet named 'rpmnet_r20_deformable'"):
        rpmnet.build("rpmnet_r20_deformable")
    with pytest.raises(ValueError, match="backbone 20: expected one of 18, 34, 50, 101"):
        rpmnet.build(backbone=20)
    with pytest.raises(ValueError, match="dilation 3 with deformable matching"):
        rpmnet.build(dilation=3)
    with pytest.raises(ValueError, match="expected one shape"):
        rpmnet.build()(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 60))
