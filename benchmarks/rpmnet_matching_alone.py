"""One embedding, seven ways of matching: does deformable matching beat standard and dilated where all else is equal?

    python benchmarks/rpmnet_matching_alone.py --weights FILE --videos FOLDER --cache FOLDER [--davis ROOT]
    [--rows deformable standard3 ...] [--seeds 3] [--steps 500] [--side 128] [--batch 8] [--json FILE]

Table 2 of RPM-Net's supplement trains whole networks; here the embedding of trained weights is frozen and only the
matching module is trained, from scratch, with the same pairs in the same order for every row of a seed. Every eighth
shot is held back. Reported, mean and range over seeds: the colour error on pairs of the held-back shots, in % of that
of zero offsets, the mean length of their offsets in cells of H/4, and with --davis the mean J of following the first
frames of some sequences by warping from frame to frame alone. Nothing is timed.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from pliant.datasets import davis
from pliant.datasets.unlabelled import Footage, FramePairs
from pliant.inference.tracker import Tracker
from pliant.losses import photometric
from pliant.metrics.frames import frame_scores
from pliant.models.rpmnet import PRESETS, RPMNet, colour
from pliant.models.rpmnet.network import reduce
from pliant.models.rpmnet.presets import PAPER
from pliant.models.rpmnet.recipe import Terms, photometric_terms
from pliant.weights import read_state

_HELD_BACK = 8  # every eighth shot


def pairs_of(footage: Footage, held_back: bool, side: int) -> FramePairs:
    """Pairs of the shots for training, or of those held back."""
    part = copy.copy(footage)
    part.shots = [shot for number, shot in enumerate(footage.shots) if (number % _HELD_BACK == 0) == held_back]
    return FramePairs(part, side)


def embedded(network: RPMNet, pairs: FramePairs, random: np.random.Generator, count: int) -> tuple:
    """Colours at H/4 and embeddings of targets and references."""
    found = [pairs.draw(random, 1.0) for _ in range(count)]
    truth, embeddings = [], []
    for images in zip(*found):
        rgb = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
        colours = colour.from_rgb(rgb, "lab")
        truth.append(reduce(colours))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            embeddings.append(network.embedding(colours).float())
    return truth, embeddings


def trained(
    rows: list[str], seed: int, state: dict, footage: Footage, options: argparse.Namespace
) -> dict[str, RPMNet]:
    """The network of each row, with the given embedding and a matching module trained on it.

    All rows learn side by side, so that a pair is embedded once for all of them.
    """
    networks, optimisers = {}, {}
    for row in rows:
        torch.manual_seed(seed)
        network = networks[row] = RPMNet(PRESETS[f"rpmnet_r18_{row}"]).eval()
        network.embedding.load_state_dict(state)
        network.embedding.requires_grad_(False)
        optimisers[row] = torch.optim.AdamW(network.matching.parameters(), lr=1e-3, weight_decay=1e-4)
    pairs, random, terms = pairs_of(footage, False, options.side), np.random.default_rng(seed), Terms()
    weights = torch.ones(options.batch, 3)
    for step in range(options.steps):
        progress = step / options.steps
        truth, embeddings = embedded(networks[rows[0]], pairs, random, options.batch)
        for row in rows:
            network, optimiser = networks[row], optimisers[row]
            for group in optimiser.param_groups:
                group["lr"] = 1e-3 * min(1, (step + 1) / 20, 3 * (1 - progress))
            there, back = network.match(*embeddings), network.match(*embeddings[::-1])
            first = photometric_terms(*truth, there, back, weights, terms, progress)
            second = photometric_terms(*truth[::-1], back, there, weights, terms, progress)
            loss = sum(
                part["colour"] + terms.structure * part["structure"] + terms.smoothness * part["smoothness"]
                for part in (first, second)
            )
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.matching.parameters(), 1.0)
            optimiser.step()
    return networks


@torch.no_grad()
def on_held_back(network: RPMNet, footage: Footage, options: argparse.Namespace) -> tuple[float, float]:
    """Of 64 held-back pairs the colour loss in % of that of zero offsets, and the offsets' mean length in cells."""
    pairs, random, sums = pairs_of(footage, True, options.side), np.random.default_rng(99), [0.0, 0.0, 0.0]
    for _ in range(8):
        truth, embeddings = embedded(network, pairs, random, 8)
        offset = network.match(*embeddings)
        for number, tried in enumerate((offset, torch.zeros_like(offset))):
            sums[number] += float(photometric.colour_loss(*truth, tried).mean())
        sums[2] += float(offset.square().sum(1).sqrt().mean())
    return 100 * sums[0] / sums[1], sums[2] / 8


def followed(network: RPMNet | None, options: argparse.Namespace) -> float:
    """Mean J of following the first frames; without a network the first mask stays."""
    scores = []
    for clip in davis.clips(options.davis, "val"):
        if clip.name not in options.sequences:
            continue
        labels = clip.labels(0)
        ids = [int(i) for i in np.unique(labels) if i]
        if network is not None:
            tracker = Tracker(network, size=options.size)
            tracker.add_objects(clip.frame(0), labels)
        for index in range(1, options.frames):
            found = labels if network is None else tracker.step(clip.frame(index))
            scores.append(np.mean(frame_scores(found, clip.labels(index), ids)[0]))
    return 100 * float(np.mean(scores))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--videos", type=Path, nargs="+", required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--davis", type=Path)
    parser.add_argument("--sequences", nargs="+", default=["blackswan", "dog", "horsejump-high"])
    parser.add_argument("--frames", type=int, default=15)
    parser.add_argument("--size", type=int, default=240, help="short side at which sequences are followed")
    parser.add_argument("--rows", nargs="+", choices=PAPER, default=list(PAPER))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    default = Path(__file__).parent / "results" / "rpmnet_matching_alone.json"
    parser.add_argument("--json", type=Path, default=default)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    footage = Footage(options.videos, 216, options.cache)
    whole = read_state(options.weights)
    state = {key.removeprefix("embedding."): v.float() for key, v in whole.items() if key.startswith("embedding.")}
    results: dict[str, list] = {}
    if options.davis:
        results["copy the first mask"] = [{"J": followed(None, options)}]
        print(f"copy the first mask  J {results['copy the first mask'][0]['J']:.1f}", flush=True)
    results |= {row: [] for row in options.rows}
    for seed in range(options.seeds):
        for row, network in trained(options.rows, seed, state, footage, options).items():
            error, motion = on_held_back(network, footage, options)
            results[row].append({"colour error": error, "motion": motion})
            if options.davis:
                results[row][-1]["J"] = followed(network, options)
        print(f"seed {seed} done", flush=True)
    for row in options.rows:
        text = []
        for name in results[row][0]:
            values = [entry[name] for entry in results[row]]
            text.append(f"{name} {statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})")
        print(f"{row:12s} {'   '.join(text)}", flush=True)
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
