"""Which layer in the refinement modules? Tables 1 and 2 of D²Conv3D at the scale of salient_small.

    python benchmarks/d2conv3d_table1.py --weights PLAIN.safetensors --pictures runs/pictures.bin
    [--saliency runs/saliency.npz] [--davis ROOT] [--rows conv I IV] [--seeds 3] [--steps 80] [--json FILE]

The network is ``salient_small_plain`` as trained; its encoder is frozen, and in every row both refinement modules start
from scratch with that row's layers. All rows of a seed see the same clips in the same order, and what surrounds the
modules starts from the same weights. Reported, mean and range over seeds: J on synthetic clips that training does not
draw, with --davis J of the first frames of each sequence, the share of sampling points outside (Fig. 2); parameters and
multiplications of the decoder for one clip of 8 frames, and the median processor time that it takes of one thread (the
encoder and the motion, the same for all rows, are not counted).
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from pliant.datasets.layouts import read_clips
from pliant.losses.lovasz import lovasz_hinge
from pliant.models import d2conv3d
from pliant.models.d2conv3d.presets import Steering
from pliant.models.d2conv3d.recipe import HalfPrecision, Stage, SyntheticRecipe
from pliant.models.d2conv3d.small import SmallSegmenter
from pliant.nn.out_of_bounds import OutOfBounds
from pliant.nn.steered_conv import SteeredConv
from pliant.weights import fit_weights, read_state

ROWS: dict[str, Steering | None] = {
    "conv": None,
    "ASPP": Steering("aspp"),
    "DCNv1-3D": Steering("deform", "tyx", modulated=False),
    "DCNv2-3D": Steering("deform", "tyx"),
    "I": Steering(axes="yx"),
    "II": Steering(axes="y,x"),
    "III": Steering(modulated=False),
    "IV": Steering(),
    "IV, none": Steering(activation="none"),
    "IV, 1 + ReLU": Steering(activation="relu_plus_one"),
    "IV, ReLU": Steering(activation="relu"),
}
_MODULES = ("refine16.", "refine8.")
_FRAMES, _SIDE, _BATCH = 4, 240, 2

Features = tuple[Tensor, ...]


def network_of(row: str, weights: Path, seed: int) -> SmallSegmenter:
    """The trained network with this row's layers in its refinement modules, both from scratch."""
    plain = d2conv3d.build("salient_small_plain")
    fit_weights(plain, read_state(weights), weights, family="d2conv3d", name="salient_small_plain")
    torch.manual_seed(seed)
    network = d2conv3d.build("salient_small", steering=ROWS[row])
    kept = {key: value for key, value in plain.state_dict().items() if not key.startswith(_MODULES)}
    network.load_state_dict(kept, strict=False)
    network.encoder.requires_grad_(False)
    return network


class Seen:
    """What the frozen encoder sees in clips and what moves in them, kept in half precision."""

    def __init__(self, network: SmallSegmenter) -> None:
        self.network, self.encoder = network, HalfPrecision(copy.deepcopy(network.encoder))

    @torch.no_grad()
    def __call__(self, clip: Tensor) -> Features:
        """Of clips [N, 3, T, H, W], each [N, T, C, h, w]."""
        frames = clip.transpose(1, 2)
        before = torch.cat([frames[:, :1], frames[:, :-1]], 1)
        maps = self.network.encode(frames.flatten(0, 1), before.flatten(0, 1), self.encoder)
        return tuple(x.unflatten(0, frames.shape[:2]).bfloat16() for x in maps)


def synthetic(recipe: SyntheticRecipe, numbers: range, seen: Seen) -> list[tuple]:
    """Batches of (features, targets) of the recipe's clips."""
    batches = []
    for step in numbers:
        samples = [recipe.sample(step, index, 0.5) for index in range(_BATCH)]
        clip = torch.from_numpy(np.stack([s["clip"] for s in samples]))
        batches.append((seen(clip), torch.from_numpy(np.stack([s["target"] for s in samples]))))
    return batches


def footage(root: Path, seen: Seen) -> list[tuple]:
    """For each sequence (features, targets) of frames 8 to 11."""
    network, sides = seen.network, (SmallSegmenter.size, SmallSegmenter.size)
    mean, deviation = (np.array(v, np.float32) * 255 for v in (network.pixel_mean, network.pixel_std))
    batches = []
    for sequence in read_clips(root, "val"):
        frames = [cv2.resize(sequence.frame(i), sides, interpolation=cv2.INTER_AREA) for i in range(8, 12)]
        masks = [(sequence.labels(i) != 0).astype(np.float32) for i in range(8, 12)]
        masks = [cv2.resize(mask, sides, interpolation=cv2.INTER_AREA) for mask in masks]
        clip = torch.from_numpy(((np.stack(frames) - mean) / deviation).transpose(3, 0, 1, 2).copy())
        batches.append((seen(clip[None]), torch.from_numpy(np.stack(masks))[None, None]))
    return batches


