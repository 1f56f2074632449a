"""How long does it take to score DAVIS 2017 val, against the tools that people use?

Makes a job of that size (30 sequences, 2029 frames of 480x854, 60 objects, drawn here) and scores it in turn with
pliant, with vos-benchmark (`pip install vos-benchmark`) on two processes, and with a checkout of davis2017-evaluation;
start-up included. Also the unsupervised task with 20 proposals, by the frame.

    python benchmarks/evaluation.py --official CHECKOUT -o benchmarks/results/evaluation.json
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from pliant.video.masks import encode_png

HEIGHT, WIDTH = 480, 854
LENGTHS = [68] * 29 + [57]  # 2029 frames, as the validation split has
OBJECTS = [1, 2, 3, 2, 1, 3, 2, 1, 2, 3] * 3  # 60
PROPOSALS = 20

VOS_BENCHMARK = """
import sys
from vos_benchmark.benchmark import benchmark
if __name__ == "__main__":
    benchmark([sys.argv[1] + "/Annotations/480p"], [sys.argv[2]], strict=True, num_processes=2, verbose=False)
"""
OFFICIAL = """
import sys
from davis2017.evaluation import DAVISEvaluation
DAVISEvaluation(sys.argv[1], sys.argv[3], "val", codalab=True).evaluate(sys.argv[2])
"""


def outline(centre: np.ndarray, radius: float, phases: np.ndarray) -> np.ndarray:
    """The corners of a lobed shape, [n, 2] int32 of (x, y)."""
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    lobes = sum(0.12 * np.sin((k + 2) * angle + phase) for k, phase in enumerate(phases))
    distance = radius * (1 + lobes)
    corners = np.stack([centre[1] + distance * np.cos(angle), centre[0] + distance * np.sin(angle)], axis=1)
    return corners.round().astype(np.int32)


def draw(generator: np.random.Generator, frames: int, objects: int) -> list[np.ndarray]:
    """Label maps of objects that drift and change their outline."""
    start = generator.uniform((80, 120), (HEIGHT - 80, WIDTH - 120), (objects, 2))
    drift = generator.uniform(-2, 2, (objects, 2))
    radius, phases = generator.uniform(40, 120, objects), generator.uniform(0, 6.28, (objects, 5))
    labels = []
    for frame in range(frames):
        image = np.zeros((HEIGHT, WIDTH), np.uint8)
        for k in range(objects):
            corners = outline(start[k] + frame * drift[k], radius[k], phases[k] + 0.05 * frame)
            cv2.fillPoly(image, [corners], k + 1)
        labels.append(image)
    return labels


def make_job(root: Path, lengths: list[int], objects: list[int], unsupervised: bool) -> None:
    """Ground truth in the layout of DAVIS under root/gt and results beside it under root/results."""
    generator = np.random.default_rng(0)
    folder = root / "gt" / ("Annotations_unsupervised" if unsupervised else "Annotations") / "480p"
    names = [f"sequence-{index:02d}" for index in range(len(lengths))]
    for name, frames, count in zip(names, lengths, objects, strict=True):
        truth = draw(generator, frames, count)
        if unsupervised:
            result = draw(generator, frames, PROPOSALS)
        else:
            result = [np.roll(image, generator.integers(-6, 7, 2), (0, 1)) for image in truth]
        for where, images in ((folder / name, truth), (root / "results" / name, result)):
            where.mkdir(parents=True)
            for index, image in enumerate(images):
                (where / f"{index:05d}.png").write_bytes(encode_png(image))
    split = root / "gt" / "ImageSets" / "2017" / "val.txt"
    split.parent.mkdir(parents=True)
    split.write_text("\n".join(names) + "\n")


def timed(command: list[str], cwd: Path | None = None) -> tuple[float, int]:
    """Seconds of a command with start-up, and MB of its largest process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command[:4]} failed: {errors.decode()[-2000:]}")
    return time.perf_counter() - start, usage.ru_maxrss // 1024


def pliant_command(job: Path, protocol: str, *more: str) -> list[str]:
    gt, results = str(job / "gt"), str(job / "results")
    return [sys.executable, "-m", "pliant", "evaluate", protocol, "--gt", gt, "--results", results, "-q", *more]


def spread(seconds: list[float]) -> dict[str, float]:
    return {"median": statistics.median(seconds), "least": min(seconds), "most": max(seconds), "runs": len(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, help="checkout of davis2017-evaluation")
    parser.add_argument("--rounds", type=int, default=3, help="of pliant and vos-benchmark; the official tool has one")
    parser.add_argument("--job", type=Path, help="keep the job in this folder, and take it from there if it is there")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    root = arguments.job or Path(tempfile.mkdtemp())
    for name, lengths, objects, unsupervised in (
        ("val", LENGTHS, OBJECTS, False),
        ("tenth", LENGTHS[:3], OBJECTS[:3], False),
        ("proposals", [20, 20], [3, 3], True),
    ):
        if not (root / name).exists():
            make_job(root / name, lengths, objects, unsupervised)

    val, tools = root / "val", {}
    tools["pliant"] = (pliant_command(val, "davis2017"), None, arguments.rounds)
    if importlib.util.find_spec("vos_benchmark"):
        command = [sys.executable, "-c", VOS_BENCHMARK, str(val / "gt"), str(val / "results")]
        tools["vos-benchmark, 2 processes"] = (command, None, arguments.rounds)
    if arguments.official:
        command = [sys.executable, "-c", OFFICIAL, str(val / "gt"), str(val / "results"), "semi-supervised"]
        tools["davis2017-evaluation"] = (command, arguments.official, 1)
    seconds: dict[str, list[float]] = {name: [] for name in tools}
    megabytes = {}
    for turn in range(arguments.rounds):
        for name, (command, cwd, rounds) in tools.items():
            if turn < rounds:
                taken, megabytes[name] = timed(command, cwd)
                seconds[name].append(taken)
                print(f"{name:30s} {taken:7.2f} s   {megabytes[name]:5d} MB", flush=True)

    tenth = timed(pliant_command(root / "tenth", "davis2017"))
    single = timed(pliant_command(val, "davis2017", "-j", "1"))
    proposals = [
        timed(pliant_command(root / "proposals", "davis2017-unsupervised", "-j", "1"))[0]
        for _ in range(arguments.rounds)
    ]
    startup = timed([sys.executable, "-m", "pliant", "evaluate", "--help"])[0]
    report = {
        "command": "python benchmarks/evaluation.py " + " ".join(sys.argv[1:]),
        "machine": f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python "
        f"{platform.python_version()}, NumPy {np.__version__}",
        "job": "30 sequences, 2029 frames of 480x854, 60 objects, start-up included",
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "ratio to pliant": {
            name: statistics.median(values) / statistics.median(seconds["pliant"]) for name, values in seconds.items()
        },
        "largest process, MB": megabytes,
        "pliant, 1 process, s": single[0],
        "pliant, 3 sequences in place of 30": {"seconds": tenth[0], "largest process, MB": tenth[1]},
        "unsupervised, 20 proposals, 3 objects, 1 process, s a frame": (statistics.median(proposals) - startup) / 40,
    }
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
