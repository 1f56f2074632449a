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
from typing import Any, NamedTuple

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


class Run(NamedTuple):
    """Of a command with its start-up: seconds on the clock, processor time in seconds, MB of its largest process."""

    wall: float
    cpu: float
    megabytes: int


def timed(command: list[str], cwd: Path | None = None) -> Run:
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command[:4]} failed: {errors.decode()[-2000:]}")
    return Run(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024)


def pliant_command(job: Path, protocol: str, *more: str) -> list[str]:
    gt, results = str(job / "gt"), str(job / "results")
    return [sys.executable, "-m", "pliant", "evaluate", protocol, "--gt", gt, "--results", results, "-q", *more]


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "runs": len(values)}


def contestants(job: Path, official: Path | None) -> dict[str, tuple[list[str], Path | None]]:
    """Tool -> command and the folder that it runs in."""
    gt, results = str(job / "gt"), str(job / "results")
    tools: dict[str, tuple[list[str], Path | None]] = {"pliant": (pliant_command(job, "davis2017"), None)}
    if importlib.util.find_spec("vos_benchmark"):
        tools["vos-benchmark, 2 processes"] = ([sys.executable, "-c", VOS_BENCHMARK, gt, results], None)
    if official:
        tools["davis2017-evaluation"] = ([sys.executable, "-c", OFFICIAL, gt, results, "semi-supervised"], official)
    return tools


def compare(job: Path, official: Path | None, rounds: int) -> dict[str, Any]:
    """All tools in turn; the official one in the first round only."""
    runs: dict[str, list[Run]] = {}
    for turn in range(rounds):
        for name, (command, cwd) in contestants(job, official if turn == 0 else None).items():
            runs.setdefault(name, []).append(timed(command, cwd))
            print(f"{name:30s} {runs[name][-1]}", flush=True)
    return {
        "seconds": {name: spread([run.wall for run in part]) for name, part in runs.items()},
        "processor seconds": {name: spread([run.cpu for run in part]) for name, part in runs.items()},
        "largest process, MB": {name: max(run.megabytes for run in part) for name, part in runs.items()},
        "seconds, ratio to pliant": {
            name: statistics.median(run.wall for run in part) / statistics.median(run.wall for run in runs["pliant"])
            for name, part in runs.items()
        },
        "processor seconds, ratio to pliant": {
            name: statistics.median(run.cpu for run in part) / statistics.median(run.cpu for run in runs["pliant"])
            for name, part in runs.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, help="checkout of davis2017-evaluation")
    parser.add_argument("--rounds", type=int, default=3, help="of pliant and vos-benchmark; the official tool has one")
    parser.add_argument("--tenth", action="store_true", help="3 sequences in place of 30, for a busy machine")
    parser.add_argument("--job", type=Path, help="keep the job in this folder, and take it from there if it is there")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    root = arguments.job or Path(tempfile.mkdtemp())
    for name, lengths, objects, unsupervised in (
        ("val", LENGTHS, OBJECTS, False),
        ("tenth", LENGTHS[:3], OBJECTS[:3], False),
        ("proposals", [68, 68, 64], [3, 3, 3], True),
    ):
        if not (root / name).exists():
            make_job(root / name, lengths, objects, unsupervised)
    compared = compare(root / ("tenth" if arguments.tenth else "val"), arguments.official, arguments.rounds)
    few, many = (timed(pliant_command(root / name, "davis2017", "-j", "1")) for name in ("tenth", "val"))
    proposals = [timed(pliant_command(root / "proposals", "davis2017-unsupervised", "-j", "1")) for _ in range(3)]
    startup = timed(pliant_command(root / "tenth", "davis2017", "--help"))
    report = {
        "command": "python benchmarks/evaluation.py " + " ".join(sys.argv[1:]),
        "machine": f"{processor()}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}, Python "
        f"{platform.python_version()}, NumPy {np.__version__}",
        "job": f"{'3 of ' if arguments.tenth else ''}30 sequences, 2029 frames of 480x854, 60 objects, with start-up",
        **compared,
        "pliant, 1 process": {"3 sequences": few._asdict(), "30 sequences": many._asdict()},
        "unsupervised, 20 proposals, 3 objects, 1 process": {
            "seconds a frame": (min(run.wall for run in proposals) - startup.wall) / 200,
            "processor seconds a frame": (min(run.cpu for run in proposals) - startup.cpu) / 200,
        },
    }
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


def processor() -> str:
    """The processor's name, where the system tells."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
