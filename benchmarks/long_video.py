"""Does memory stay flat and speed stay up in a long video?

    python benchmarks/long_video.py --frames 10000

A clip of moving noise is looped forward and backward; resident memory and frames a second are printed for every tenth
of the run. Results: benchmarks/results/long_video.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch

import pliant
from pliant.inference.frames import prepare
from track import clip, labels


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "long_video.json")
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    frames = clip()
    frames = [*frames, *frames[-2:0:-1]]
    tracker = pliant.Tracker(prepare(pliant.load()))
    tracker.add_objects(frames[0], labels(1))
    part = max(200, arguments.frames // 10)
    rows, start = [], time.perf_counter()
    for index in range(1, arguments.frames):
        tracker.step(frames[index % len(frames)])
        if index % part == 0 or index == 200:
            now = time.perf_counter()
            row = {"frame": index, "resident_megabytes": round(resident_megabytes(), 1)}
            row["state_bytes"] = tracker.nbytes()
            row["frames_per_second"] = round((index - (rows[-1]["frame"] if rows else 0)) / (now - start), 2)
            start = now
            rows.append(row)
            print(row, flush=True)
    growth = rows[-1]["resident_megabytes"] - rows[0]["resident_megabytes"]
    report = {"command": f"python benchmarks/long_video.py --frames {arguments.frames}", "rows": rows}
    report["growth_after_200_frames_megabytes"] = round(float(np.round(growth, 1)), 1)
    print({"growth_after_200_frames_megabytes": report["growth_after_200_frames_megabytes"]})
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