def train(network: SmallSegmenter, batches: list[tuple], rate: float) -> None:
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.05)
    for step, (maps, target) in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 10) * (1 - step / len(batches))
        with torch.autocast("cpu", torch.bfloat16):
            logits = network.decode(maps).float()
        entropy = nn.functional.binary_cross_entropy_with_logits(logits, target)
        optimiser.zero_grad()
        (lovasz_hinge(logits, target > 0.5) + entropy).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()


@torch.no_grad()
def overlap(network: SmallSegmenter, batches: list[tuple]) -> tuple[float, float]:
    """Mean J over clips, and the percentage of sampling points outside of their maps."""
    scores = []
    with OutOfBounds(network) as counts:
        for maps, target in batches:
            with torch.autocast("cpu", torch.bfloat16):
                found = network.decode(maps) > 0
            true = target > 0.5
            both, either = ((found & true).flatten(1).sum(1), (found | true).flatten(1).sum(1))
            scores += [1.0 if not e else float(b) / float(e) for b, e in zip(both, either)]
    return 100 * statistics.mean(scores), counts.average


@torch.no_grad()
def multiplications(network: SmallSegmenter) -> float:
    """Multiply-adds of all 3-D convolutions for a clip of 8 frames, in 10^9; sampling not counted."""
    total, hooks = 0, []

    def count(weight: Tensor, output: Tensor) -> None:
        nonlocal total
        total += weight.numel() * output.shape[0] * output[0, 0].numel()

    for layer in network.modules():
        if isinstance(layer, SteeredConv):
            weights = (layer.deform_conv.weight, layer.deform_params.weight)
            hooks.append(layer.register_forward_hook(lambda m, i, o, w=weights: [count(x, o) for x in w] and None))
        elif isinstance(layer, nn.Conv3d):
            hooks.append(layer.register_forward_hook(lambda m, i, o: count(m.weight, o)))
    steered = {id(m.deform_params) for m in network.modules() if isinstance(m, SteeredConv)}
    for layer in network.modules():
        if id(layer) in steered:  # counted with the layer that it belongs to
            layer._forward_hooks.clear()
    network.decode(_whole_clip(network))
    for hook in hooks:
        hook.remove()
    return total / 1e9


def _whole_clip(network: SmallSegmenter) -> Features:
    """Features of 8 frames, of the sizes that ``encode`` gives."""
    with torch.no_grad():
        frame = torch.zeros(1, 3, network.size, network.size)
        maps = network.encode(frame, frame)
    return tuple(torch.randn(1, 8, *x.shape[1:]) for x in maps)


@torch.inference_mode()
def seconds(network: SmallSegmenter, rounds: int = 5) -> float:
    """Median processor time of the decoder on a clip of 8 frames in bf16."""
    half = copy.deepcopy(network).bfloat16().eval()
    features = tuple(x.bfloat16() for x in _whole_clip(network))
    taken = []
    for _ in range(rounds + 1):  # the first one warms up
        start = time.process_time()
        half.decode(features)
        taken.append(time.process_time() - start)
    return statistics.median(taken[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--saliency", type=Path)
    parser.add_argument("--davis", type=Path)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found: dict[str, list[dict[str, float]]] = {row: [] for row in arguments.rows}
    plain = network_of("conv", arguments.weights, 0).eval()
    seen = Seen(plain)
    real = footage(arguments.davis, seen) if arguments.davis else []
    for seed in arguments.seeds:
        recipe = SyntheticRecipe(
            arguments.pictures, saliency=arguments.saliency, seed=1000 + seed, stages=(Stage(0.0, _FRAMES, _SIDE, 1.0),)
        )
        shown, held = synthetic(recipe, range(arguments.steps), seen), synthetic(recipe, range(5000, 5020), seen)
        for row in arguments.rows:
            started = time.process_time()
            network = network_of(row, arguments.weights, seed).train()
            train(network, shown, arguments.rate)
            network.eval()
            scores = {"synthetic": overlap(network, held)[0]}
            if real:
                scores["davis"], scores["outside"] = overlap(network, real)
            scores["million parameters"] = sum(p.numel() for p in network.parameters()) / 1e6
            scores["billion multiplications"] = multiplications(network)
            scores["seconds"] = seconds(network)
            found[row].append(scores)
            text = ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
            print(f"seed {seed} {row:14} {text} ({time.process_time() - started:.0f} s)", flush=True)
    for row, runs in found.items():
        cells = [row]
        for name in runs[0]:
            values = [run[name] for run in runs]
            spread = f" ({min(values):.2f} to {max(values):.2f})" if max(values) > min(values) else ""
            cells.append(f"{statistics.mean(values):.2f}{spread}")
        print("| " + " | ".join(cells) + " |")
    if arguments.json:
        about = {"steps": arguments.steps, "rate": arguments.rate, "batch": _BATCH, "frames": _FRAMES, "side": _SIDE}
        machine = {"processor": platform.processor(), "torch": torch.__version__, "python": sys.version.split()[0]}
        arguments.json.write_text(json.dumps({"about": about, "machine": machine, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
