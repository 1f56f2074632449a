"""How fast does the embedded tracker follow objects at 480x854, and how much faster than Cutie-small is that?

    python benchmarks/track.py                         # frames a second: 1 object, 5 objects, bf16 and fp32, start-up
    python benchmarks/track.py --model spvos_light     # the one for CPUs without AMX; results/track_spvos_light.json
    pip install --no-deps rf-cutie==1.0.1 && pip install einops omegaconf hydra-core
    python benchmarks/track.py --cutie                 # and Cutie-small beside it, random weights: speed only

Frames are noise that moves, decoded already: what is timed is the network and what surrounds it. The variants
alternate; medians over rounds, with the smallest and largest. Results: benchmarks/results/track.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch

HEIGHT, WIDTH, FRAMES, ROUNDS = 480, 854, 30, 3


def clip() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (70, 120, 3), np.uint8)
    wide = cv2.resize(noise, (WIDTH + 100, HEIGHT + 40), interpolation=cv2.INTER_CUBIC)
    return [np.ascontiguousarray(wide[t : t + HEIGHT, 3 * t : 3 * t + WIDTH]) for t in range(FRAMES)]


def labels(objects: int) -> np.ndarray:
    result = np.zeros((HEIGHT, WIDTH), np.uint8)
    for k in range(objects):
        cv2.circle(result, (120 + 150 * k, 240), 60, k + 1, -1)
    return result


def ours(model: str, precision: str, objects: int):
    import pliant
    from pliant.inference.frames import prepare

    network = prepare(pliant.load(model), precision)
    frames, first = clip(), labels(objects)

    def run() -> float:
        tracker = pliant.Tracker(network)
        tracker.add_objects(frames[0], first)
        start = time.perf_counter()
        for image in frames[1:]:
            tracker.step(image)
        return (FRAMES - 1) / (time.perf_counter() - start)

    return run


def cutie(amp: bool):
    """Cutie-small with random weights; its constructor's downloads are replaced by nothing."""
    from cutie.inference.inference_core import InferenceCore
    from cutie.inference.utils.args_utils import get_dataset_cfg
    from cutie.model import cutie as model_module
    from cutie.model.utils import resnet
    from hydra import compose, initialize_config_module
    from omegaconf import open_dict

    with initialize_config_module(config_module="cutie.config", version_base="1.3.2"):
        cfg = compose(config_name="eval_config", overrides=["model=small", "dataset=d17-val"])
    with open_dict(cfg):
        get_dataset_cfg(cfg)
    resnet.load_weights_add_extra_dim = lambda *args, **kwargs: None
    resnet.model_zoo.load_url = lambda *args, **kwargs: {}
    network = model_module.CUTIE(cfg).eval()
    frames = [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in clip()]
    first = torch.from_numpy(labels(1).astype(np.int64))

    def run() -> float:
        core = InferenceCore(network, cfg=cfg)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=amp):
            core.step(frames[0], first, objects=[1])
            start = time.perf_counter()
            for image in frames[1:]:
                core.step(image)
        return (FRAMES - 1) / (time.perf_counter() - start)

    return run


def start_up(model: str) -> dict[str, float]:
    """Seconds to import, and from the command's start to the first mask, in fresh processes."""
    code = (
        "import time; t = time.perf_counter(); import numpy as np, pliant;"
        f"from pliant.inference.frames import prepare; tracker = pliant.Tracker(prepare(pliant.load({model!r})));"
        "i = time.perf_counter(); image = np.zeros((480, 854, 3), np.uint8); labels = np.zeros((480, 854), np.uint8);"
        "labels[100:200, 100:200] = 1; tracker.add_objects(image, labels); tracker.step(image);"
        "print(i - t, time.perf_counter() - t)"
    )
    command = [sys.executable, "-c", code]
    outputs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(3)]
    pairs = [[float(value) for value in output.split()] for output in outputs]
    return {
        "import_and_load_seconds": statistics.median(p[0] for p in pairs),
        "first_mask_seconds": statistics.median(p[1] for p in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cutie", action="store_true")
    parser.add_argument("--model", default="spvos_small", help="a tracker with embedded weights")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    model = arguments.model
    file = "track.json" if model == parser.get_default("model") else f"track_{model}.json"
    out = arguments.out or Path(__file__).parent / "results" / file
    torch.set_num_threads(os.cpu_count() or 1)
    runs = {
        "bf16, 1 object": ours(model, "bf16", 1),
        "bf16, 5 objects": ours(model, "bf16", 5),
        "fp32, 1 object": ours(model, "fp32", 1),
    }
    if arguments.cutie:
        runs["Cutie-small, fp32 as it ships, 1 object"] = cutie(False)
        runs["Cutie-small, bf16 autocast, 1 object"] = cutie(True)
    found: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(ROUNDS + 1):
        for name, run in runs.items():
            speed = run()
            if round_number:  # the first round warms up
                found[name].append(speed)
    rows = {
        name: {"median": statistics.median(v), "smallest": min(v), "largest": max(v)} for name, v in found.items()
    }
    report = {
        "command": " ".join(["python benchmarks/track.py", *sys.argv[1:]]),
        "model": model,
        "machine": {
            "processor": platform.processor() or platform.machine(), "cores": os.cpu_count(),
            "amx": torch.cpu._is_amx_tile_supported(), "torch": torch.__version__,
        },
        "frames_per_second": rows,
        "peak_memory_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        **start_up(model),
    }  # fmt: skip
    for name, row in rows.items():
        print(f"{name:42} {row['median']:7.2f} frames/s  ({row['smallest']:.2f} to {row['largest']:.2f})")
    print({k: v for k, v in report.items() if k not in ("frames_per_second", "command")})
    out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
