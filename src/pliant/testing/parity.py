"""Runs parity fixtures: ``python -m pliant.testing.parity DIR``.

A fixture is a folder with ``manifest.json`` and ``arrays.npz``: what an official network computes under
weights that are made from their names (``pliant.testing.fill``). DIR is such a folder or holds several. For
every array a line is printed: name, largest difference, scale (largest magnitude expected), ok or BAD. Exit 1
on any BAD.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["FIXTURES", "Comparison", "compare", "cut", "main", "read_manifest"]

# fixture -> module below pliant.testing.fixtures
FIXTURES = {
    "d2conv3d_layers": "d2conv3d_layers",
    "3dcseg_csn152": "clip_segmenters",
    "3dcseg_r2plus1d": "clip_segmenters",
    "d2conv3d_aspp": "clip_segmenters",
    "d2conv3d_baseline": "clip_segmenters",
    "d2conv3d_dcn2": "clip_segmenters",
    "d2conv3d_loss": "lovasz",
    "d2conv3d_xyz": "clip_segmenters",
    "st_deform_attn": "st_deform_attn",
    "stcn": "stcn",
    "xmem": "xmem",
}
DTYPES = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True)
class Comparison:
    """One array held against the fixture."""

    name: str
    largest_difference: float
    scale: float
    tolerance: float  # as a fraction of scale
    note: str = ""

    @property
    def ok(self) -> bool:
        return not self.note and self.largest_difference <= self.tolerance * self.scale


def read_manifest(folder: Path) -> dict[str, Any]:
    return json.loads((Path(folder) / "manifest.json").read_text())


def cut(tensor: Tensor, output: dict[str, Any]) -> Tensor:
    """The part of a whole output that a fixture stores, by ``what`` and ``shape`` of its manifest.

    ``[:,0::16,0::2,0::2]`` in ``what`` is applied as it stands; ``channels 0::4`` or ``tokens 0::3`` to the
    first axis on which the tensor differs from ``shape``; anything else cuts nothing.
    """
    index = re.search(r"\[([:,\d]*::[:,\d]*)\]", output["what"])
    if index:
        slices = [slice(*(int(n) if n else None for n in part.split(":"))) for part in index[1].split(",")]
        return tensor[tuple(slices)]
    named = re.search(r"(?:channels|tokens) (\d+)::(\d+)", output["what"])
    differing = [axis for axis, size in enumerate(output["shape"]) if tensor.shape[axis] != size]
    if not named or not differing:
        return tensor
    kept = torch.arange(int(named[1]), tensor.shape[differing[0]], int(named[2]))
    return tensor.index_select(differing[0], kept)


def compare(folder: Path, dtype: torch.dtype) -> Iterator[Comparison]:
    """Run the fixture in ``folder`` in ``dtype`` and hold every array against what is stored."""
    manifest = read_manifest(folder)
    dtype_name = str(dtype).removeprefix("torch.")
    tolerance = manifest["tolerance"][dtype_name]
    name = manifest["fixture"]
    module = importlib.import_module(f"pliant.testing.fixtures.{FIXTURES[name]}")
    with torch.no_grad():
        computed = module.run(Path(folder), dtype)
    left_out = set() if dtype == torch.float64 else _left_out_in_float32(manifest)
    with np.load(Path(folder) / "arrays.npz") as stored:
        for output in manifest["outputs"]:
            if output not in computed and output in left_out:
                continue
            yield _compare_one(output, computed.get(output), stored[output], tolerance)


def _compare_one(name: str, computed: Tensor | None, stored: np.ndarray, tolerance: float) -> Comparison:
    expected = torch.from_numpy(stored).double()
    scale = expected.abs().max().item() if expected.numel() else 0.0
    if computed is None:
        return Comparison(name, float("nan"), scale, tolerance, "not computed")
    if computed.shape != expected.shape:
        note = f"shape {list(computed.shape)} for {list(expected.shape)}"
        return Comparison(name, float("nan"), scale, tolerance, note)
    difference = (computed.detach().cpu().double() - expected).abs()
    return Comparison(name, difference.max().item() if difference.numel() else 0.0, scale, tolerance)


def _left_out_in_float32(manifest: dict[str, Any]) -> set[str]:
    """Outputs that sit on a kink: the manifest, or a case in it, lists them under ``not_in_float32``."""
    names = set(manifest.get("not_in_float32", ()))
    cases = manifest.get("cases", {})
    for case in cases.values() if isinstance(cases, dict) else cases:
        for output in case.get("not_in_float32", ()) if isinstance(case, dict) else ():
            names |= {output, f"{case.get('name')}.{output}"}
    if isinstance(cases, dict):
        names |= {
            f"{key}.{output}"
            for key, case in cases.items()
            if isinstance(case, dict)
            for output in case.get("not_in_float32", ())
        }
    return names


def _folders(root: Path) -> list[Path]:
    if (root / "manifest.json").is_file():
        return [root]
    return sorted(path.parent for path in root.glob("*/manifest.json"))


def main(arguments: list[str] | None = None) -> int:
    """Print a line an array; 0 where all are ok, 1 on any BAD, 2 where DIR holds no fixture."""
    parser = argparse.ArgumentParser(
        prog="python -m pliant.testing.parity", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a fixture, or a folder of fixtures")
    parser.add_argument("--dtype", choices=DTYPES, action="append", help="default: float64 and float32")
    chosen = parser.parse_args(arguments)
    folders = _folders(chosen.folder)
    if not folders:
        print(f"{chosen.folder}: no manifest.json here or one level below", file=sys.stderr)
        return 2
    bad = 0
    for folder in folders:
        fixture = read_manifest(folder).get("fixture", folder.name)
        if fixture not in FIXTURES:
            print(f"{folder.name}: not implemented here")
            continue
        for dtype in chosen.dtype or DTYPES:
            for result in compare(folder, DTYPES[dtype]):
                verdict = "ok" if result.ok else f"BAD {result.note}".rstrip()
                print(
                    f"{folder.name}/{result.name} {dtype} "
                    f"{result.largest_difference:.3g} {result.scale:.3g} {verdict}",
                    flush=True,
                )
                bad += not result.ok
    print(f"{bad} BAD" if bad else "all ok")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
