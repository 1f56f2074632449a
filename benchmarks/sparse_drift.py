"""How far does a sparse network drift from itself run densely, over hundreds of frames?

A clip is looped forward and backward. Each network follows it three times side by side: every frame dense; as it is
meant to be used (remembered frames dense); and with no dense frame after the first, so that whatever errors reuse and
differences leave can pile up. For every tenth of the run: the relative difference of the probabilities from the dense
run (||p - d|| / ||d||, object alone), the share of multiply-adds computed, and J of all three.

    python benchmarks/sparse_drift.py --davis ROOT --sequence dog --network spvos_small_triple
        --network spvos_small_static=runs/static/weights.safetensors

Results: benchmarks/results/sparse_drift.json, or --out.
"""

from __future__ import annotations

import argparse
import copy
import json
import shlex
import sys
from pathlib import Path

import numpy as np
import torch

import pliant
from long_video import davis
from pliant.inference.frames import prepare
from pliant.metrics import region_similarity

WAYS = ("dense", "mixed", "never dense")


def three_ways(network: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The same weights run in three ways."""
    dense, never = copy.deepcopy(network), copy.deepcopy(network)
    dense.step = lambda state, image, memory_frame=False: type(dense).step(dense, state, image, memory_frame=True)
    never.strategy = "semi-mixed"
    return dict(zip(WAYS, (dense, network, never)))


def computed_share(tracker: pliant.Tracker) -> float:
    """Of the multiply-adds in gated stages on the last frame."""
    records = tracker.state.network.records
    done = sum(float(record.computed) * record.cost for record in records)
    return done / sum(record.positions * record.cost for record in records) if records else 1.0


def follow(network, frames, truth, count: int, size: int, memory_every: int) -> list[dict]:
    """A row for every tenth of the run."""
    order = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
    trackers = {
        way: pliant.Tracker(each, size=size, memory_every=memory_every) for way, each in three_ways(network).items()
    }
    for tracker in trackers.values():
        tracker.add_objects(frames[0], truth[0])
    rows, sums = [], []
    for index in range(1, count + 1):
        place = order[index % len(order)]
        found, row = {}, {}
        for way, tracker in trackers.items():
            labels = tracker.step(frames[place])
            found[way] = tracker.probabilities[1:]
            row[f"J, {way}"] = region_similarity(labels > 0, truth[place] > 0)
            if way != "dense":
                apart = np.linalg.norm(found[way] - found["dense"]) / max(np.linalg.norm(found["dense"]), 1e-9)
                row[f"difference, {way}"] = float(apart)
        if trackers["mixed"].state.since_memory:
            row["share, mixed"] = computed_share(trackers["mixed"])
        row["share, never dense"] = computed_share(trackers["never dense"])
        sums.append(row)
        if index % max(1, count // 10) == 0:
            names = sorted({name for each in sums for name in each})
            means = {name: float(np.mean([each[name] for each in sums if name in each])) for name in names}
            rows.append({"frame": index, **{name: round(value, 4) for name, value in means.items()}})
            print(rows[-1], flush=True)
            sums = []
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--davis", type=Path, required=True, help="a dataset in DAVIS layout")
    parser.add_argument("--sequence", default="dog")
    parser.add_argument("--network", action="append", help="a mixed sparse tracker, NAME or NAME=WEIGHTS; repeatable")
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--size", type=int, default=480, help="short side at which the network looks")
    parser.add_argument("--memory-every", type=int, default=3)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sparse_drift.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    frames, truth, _ = davis(arguments.davis, arguments.sequence)
    report = {"question": __doc__.splitlines()[0], "command": shlex.join(["python", *sys.argv]), "networks": {}}
    for named in arguments.network or ["spvos_small_triple"]:
        name, _, weights = named.partition("=")
        print(name, flush=True)
        network = prepare(pliant.load(name, weights or None), arguments.precision)
        report["networks"][name] = follow(
            network, frames, truth, arguments.frames, arguments.size, arguments.memory_every
        )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
