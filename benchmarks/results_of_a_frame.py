"""What does writing a frame's result cost beside finding it, against the plain way to do the same?

A 480 x 854 frame with three objects: mask as indexed PNG (against Pillow's own settings), run-length codes (against
pycocotools, where installed), overlay (against NumPy indexing). Each in turn with its baseline, processor time of the
thread, which other work on the machine hardly moves. Baselines are checked before they are timed.

    python benchmarks/results_of_a_frame.py -o benchmarks/results/results_of_a_frame.json
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pliant.video import rle
from pliant.video.draw import BRIGHT, draw_overlay
from pliant.video.masks import encode_png
from pliant.video.palette import PALETTE

HEIGHT, WIDTH, OBJECTS = 480, 854, 3


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A smooth picture and three lobed objects, about a fifth of it."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (12, 20, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    for identity in range(1, OBJECTS + 1):
        distance = 90 * (1 + 0.15 * np.sin(3 * angle + identity) + 0.05 * np.sin(11 * angle))
        corners = np.stack((200 * identity + distance * np.cos(angle), 240 + distance * np.sin(angle)), axis=1)
        cv2.fillPoly(labels, [corners.round().astype(np.int32)], identity)
    return image, labels


def plain_png(labels: np.ndarray) -> bytes:
    """Pillow with its own settings."""
    image = Image.fromarray(labels)
    image.putpalette(PALETTE.tobytes())
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def plain_overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The tint alone, with NumPy's indexing."""
    tinted = (0.55 * image + 0.45 * BRIGHT[labels]).round().astype(np.uint8)
    return np.where(labels[..., None] > 0, tinted, image)


def coco_codes(labels: np.ndarray) -> dict:
    """pycocotools, an object after the other."""
    from pycocotools import mask

    masks = {k: np.asfortranarray(labels == k).view(np.uint8) for k in range(1, OBJECTS + 1)}
    return {k: {"size": [HEIGHT, WIDTH], "counts": mask.encode(m)["counts"].decode()} for k, m in masks.items()}


def pairs() -> dict[str, tuple]:
    """question -> (ours, name of the baseline, baseline), checked to do the same."""
    image, labels = scene()
    ids = range(1, OBJECTS + 1)
    found = {
        "mask as PNG": (lambda: encode_png(labels), "Pillow's settings", lambda: plain_png(labels)),
        "overlay": (
            lambda: draw_overlay(image, labels, outline=0),
            "NumPy indexing",
            lambda: plain_overlay(image, labels),
        ),
    }
    for data in (encode_png(labels), plain_png(labels)):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), labels)
    difference = draw_overlay(image, labels, outline=0).astype(int) - plain_overlay(image, labels)
    assert np.abs(difference).max() <= 1
    try:
        assert coco_codes(labels) == rle.encode_objects(labels, ids)
        found["run-length codes"] = (
            lambda: rle.encode_objects(labels, ids),
            "pycocotools",
            lambda: coco_codes(labels),
        )
    except ImportError:
        print("pycocotools is not installed: run-length codes are not compared", file=sys.stderr)
    return found


def timed(call, repetitions: int) -> list[float]:
    """Processor time of each call in milliseconds."""
    times = []
    for _ in range(repetitions):
        begin = time.thread_time()
        call()
        times.append(1e3 * (time.thread_time() - begin))
    return times


def main() -> None:
    """Prints a line a question and writes them all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--rounds", type=int, default=15, help="turns of ten calls each (default 15)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    results = {}
    for question, (ours, name, baseline) in pairs().items():
        times: dict[str, list[float]] = {"pliant": [], name: []}
        timed(ours, 3), timed(baseline, 3)
        for _ in range(arguments.rounds):
            times["pliant"] += timed(ours, 10)
            times[name] += timed(baseline, 10)
        results[question] = {
            key: {
                "median_ms": round(statistics.median(values), 3),
                "quartiles_ms": [round(v, 3) for v in statistics.quantiles(values, n=4)[::2]],
            }
            for key, values in times.items()
        }
        shown = ", ".join(f"{key} {value['median_ms']:.2f} ms" for key, value in results[question].items())
        print(f"{question:18} {shown}")
    if arguments.out:
        machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        versions = {"python": platform.python_version(), "numpy": np.__version__, "opencv": cv2.__version__}
        record = {"command": " ".join(sys.argv), "machine": {**machine, **versions}, "results": results}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
