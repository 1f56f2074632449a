"""Accuracy, multiply-adds and time of a dense tracker and its sparse twins, as in the paper's Tables I and II.

All networks follow the same DAVIS sequences by turns, from picture to labels; J and F are the means over all frames
but the first and the last, as DAVIS has it. Multiply-adds: of all convolutions of a frame, gates included, averaged
over the frames that are tracked, for the objects of the sequence.

    python benchmarks/sparse_methods.py --davis ROOT --sequence car-shadow --sequence drift-chicane
        --network spvos_small --network spvos_small_triple --network spvos_small_static=runs/static/weights.safetensors

The first network is the dense one. Results: benchmarks/results/sparse_methods.json, or --out.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import statistics
import sys
import time
from pathlib import Path

import torch

import pliant
from pliant.datasets.layouts import read_clips
from pliant.inference.datasets import first_masks
from pliant.inference.frames import prepare
from pliant.inference.layer_times import Watch
from pliant.metrics.frames import mask_scores
from pliant.ops import native

PERIOD = 3  # frames by turns timed and observed: two or more of each kind of frame in every six


def follow(networks: dict, clip, memory_every: int, count: int | None) -> dict[str, dict[str, list[float]]]:
    """By network: J and F of frames and objects, seconds of timed frames, multiply-adds of observed ones, shares."""
    trackers = {name: pliant.Tracker(network, memory_every=memory_every) for name, network in networks.items()}
    found = {name: {"J": [], "F": [], "seconds": [], "macs": [], "share": []} for name in networks}
    given = first_masks(clip)
    last = min(len(clip), count or len(clip)) - 1
    for index in range(last + 1):
        image, truth = clip.frame(index), clip.labels(index)
        for name, tracker in trackers.items():
            rows = found[name]
            if index in given:
                tracker.add_objects(image, given[index])
                continue
            if index // PERIOD % 2:
                begin = time.process_time()
                labels = tracker.step(image)
                rows["seconds"].append(time.process_time() - begin)
            else:
                with Watch(networks[name]) as watch:
                    labels = tracker.step(image)
                rows["macs"].append(sum(layer.gmacs for layer in watch.layers.values()))
            records = getattr(tracker.state.network, "records", [])
            if records:
                computed = sum(float(record.computed) * record.cost for record in records)
                rows["share"].append(computed / sum(record.positions * record.cost for record in records))
            if truth is not None and 0 < index < last:
                for identity in tracker.objects:
                    j, f = mask_scores(labels == identity, truth == identity)
                    rows["J"].append(j)
                    rows["F"].append(f)
    return found


def summary(rows: dict[str, list[float]]) -> dict[str, float]:
    """Means; J and F in per cent."""
    j, f = 100 * statistics.mean(rows["J"]), 100 * statistics.mean(rows["F"])
    return {
        "J&F": round((j + f) / 2, 2),
        "J": round(j, 2),
        "F": round(f, 2),
        "GMAC a frame": round(statistics.mean(rows["macs"]), 2),
        "ms a frame": round(1000 * statistics.mean(rows["seconds"]), 1),
        "computed": round(statistics.mean(rows["share"]), 3) if rows["share"] else 1.0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--davis", type=Path, required=True, help="a dataset in DAVIS layout")
    parser.add_argument("--sequence", action="append", required=True, help="repeatable")
    parser.add_argument("--network", action="append", required=True, help="NAME or NAME=WEIGHTS; repeatable")
    parser.add_argument("--memory-every", type=int, default=3)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--count", type=int, help="frames of each sequence, all if not given")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sparse_methods.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    networks = {}
    for named in arguments.network:
        name, _, weights = named.partition("=")
        networks[name] = prepare(pliant.load(name, weights or None), arguments.precision)
    report = {
        "question": __doc__.splitlines()[0],
        "command": shlex.join(["python", *sys.argv]),
        "machine": f"{platform.processor() or platform.machine()}, 1 thread, processor time",
        "torch": torch.__version__,
        "kernels": native.why_missing() or native.instruction_set(),
        "sequences": {},
    }
    for clip in read_clips(arguments.davis, "val"):
        if clip.name in arguments.sequence:
            rows = follow(networks, clip, arguments.memory_every, arguments.count)
            report["sequences"][clip.name] = {name: summary(each) for name, each in rows.items()}
            print(clip.name, json.dumps(report["sequences"][clip.name], indent=1), flush=True)
    each = report["sequences"].values()
    report["mean"] = {
        name: {key: round(statistics.mean(one[name][key] for one in each), 3) for key in next(iter(each))[name]}
        for name in networks
    }
    print("mean", json.dumps(report["mean"], indent=1))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
