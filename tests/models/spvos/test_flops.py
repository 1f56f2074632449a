"""FLOPs and parameters by the paper's conventions, to its digits."""

from __future__ import annotations

import pytest
import torch

from pliant.models import spvos, xmem
from pliant.models.spvos.flops import DAVIS_2017_VAL, average, layer_costs, parameter_mib


@pytest.fixture(scope="module")
def stcn():
    return spvos.build("stcn")


@pytest.fixture(scope="module")
def costs(stcn):
    return layer_costs(stcn)


@pytest.mark.parametrize(
    ("begin", "macs", "bias"),
    [
        ("key_encoder", 27_092_828_160, 0),
        ("key_encoder.conv1", 975_421_440, 0),
        ("key_proj", 955_514_880, 103_680),
        ("key_comp", 7_644_119_040, 829_440),
        ("value_encoder", 42_819_234_856, 23_641_748),
        ("decoder.compress.conv1", 7_644_119_040, 829_440),
        ("decoder.compress.conv2", 3_822_059_520, 829_440),
        ("decoder.up_16_8.out_conv.downsample", 7_644_119_040, 1_658_880),
        ("decoder.up_16_8.skip_conv", 15_288_238_080, 3_317_760),
        ("decoder.up_8_4.skip_conv", 15_288_238_080, 6_635_520),
        ("decoder.pred", 59_719_680, 25_920),
    ],
)
def test_reference_points_of_the_dense_network(costs, begin, macs, bias):
    chosen = [cost for cost in costs if cost.name.startswith(begin)]
    assert sum(cost.macs for cost in chosen) == macs
    assert sum(cost.bias for cost in chosen) == bias


def test_the_decoder_per_object(costs):
    per_object = [cost for cost in costs if cost.module == "D" and cost.per_object]
    assert sum(cost.macs for cost in per_object) == 68_856_791_040
    assert sum(cost.bias for cost in per_object) == 20_761_920


def test_the_dense_row_of_table_4(stcn):
    result = {name: round(value / 1e9, 2) for name, value in average(stcn).items()}
    assert result == {"Q": 36.00, "M": 17.46, "D": 167.16, "total": 220.62}


def test_the_dense_parameters(stcn):
    assert round(parameter_mib(stcn), 2) == 207.78


def test_the_benchmark_has_1999_frames_and_61_objects():
    assert sum(v.frames for v in DAVIS_2017_VAL.values()) == 1999
    assert sum(v.objects for v in DAVIS_2017_VAL.values()) == 61


def test_xmem_by_the_same_rule():
    """Parameters are the paper's; its 311.95 G are not reproduced by its own convention, which gives 249.42."""
    network = xmem.build("xmem")
    costs = layer_costs(network)
    macs = {
        "key_encoder": 27_092_828_160,
        "key_proj.key_proj": 955_514_880,
        "key_proj.e_proj": 955_514_880,
        "key_proj.d_proj": 14_929_920,
        "value_encoder": 44_431_666_216,
        "value_encoder.hidden_reinforce": 1_612_431_360,
        "decoder.hidden_update": 1_320_883_200,
    }
    for begin, expected in macs.items():
        assert sum(cost.macs for cost in costs if cost.name.startswith(begin)) == expected, begin
    assert sum(cost.macs for cost in costs if cost.module == "D" and cost.per_object) == 86_421_651_496
    assert sum(cost.macs for cost in costs if cost.name.endswith("skip_conv")) == 30_576_476_160
    assert round(average(network)["total"] / 1e9, 2) == 249.42
    assert round(parameter_mib(network, statistics=False), 2) == 237.22


# name -> parameters and float statistics, the paper's MiB, G at a share of 0.10 as its convention predicts
ROWS = {
    "stcn": (54_469_252, 207.78, 220.62),
    "spvos_static_q": (54_499_691, 207.90, 203.35),
    "spvos_residual_q": (54_499_691, 207.90, 203.35),
    "spvos_static_d": (54_494_602, 207.88, 143.41),
    "spvos_static": (54_525_041, 208.00, 126.15),
    "spvos_residual": (54_525_041, 208.00, 126.15),
    "spvos_static_fully": (54_525_041, 208.00, 103.73),
    "spvos_static_fully_m": (54_564_801, 208.15, 92.22),
    "spvos_static_semi_m": (54_564_801, 208.15, 93.43),
    "spvos_triple_q": (54_651_769, 208.48, 203.96),
    "spvos_triple_d": (54_621_334, 208.36, 144.92),
    "spvos_triple": (54_803_851, 209.06, 128.26),
    "spvos_triple_fully": (54_803_851, 209.06, 106.34),
    "spvos_triple_semi": (54_803_851, 209.06, 106.66),
    "spvos_triple_fully_m": (55_042_363, 209.97, 95.12),
    "spvos_triple_semi_m": (55_042_363, 209.97, 96.29),
    "spvos_triple_every_q": (54_767_368, 208.92, 196.35),
    "spvos_triple_every_d": (54_759_589, 208.89, 101.97),
    "spvos_triple_every": (55_057_705, 210.03, 77.70),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_tables_1_to_3(name):
    with torch.device("meta"):
        network = spvos.build(name)
    floats, mib, flops = ROWS[name]
    strategy = spvos.PRESETS[name].options.get("strategy", "mixed")
    assert sum(p.numel() for p in network.parameters()) + 35_072 == floats
    assert round(parameter_mib(network), 2) == mib
    assert round(average(network, share=0.1, strategy=strategy)["total"] / 1e9, 2) == flops


@pytest.mark.parametrize(("share", "expected"), [(1.0, "dense + gates"), (0.0, "rest + gates")])
def test_a_sparse_frame_costs_what_it_computes_and_its_gates(share, expected):
    with torch.device("meta"):
        costs = layer_costs(spvos.build("spvos_triple"))
    gated = [cost for cost in costs if cost.gate]
    gates = {m: sum(cost.gate for cost in gated if cost.module == m) for m in "QD"}
    assert {m: round(g / 1e9, 4) for m, g in gates.items()} == {"Q": 0.9057, "D": 1.1197}
    total = sum(cost.sparse(share) for cost in costs)
    dense = sum(cost.dense for cost in costs)
    saved = {"dense + gates": 0, "rest + gates": sum(cost.macs for cost in gated)}[expected]
    assert total == dense - saved + sum(gates.values())
