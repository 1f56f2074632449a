"""The parity runner: its lines, its exit code, and the official networks it holds ours against."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from conftest import shared
from pliant.testing import parity
from pliant.testing.fill import fill, load_filled, made_input


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("fixture", sorted(parity.FIXTURES))
def test_official_network(fixture, dtype):
    results = list(parity.compare(shared("parity", fixture), dtype))
    assert results
    assert [r for r in results if not r.ok] == []


@pytest.fixture
def small_fixture(tmp_path, monkeypatch):
    """A folder with one fixture whose network doubles its input, and a runner that knows it."""
    import types

    (tmp_path / "doubling").mkdir()
    manifest = {
        "fixture": "doubling",
        "tolerance": {"float64": 1e-6, "float32": 1e-5},
        "outputs": {"y": {"shape": [3], "what": "all"}, "kink": {"shape": [1], "what": "all"}},
        "cases": [{"name": "c", "not_in_float32": ["kink"]}],
    }
    (tmp_path / "doubling" / "manifest.json").write_text(json.dumps(manifest))
    np.savez(tmp_path / "doubling" / "arrays.npz", y=np.float32([2, 4, 6]), kink=np.float32([1]))
    outputs = {"y": torch.tensor([2.0, 4.0, 6.0]), "kink": torch.ones(1)}
    module = types.SimpleNamespace(run=lambda folder, dtype: {k: v.to(dtype) for k, v in outputs.items()})
    monkeypatch.setitem(parity.FIXTURES, "doubling", "doubling")
    monkeypatch.setattr(parity.importlib, "import_module", lambda name: module)
    return tmp_path, outputs


def test_prints_a_line_an_array_and_exits_0(small_fixture, capsys):
    folder, _ = small_fixture
    assert parity.main([str(folder), "--dtype", "float64"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "doubling/y float64 0 6 ok"
    assert lines[-1] == "all ok"


def test_a_difference_is_bad_and_exits_1(small_fixture, capsys):
    folder, outputs = small_fixture
    outputs["y"][1] += 0.5
    assert parity.main([str(folder)]) == 1
    assert "doubling/y float32 0.5 6 BAD" in capsys.readouterr().out


def test_nan_is_bad(small_fixture):
    folder, outputs = small_fixture
    outputs["y"][0] = float("nan")
    assert parity.main([str(folder)]) == 1


def test_a_missing_output_is_bad_unless_it_is_left_out_in_float32(small_fixture, capsys):
    folder, outputs = small_fixture
    del outputs["kink"]
    assert parity.main([str(folder), "--dtype", "float32"]) == 0
    assert parity.main([str(folder), "--dtype", "float64"]) == 1
    assert "BAD not computed" in capsys.readouterr().out


def test_a_wrong_shape_is_bad_and_named(small_fixture, capsys):
    folder, outputs = small_fixture
    outputs["y"] = torch.ones(4)
    assert parity.main([str(folder)]) == 1
    assert "BAD shape [4] for [3]" in capsys.readouterr().out


def test_an_unknown_fixture_is_named_and_does_not_fail(tmp_path, capsys):
    (tmp_path / "manifest.json").write_text(json.dumps({"fixture": "somebody_else"}))
    assert parity.main([str(tmp_path)]) == 0
    assert "not implemented here" in capsys.readouterr().out


def test_a_folder_without_fixtures_exits_2(tmp_path):
    assert parity.main([str(tmp_path)]) == 2


@pytest.mark.parametrize(
    ("shape", "what", "expected"),
    [
        ((1, 8, 4), "[:,0::4,0::2]", (1, 2, 2)),
        ((2, 16, 1, 4), "channels 0::4, [K,C,1,h]", (2, 4, 1, 4)),
        ((1, 24, 6), "memory tokens 0::3", (1, 8, 6)),
        ((3, 5), "all", (3, 5)),
    ],
)
def test_cut_takes_what_the_manifest_says(shape, what, expected):
    assert parity.cut(torch.zeros(shape), {"what": what, "shape": expected}).shape == expected


def test_fill_depends_on_name_and_salt_alone():
    assert np.array_equal(fill("a.weight", (4, 3)), fill("a.weight", (4, 3)))
    assert not np.array_equal(fill("a.weight", (4, 3)), fill("a.weight", (4, 3), salt="x"))


def test_fill_follows_the_public_rule():
    """The script beside the fixtures is the rule; ours must give the same numbers."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("public_fill", shared("parity", "fill.py"))
    public = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(public)
    for key, shape in {"c.weight": (4, 3, 3, 3), "n.weight": (5,), "n.bias": (5,), "b.running_mean": (5,),
                       "b.running_var": (5,), "b.num_batches_tracked": ()}.items():  # fmt: skip
        assert np.array_equal(fill(key, shape, "s", 1.5), public.fill(key, shape, "s", 1.5))
    for kind in ("normal", "uniform", "mask"):
        ours = made_input("image", (2, 3, 19, 26), kind, "s", torch.float64)
        assert np.array_equal(ours.numpy(), public.make_input("image", (2, 3, 19, 26), kind, "s"))


def test_a_network_with_other_keys_is_refused_by_name():
    network = torch.nn.Linear(2, 3)
    with pytest.raises(ValueError, match=r"weight \[3, 2\] for \[3, 4\]"):
        load_filled(network, {"weight": [3, 4], "bias": [3]}, {"salt": ""}, torch.float64)
