"""How much faster does spvos_small_triple follow a clip than spvos_small, whole pipeline?

Both trackers see the same frames in alternation, from picture to labels; every ``--memory-every``-th frame is
remembered, which the triple network computes densely.

    python benchmarks/small_triple.py --frames JPEGImages/480p/libby --mask Annotations/480p/libby/00000.png
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

import pliant
from pliant.inference.frames import prepare
from pliant.ops import native
from pliant.video import read, read_masks

RESULTS = Path(__file__).parent / "results"
NAMES = ("spvos_small", "spvos_small_triple")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--mask", type=Path, required=True, help="of the first frame")
    parser.add_argument("--count", type=int, default=31, help="frames used")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--memory-every", type=int, default=3)
    parser.add_argument("--processor-time", action="store_true", help="on one thread, for machines that are not quiet")
    parser.add_argument("--out", type=Path, help="file of the result, if not in benchmarks/results")
    options = parser.parse_args()
    clock = time.process_time if options.processor_time else time.perf_counter
    if options.processor_time:
        torch.set_num_threads(1)
    with read(str(options.frames)) as frames:
        images = [frame.image for frame, _ in zip(frames, range(options.count))]
    labels = read_masks(options.mask).frames[0]
    trackers = [
        pliant.Tracker(prepare(pliant.load(name), options.precision), memory_every=options.memory_every)
        for name in NAMES
    ]
    for tracker in trackers:
        tracker.add_objects(images[0], labels)
    seconds: dict[str, list[float]] = {name: [] for name in NAMES}
    shares: list[float] = []
    for image in images[1:]:
        for name, tracker in zip(NAMES, trackers):
            begin = clock()
            tracker.step(image)
            seconds[name].append(clock() - begin)
        records = trackers[1].state.network.records
        if records:
            done = sum(float(record.computed) * record.cost for record in records)
            shares.append(done / sum(record.positions * record.cost for record in records))
    means = {name: statistics.mean(times[3:]) for name, times in seconds.items()}
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    flags = " --processor-time" * options.processor_time
    result = {
        "question": __doc__.splitlines()[0],
        "command": f"python benchmarks/small_triple.py --frames {options.frames.name} --precision {options.precision} "
        f"--memory-every {options.memory_every}{flags}",
        "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads",
        "clock": "processor time" if options.processor_time else "wall",
        "torch": torch.__version__,
        "kernels": native.why_missing() or native.instruction_set(),
        "objects": len(trackers[0].objects),
        "share computed on sparse frames": round(statistics.mean(shares), 3),
        "mean ms a frame": {name: round(1000 * value, 1) for name, value in means.items()},
        "median ms a frame": {name: round(1000 * value, 1) for name, value in medians.items()},
        "speed-up of the mean": round(means[NAMES[0]] / means[NAMES[1]], 3),
    }
    print(json.dumps(result, indent=1))
    out = options.out or RESULTS / f"small_triple-{options.precision}-{options.memory_every}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
