"""Does deformable matching beat standard and dilated, as Table 2 of RPM-Net's supplement says, at a small scale?

    python benchmarks/rpmnet_matching.py --videos FOLDER --davis ROOT --out FOLDER
    [--rows deformable standard3 ...] [--seeds 3] [--steps 3000] [--size 480] [--split val] [--json FILE]

Each row of the table (ResNet-18) is trained with each seed: the same clips, samples in the same order, steps and
settings. Each network then follows the sequences of a DAVIS folder from their first masks, by the rules of DAVIS 2017.
Copying the first mask is scored beside them. What is done stays in the output folder: a run that was stopped goes on.
Seven rows and three seeds are 21 trainings; nothing is timed.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pliant.datasets import davis
from pliant.datasets.sources import Sources
from pliant.evaluation import evaluate
from pliant.inference.tracker import Tracker
from pliant.models.rpmnet import PRESETS, RPMNet
from pliant.models.rpmnet.presets import PAPER
from pliant.models.rpmnet.recipe import from_sources
from pliant.training.loop import Settings, train
from pliant.video import write_mask


def trained(row: str, seed: int, options: argparse.Namespace) -> RPMNet:
    """The network of a row after its training, or as an earlier run left it."""
    sources = Sources(videos=tuple(options.videos), cache=options.out / "cache", seed=seed)
    recipe = replace(from_sources(sources), preset=PRESETS[f"rpmnet_r18_{row}"])
    settings = Settings(steps=options.steps, learning_rate=3e-4, warmup=min(500, options.steps // 10), seed=seed)
    return train(recipe, options.out / f"{row}-{seed}", settings).eval()


def score(folder: Path, options: argparse.Namespace, follow: Callable) -> dict[str, float]:
    """J and F means in % of ``follow(first image, first labels)``, which gives a function of each next image."""
    masks = folder / "masks"
    for clip in davis.clips(options.davis, options.split):
        (masks / clip.name).mkdir(parents=True, exist_ok=True)
        step = None
        for index, path in enumerate(clip.frames):
            image = clip.frame(index)
            if step is None:
                labels = clip.labels(0)
                step = follow(image, labels)
            else:
                labels = step(image)
            write_mask(masks / clip.name / f"{path.stem}.png", labels)
    report = evaluate("davis2017", options.davis, masks, split=options.split)
    return {"J": 100 * report.summary["J-Mean"], "F": 100 * report.summary["F-Mean"]}


def by(network: RPMNet, size: int) -> Callable:
    """Following with a network."""

    def follow(image: np.ndarray, labels: np.ndarray) -> Callable:
        tracker = Tracker(network, size=size)
        tracker.add_objects(image, labels)
        return tracker.step

    return follow


def copying(image: np.ndarray, labels: np.ndarray) -> Callable:
    """The first mask in every frame."""
    return lambda _: labels


def line(row: str, scores: list[dict[str, float]]) -> str:
    """A row of the table: mean and range over the seeds, beside the paper's."""
    cells = []
    for name in ("J", "F"):
        values = [each[name] for each in scores]
        cells.append(f"{name} {statistics.mean(values):5.1f} ({min(values):.1f} to {max(values):.1f})")
    paper = "" if row not in PAPER else "   paper, DAVIS-2017 val: J {:.1f} F {:.1f}".format(*PAPER[row][0])
    return f"{row:12s} {'  '.join(cells)}{paper}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, nargs="+", required=True)
    parser.add_argument("--davis", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", choices=PAPER, default=list(PAPER))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--size", type=int, default=480)
    parser.add_argument("--split", default="val")
    default = Path(__file__).parent / "results" / "rpmnet_matching.json"
    parser.add_argument("--json", type=Path, default=default, help="where the scores are written")
    options = parser.parse_args()

    results = {"copy the first mask": [score(options.out / "copy", options, copying)]}
    print(line("copy", results["copy the first mask"]), flush=True)
    for row in options.rows:
        results[row] = []
        for seed in range(options.seeds):
            network = trained(row, seed, options)
            results[row].append(score(options.out / f"{row}-{seed}", options, by(network, options.size)))
        print(line(row, results[row]), flush=True)
    record = {
        "command": " ".join(["python", *sys.argv]),
        "machine": {"cpu": platform.processor() or platform.machine(), "torch": torch.__version__},
        "steps": options.steps,
        "scores": results,
    }
    options.json.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written to {options.json}")


if __name__ == "__main__":
    main()
