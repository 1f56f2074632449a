"""How long does each operator take, beside its baselines? Every benchmark case of ``OPERATORS``, in
alternation.

    python benchmarks/run.py [--operator NAME ...] [--case TEXT] [--dtype float32 bfloat16] [--backward] [--memory]
    [--without BASELINE ...] [--json FILE]

A row is one case: the operator and its baselines run in turn, round after round, in one process; printed are
medians (of the rounds without an involuntary context switch, or of the three fastest where those are fewer),
and their ratio to each baseline. bfloat16 is also held against the baseline in float32. Nothing is timed
that does not match. --memory adds the peak of the resident memory above what was there before the call (Linux).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import platform
import resource
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from baselines import BASELINES, LAYOUT
from pliant.ops import OPERATORS, native

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def machine() -> dict[str, object]:
    """What the numbers depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {
        "processor": name,
        "threads": torch.get_num_threads(),
        "kernels": native.why_missing() or native.instruction_set(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def one_sample(call, clock) -> tuple[float, bool]:
    """Seconds, and whether the process kept its processors meanwhile (which the processor's time does not need)."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    start = clock()
    call()
    seconds = clock() - start
    if clock is time.process_time:
        return seconds, True
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw == before


def summary(samples: list[tuple[float, bool]]) -> dict[str, float]:
    """Median and quartiles in milliseconds, of the clean samples or of the three fastest."""
    clean = sorted(s for s, undisturbed in samples if undisturbed)
    if len(clean) < 3:
        clean = sorted(s for s, _ in samples)[:3]
    quarter = len(clean) // 4
    milliseconds = [1000 * s for s in (statistics.median(clean), clean[quarter], clean[-1 - quarter])]
    return dict(zip(("median", "low", "high"), milliseconds)) | {"samples": len(clean)}


def forward_call(function, arguments):
    def call():
        with torch.no_grad():
            return function(**arguments)

    return call


def training_call(function, arguments, wanted):
    leaves = {k: v.detach().requires_grad_(k in wanted) if torch.is_tensor(v) else v for k, v in arguments.items()}
    gradient = torch.randn_like(function(**leaves).detach())

    def call():
        for name in wanted:
            leaves[name].grad = None
        function(**leaves).backward(gradient)

    return call


def peak_megabytes(call) -> float:
    """How far the resident memory rises during a call: its results, its gradients and all its workspace."""

    def resident(field: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = resident("VmRSS")
    call()
    return resident("VmHWM") - before


def contestants(name: str, case, dtype: torch.dtype, backward: bool, without: list[str]) -> dict[str, object]:
    """What takes turns: the operator first, then its baselines, in ``dtype``; for bfloat16 the dense one in
    float32.
    """
    made = case.make(dtype)
    parts = {"ours": (OPERATORS[name].function, LAYOUT[name](made))}
    for label, baseline in BASELINES[name].items():
        if label not in without and (dtype == torch.float32 or label == "dense"):
            parts[label] = (baseline.call, baseline.prepare(made))
    if dtype != torch.float32 and "dense" in parts and "dense float32" not in without:
        baseline = BASELINES[name]["dense"]
        parts["dense float32"] = (baseline.call, baseline.prepare(case.make(torch.float32)))
    with torch.no_grad():
        for label, baseline in BASELINES[name].items():
            if baseline.same and label in parts and dtype == torch.float32:
                found, expected = (
                    function(**arguments) for function, arguments in (parts["ours"], parts[label])
                )
                torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    if not backward:
        return {label: forward_call(*part) for label, part in parts.items()}
    wanted = case.differentiable()
    return {
        label: training_call(
            function,
            arguments,
            [w for w in wanted if label == "ours" or not label.startswith("dense") or w in ("input", "weight", "bias")],
        )
        for label, (function, arguments) in parts.items()
    }


def measure(calls: dict[str, object], seconds: float, clock) -> dict[str, dict[str, float]]:
    """Rounds over all contestants until the time is up, at least four; a slow one sits out after two
    rounds.
    """
    cost = {label: one_sample(call, clock)[0] for label, call in calls.items()}
    fastest = min(cost.values())
    samples: dict[str, list] = {label: [] for label in calls}
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < 4 or time.perf_counter() < end:
        for label, call in calls.items():
            if cost[label] < 5 * fastest or cost[label] < 0.05 or len(samples[label]) < 2:
                samples[label].append(one_sample(call, clock))
        rounds += 1
        if rounds >= 60:
            break
    return {label: summary(found) for label, found in samples.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--operator", nargs="*", choices=OPERATORS, default=list(BASELINES))
    parser.add_argument("--case", default="", help="only cases whose name holds this text")
    parser.add_argument("--dtype", nargs="*", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--backward", action="store_true", help="forward and backward together")
    parser.add_argument("--memory", action="store_true", help="peak memory too")
    parser.add_argument("--without", nargs="*", default=[], help="leave these baselines out")
    parser.add_argument("--seconds", type=float, default=4.0, help="a row")
    parser.add_argument("--json", type=Path, help="add the rows to this file")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: for a machine with other work")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print(" ".join(f"{k}: {v}" for k, v in machine().items()))
    rows = []
    for name in chosen.operator:
        for case in (c for c in OPERATORS[name].cases if c.benchmark and chosen.case in c.name):
            for dtype in chosen.dtype:
                calls = contestants(name, case, DTYPES[dtype], chosen.backward, chosen.without)
                result = measure(calls, chosen.seconds, CLOCKS[chosen.clock])
                if chosen.memory:
                    for label, call in calls.items():
                        result[label]["peak megabytes"] = round(peak_megabytes(call), 1)
                rows.append(
                    {
                        "operator": name,
                        "case": case.name,
                        "dtype": dtype,
                        "backward": chosen.backward,
                        "threads": chosen.threads,
                        "clock": chosen.clock,
                        **result,
                    }
                )
                ours = result["ours"]["median"]
                line = ", ".join(
                    f"{label} {found['median']:.1f} ms"
                    + (f", {found['peak megabytes']:.0f} MB" if chosen.memory else "")
                    + ("" if label == "ours" else f" ({ours / found['median']:.2f}x its time)")
                    for label, found in result.items()
                )
                print(
                    f"{name} [{case.name}] {dtype}{' + backward' if chosen.backward else ''}: {line}",
                    flush=True,
                )
    if chosen.json:
        kept = json.loads(chosen.json.read_text())["rows"] if chosen.json.exists() else []
        key = ("operator", "case", "dtype", "backward", "threads", "clock")
        new = {tuple(row[k] for k in key) for row in rows}
        kept = [row for row in kept if tuple(row.get(k) for k in key) not in new]
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(
            {"command": "python benchmarks/run.py --json FILE", "machine": machine(), "rows": kept + rows}, indent=1
        )
        chosen.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
