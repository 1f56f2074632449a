"""Are the operators right on this GPU, and how fast are they?

    python benchmarks/gpu_check.py [--json benchmarks/results/gpu.json] [--operator NAME ...] [--case TEXT]
    python benchmarks/gpu_check.py --interpret      checks alone, Triton interpreted on the CPU: minutes, no GPU needed

First every case of every operator, forward and all gradients, in float32, float16 and bfloat16, against the reference
in float64 on the CPU, with the tolerances of the tests. An operator or a call that has no Triton kernels runs what it
would run for anybody, the reference on the GPU. Then times, the operator and its baselines in turn, with CUDA events:
forward, and forward with backward; the dense convolution is cuDNN's, in the same precision (float32 exact, float32 by
TF32, bfloat16). A form that computes the same numbers is compared before it is timed.

Exit: 0 all is right, 1 a number is wrong, 2 there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

# Triton reads this when it is first imported.
if "--interpret" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from baselines import BASELINES, LAYOUT
from pliant.ops import OPERATORS, use_backend
from pliant.ops.registration import load_gpu
from pliant.testing.operators import allowed_in_half_precision, assert_near, exact, run
from run import forward_call, training_call

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# What is timed: dtype, and whether float32 may go through TF32.
PRECISIONS = {"float32": (torch.float32, False), "tf32": (torch.float32, True), "bfloat16": (torch.bfloat16, False)}


def allow_tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def on(device: str, arguments: dict) -> dict:
    return {k: v.to(device) if torch.is_tensor(v) else v for k, v in arguments.items()}


def covered(name: str, arguments: dict) -> bool:
    """Whether Triton kernels take this call."""
    if load_gpu(OPERATORS[name].gpu)[1] is not None:
        return False
    with use_backend("gpu"), torch.no_grad():
        try:
            OPERATORS[name].function(**arguments)
        except ValueError as error:
            if "cannot run on the backend" not in str(error):
                raise
            return False
    return True


def check(name: str, case, dtype: torch.dtype, device: str) -> tuple[str, str | None]:
    """Who computed it, "triton" or "reference", and what is wrong with the numbers, or ``None``."""
    function, wanted = OPERATORS[name].function, case.differentiable()
    arguments = case.make(dtype)
    expected = exact(function, arguments, wanted)
    there = on(device, arguments)
    kernels = covered(name, there)
    with use_backend("gpu" if kernels else "reference"):
        found = {key: value.cpu() for key, value in run(function, there, wanted).items()}
    by = "triton" if kernels else "reference"
    if dtype == torch.float32:
        try:
            assert_near(found, expected, 3e-5)
        except AssertionError as error:
            return by, str(error)
        return by, None
    with use_backend("reference"):
        plain = run(function, arguments, wanted)
    for key, (places, allowed) in allowed_in_half_precision(expected, plain, dtype).items():
        error = (found[key].double() - expected[key])[places].abs().max()
        if not error <= allowed:
            return by, f"{key} off by {error:.3g}, allowed {allowed:.3g}"
    return by, None


def check_all(operators: list[str], text: str, device: str, dtypes: list[str]) -> list[dict]:
    rows = []
    for name in operators:
        for case in (c for c in OPERATORS[name].cases if not c.benchmark and text in c.name):
            for dtype in dtypes:
                by, wrong = check(name, case, DTYPES[dtype], device)
                rows.append({"operator": name, "case": case.name, "dtype": dtype, "by": by, "wrong": wrong})
                print(f"{name} [{case.name}] {dtype}, {by}: {wrong or 'right'}", flush=True)
    return rows


def milliseconds(call) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def measure(calls: dict, rounds: int) -> dict[str, dict[str, float]]:
    """Median and quartiles of each contestant over rounds in which they take turns, after two for warming up."""
    samples: dict[str, list[float]] = {label: [] for label in calls}
    for turn in range(rounds + 2):
        for label, call in calls.items():
            time = milliseconds(call)
            if turn >= 2:
                samples[label].append(time)
    quartiles = {label: statistics.quantiles(times, n=4) for label, times in samples.items()}
    return {label: dict(zip(("low", "median", "high"), found)) for label, found in quartiles.items()}


def contestants(name: str, case, dtype: torch.dtype, backward: bool) -> dict:
    """The operator and its baselines on the GPU; a form of the same numbers is compared first, in float32."""
    made = on("cuda", case.make(dtype))
    parts = {"ours": (OPERATORS[name].function, LAYOUT[name](made))}
    parts |= {label: (baseline.call, baseline.prepare(made)) for label, baseline in BASELINES[name].items()}
    if dtype == torch.float32 and not torch.backends.cuda.matmul.allow_tf32:
        with torch.no_grad():
            for label in (label for label, baseline in BASELINES[name].items() if baseline.same):
                ours, same = (function(**arguments) for function, arguments in (parts["ours"], parts[label]))
                torch.testing.assert_close(ours, same, atol=1e-3, rtol=1e-3)
    if not backward:
        return {label: forward_call(*part) for label, part in parts.items()}
    steers = set(case.differentiable())
    return {
        label: training_call(f, a, [w for w in steers if label != "dense" or w in ("input", "weight", "bias")])
        for label, (f, a) in parts.items()
    }


def time_all(operators: list[str], text: str, rounds: int) -> list[dict]:
    rows = []
    for name in operators:
        for case in (c for c in OPERATORS[name].cases if c.benchmark and text in c.name):
            for precision, (dtype, tf32) in PRECISIONS.items():
                allow_tf32(tf32)
                for backward in (False, True):
                    row = {"operator": name, "case": case.name, "precision": precision, "backward": backward}
                    try:
                        row |= measure(contestants(name, case, dtype, backward), rounds)
                    except AssertionError as error:
                        row["wrong"] = str(error)
                    except torch.OutOfMemoryError:
                        row["left out"] = "out of memory"
                    rows.append(row)
                    print(line(row), flush=True)
    allow_tf32(False)
    return rows


def line(row: dict) -> str:
    """A row of the table."""
    what = f"{row['operator']} [{row['case']}] {row['precision']}{' + backward' if row['backward'] else ''}"
    if "wrong" in row:
        return f"{what}: WRONG, {row['wrong']}"
    if "left out" in row:
        return f"{what}: left out, {row['left out']}"
    ours = row["ours"]
    text = f"{what}: {ours['median']:.3f} ms ({ours['low']:.3f} to {ours['high']:.3f})"
    for label in ("dense", "grid_sample"):
        if label in row:
            other = row[label]["median"]
            text += f", {label} {other:.3f} ms (ours {ours['median'] / other:.2f}x its time)"
    return text


def machine() -> dict[str, object]:
    import triton

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none, interpreted"
    versions = {"torch": torch.__version__, "cudnn": torch.backends.cudnn.version(), "triton": triton.__version__}
    return {"gpu": gpu, **versions}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interpret", action="store_true", help="check alone, on the CPU")
    parser.add_argument("--operator", nargs="*", choices=OPERATORS, default=list(OPERATORS))
    parser.add_argument("--case", default="", help="only cases whose name holds this text")
    parser.add_argument("--rounds", type=int, default=20, help="of each measurement")
    parser.add_argument("--json", type=Path, help="write the results here")
    chosen = parser.parse_args()
    if not (chosen.interpret or torch.cuda.is_available()):
        print("There is no GPU that PyTorch sees; --interpret checks the kernels on the CPU.", file=sys.stderr)
        return 2
    _, missing = load_gpu("pliant.ops.deform_conv3d.gpu")
    if missing:
        print(f"The Triton kernels cannot run: {missing}.", file=sys.stderr)
        return 2
    print(" ".join(f"{k}: {v}" for k, v in machine().items()))
    allow_tf32(False)
    operators = [n for n in chosen.operator if OPERATORS[n].gpu] if chosen.interpret else chosen.operator
    # The interpreter cannot multiply matrices of bfloat16.
    dtypes = ["float32", "float16"] if chosen.interpret else list(DTYPES)
    checks = check_all(operators, chosen.case, "cpu" if chosen.interpret else "cuda", dtypes)
    times = [] if chosen.interpret else time_all(operators, chosen.case, chosen.rounds)
    if chosen.json:
        command = "python benchmarks/gpu_check.py --json FILE"
        text = json.dumps({"command": command, "machine": machine(), "checks": checks, "times": times}, indent=1)
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(text + "\n")
    wrong = [row for row in (*checks, *times) if row.get("wrong")]
    print(f"{len(checks)} checks, {len(times)} measurements, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
