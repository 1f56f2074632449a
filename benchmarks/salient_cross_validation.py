"""What would real clips with masks give? salient_small fine-tuned on some sequences of DAVIS, scored on the others.

    python benchmarks/salient_cross_validation.py --davis ROOT [--folds 4] [--steps 60] [--json FILE]

An experiment, no model of the package: its weights see no benchmark. The sequences are split into folds; for each, the
weights of ``salient_small`` are trained on for ``--steps`` steps of two clips of four frames of the other folds, then
J and F of the fold's sequences are taken on all frames, by the rules of DAVIS 2016 (first and last frame left out).
Beside them the same weights as they are.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

import pliant
from pliant.datasets import Clip
from pliant.datasets.layouts import read_clips
from pliant.inference.frames import prepare
from pliant.inference.salient import salient_labels
from pliant.metrics import contour_accuracy, region_similarity
from pliant.models.d2conv3d.recipe import FolderRecipe
from pliant.models.d2conv3d.small import SmallSegmenter
from pliant.training.loop import Settings, train
from pliant.weights import embedded


def score(network: nn.Module, clip: Clip) -> tuple[float, float]:
    """Mean J and F of a sequence in percent."""
    found = list(salient_labels((clip.frame(i) for i in range(len(clip))), network))
    pairs = [(found[i] != 0, clip.labels(i) != 0) for i in range(1, len(clip) - 1)]
    j = np.mean([region_similarity(*pair) for pair in pairs])
    f = np.mean([contour_accuracy(*pair) for pair in pairs])
    return 100 * float(j), 100 * float(f)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clips = read_clips(arguments.davis, "val")
    initial = embedded("salient_small", "salient_small.safetensors")
    before = prepare(pliant.load("salient_small"))
    rows = {}
    for fold in range(arguments.folds):
        held = clips[fold :: arguments.folds]
        shown = tuple(clip for clip in clips if clip not in held)
        sides = (SmallSegmenter.size, SmallSegmenter.size)
        recipe = FolderRecipe(
            shown, initial, fold, "salient_small", sampler="threedc_seg", batch_size=2, length=4, size=sides, flip=True
        )
        settings = Settings(
            steps=arguments.steps, batch_size=2, learning_rate=arguments.rate, warmup=10, average=0.95, workers=0
        )
        with tempfile.TemporaryDirectory() as folder:
            after = prepare(train(recipe, Path(folder) / "run", settings).eval())
        for clip in held:
            rows[clip.name] = {"before": score(before, clip), "after": score(after, clip)}
            shown_row = {kind: np.round(values, 1).tolist() for kind, values in rows[clip.name].items()}
            print(clip.name, shown_row, flush=True)
    means = {kind: np.mean([row[kind] for row in rows.values()], 0).tolist() for kind in ("before", "after")}
    print({kind: [round(v, 1) for v in (*values, sum(values) / 2)] for kind, values in means.items()}, "J, F, J&F")
    if arguments.json:
        about = {"folds": arguments.folds, "steps": arguments.steps, "rate": arguments.rate}
        arguments.json.write_text(json.dumps({"about": about, "rows": rows, "mean": means}, indent=1) + "\n")


if __name__ == "__main__":
    main()
