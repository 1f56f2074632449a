"""How fast is salient_small on frames of 480 x 854, as `pliant salient` runs it: with embedded weights, all threads?

    python benchmarks/salient.py [--out FILE]

A textured square crosses a textured ground before a camera that drifts. Frames a second of whole passes over 40 frames,
precisions by turns, median and range of the rounds after the first. Decoding and writing of video are not in it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
import torch

import pliant
from pliant.inference.frames import prepare
from pliant.inference.salient import SalientStream
from run import machine

FRAMES, ROUNDS = 40, 3


def clip() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(0, 255, (68, 122, 3), np.uint8), (976, 544), interpolation=cv2.INTER_CUBIC)
    thing = cv2.resize(rng.integers(0, 255, (20, 20, 3), np.uint8), (160, 160), interpolation=cv2.INTER_CUBIC)
    frames = []
    for t in range(FRAMES):
        frame = ground[t : t + 480, 2 * t : 2 * t + 854].copy()
        frame[150:310, 100 + 8 * t : 260 + 8 * t] = thing
        frames.append(frame)
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    frames = clip()
    networks = {name: prepare(pliant.load("salient_small"), name) for name in ("bf16", "fp32")}
    found: dict[str, list[float]] = {name: [] for name in networks}
    for round_number in range(ROUNDS + 1):
        for name, network in networks.items():
            stream = SalientStream(network)
            start = time.perf_counter()
            for frame in frames:
                stream.push(frame)
            stream.finish()
            if round_number:  # the first round warms up
                found[name].append(FRAMES / (time.perf_counter() - start))
    rows = {
        name: {"median": statistics.median(v), "smallest": min(v), "largest": max(v)} for name, v in found.items()
    }
    for name, row in rows.items():
        print(f"{name}: {row['median']:.1f} frames a second ({row['smallest']:.1f} to {row['largest']:.1f})")
    if arguments.out:
        report = {"machine": machine(), "frames": FRAMES, "frames_per_second": rows}
        arguments.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
