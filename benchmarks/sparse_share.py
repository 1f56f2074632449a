"""How does the time of a sparse convolution fall with the computed share, copied and in place?

    python benchmarks/sparse_share.py [--dtype float32 bfloat16] [--threads N]
    [--clock wall processor] [--seconds 1.5] [--json FILE]

The benchmark cases of sparse_conv2d (256 to 256 channels, 3 x 3; bias, residual and ReLU fused), in alternation with
the dense convolution alone (channels-last, without residual and ReLU). Printed: medians, and how many times faster.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from baselines import BASELINES, sparse_channels_last
from pliant.ops import OPERATORS, sparse_conv2d, sparse_conv2d_
from run import CLOCKS, DTYPES, forward_call, machine, measure


def contestants(case, dtype: torch.dtype) -> dict[str, object]:
    """The three that take turns."""
    made = case.make(dtype)
    ours = sparse_channels_last(made)
    own = ours | {"previous": ours["previous"].clone(memory_format=torch.channels_last)}
    dense = BASELINES["sparse_conv2d"]["dense"]
    return {
        "dense": forward_call(dense.call, dense.prepare(made)),
        "copied": forward_call(sparse_conv2d, ours),
        "in place": forward_call(sparse_conv2d_, own),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", nargs="*", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--seconds", type=float, default=1.5, help="a row")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: for a machine with other work")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print(" ".join(f"{k}: {v}" for k, v in machine().items()))
    rows = []
    for case in (case for case in OPERATORS["sparse_conv2d"].cases if case.benchmark):
        for dtype in chosen.dtype:
            found = measure(contestants(case, DTYPES[dtype]), chosen.seconds, CLOCKS[chosen.clock])
            rows.append({"case": case.name, "dtype": dtype, "clock": chosen.clock, **found})
            dense = found["dense"]["median"]
            times = ", ".join(
                f"{label} {found[label]['median']:.2f} ms ({dense / found[label]['median']:.1f}x)"
                for label in ("copied", "in place")
            )
            print(f"{case.name}, {dtype}: dense {dense:.2f} ms, {times}", flush=True)
    if chosen.json:
        command = "python benchmarks/sparse_share.py"
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps({"command": command, "machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
