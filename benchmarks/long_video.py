"""Does memory stay flat, speed up and the mask right in a long video?

    python benchmarks/long_video.py --frames 10000                              # moving noise: memory and speed
    python benchmarks/long_video.py --frames 10000 --davis ROOT --sequence dog  # a real clip: also J
    python benchmarks/long_video.py --frames 2000 --model spvos_small_triple --out FILE

The clip is looped forward and backward. For every tenth of the run: resident memory, bytes of the tracker's state,
frames a second, processor milliseconds a frame (true also where other work runs beside it) and, with true masks, J.
Results: benchmarks/results/long_video.json, or --out.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import pliant
from pliant.inference.frames import prepare
from pliant.metrics import region_similarity
from track import clip, labels


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def noise() -> tuple[list[np.ndarray], list[np.ndarray] | None, np.ndarray]:
    return clip(), None, labels(1)


def davis(root: Path, sequence: str) -> tuple[list[np.ndarray], list[np.ndarray] | None, np.ndarray]:
    """Frames, true masks (objects merged into one) and the first mask of a sequence in DAVIS layout."""
    images = sorted((root / "JPEGImages" / "480p" / sequence).glob("*.jpg"))
    masks = sorted((root / "Annotations" / "480p" / sequence).glob("*.png"))
    truth = [(np.array(Image.open(path)) > 0).astype(np.uint8) for path in masks]
    return [np.array(Image.open(path).convert("RGB")) for path in images], truth, truth[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--davis", type=Path, help="a dataset in DAVIS layout")
    parser.add_argument("--sequence", default="dog")
    parser.add_argument("--model", default="default", help="a tracker of `pliant models` with weights in the package")
    parser.add_argument("--size", type=int, default=480, help="short side at which the network looks")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "long_video.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    frames, truth, first = davis(arguments.davis, arguments.sequence) if arguments.davis else noise()
    order = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
    tracker = pliant.Tracker(prepare(pliant.load(arguments.model)), size=arguments.size)
    tracker.add_objects(frames[0], first)
    part = max(200, arguments.frames // 10)
    rows, similarity = [], []
    start, processor = time.perf_counter(), time.process_time()
    for index in range(1, arguments.frames):
        place = order[index % len(order)]
        found = tracker.step(frames[place])
        if truth is not None:
            similarity.append(region_similarity(found > 0, truth[place] > 0))
        if index % part == 0 or index in (200, arguments.frames - 1):
            count = index - (rows[-1]["frame"] if rows else 0)
            row = {
                "frame": index,
                "resident_megabytes": round(resident_megabytes(), 1),
                "state_bytes": tracker.nbytes(),
                "frames_per_second": round(count / (time.perf_counter() - start), 2),
                "processor_milliseconds": round(1000 * (time.process_time() - processor) / count, 1),
            }
            if similarity:
                row["J"] = round(float(np.mean(similarity)), 4)
            similarity, start, processor = [], time.perf_counter(), time.process_time()
            rows.append(row)
            print(row, flush=True)
    growth = rows[-1]["resident_megabytes"] - rows[0]["resident_megabytes"]
    report = {"command": shlex.join(["python", *sys.argv]), "threads": arguments.threads, "rows": rows}
    report["growth_after_200_frames_megabytes"] = round(growth, 1)
    print({"growth_after_200_frames_megabytes": report["growth_after_200_frames_megabytes"]})
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
