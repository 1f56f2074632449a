"""What does D²Conv3D cost in the whole network: against the revised baseline, and against grid_sample?

One clip of 8 frames through the baseline (plain convolutions), D²Conv3D (ten dynamic dilated ones, rates
spread around 1) and the same weights with every dynamic layer computed by grid_sample, in turn, round after
round, in one process. Memory is the peak above what the process held before the forward, each network in a
process of its own.

    python benchmarks/d2conv3d.py -o benchmarks/results/d2conv3d.json
    python benchmarks/d2conv3d.py --size 240 432 --precision bf16 --clock processor --threads 1
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent))
import pliant
from baselines import dilated_by_grid_sample
from pliant.inference.frames import prepare
from pliant.nn import DynamicDilatedConv3d
from run import CLOCKS, machine

NETWORKS = ("revised baseline", "D²Conv3D", "D²Conv3D by grid_sample")


class GridSampled(DynamicDilatedConv3d):
    """The same layer, its operator composed of PyTorch's."""

    def convolve(self, input, learned, mask):
        conv = self.deform_conv
        rates = self.spread(learned)
        return dilated_by_grid_sample(input, rates, conv.weight, conv.bias, mask, padding=1)


def network(name: str, precision: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "revised baseline":
        return prepare(pliant.build("threedc_seg_revised"), precision)
    built = pliant.build("d2conv3d")
    for module in built.modules():
        if isinstance(module, DynamicDilatedConv3d):
            nn.init.normal_(module.deform_params.weight, std=0.02)
            if name == "D²Conv3D by grid_sample":
                module.__class__ = GridSampled
    return prepare(built, precision)


def clip(size: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
    rows, columns = (-(-side // 32) * 32 for side in size)
    torch.manual_seed(1)
    values = torch.randn(1, 3, 8, rows, columns).to(dtype)
    return values.contiguous(memory_format=torch.channels_last_3d)


def measure(arguments: argparse.Namespace, names: tuple[str, ...]) -> dict[str, list[float]]:
    networks = {name: network(name, arguments.precision) for name in names}
    given = clip(arguments.size, next(networks[names[0]].parameters()).dtype)
    clock = CLOCKS[arguments.clock]
    samples: dict[str, list[float]] = {name: [] for name in names}
    with torch.inference_mode():
        for round_number in range(-1, arguments.rounds):  # the first one warms up
            for name in names:
                start = clock()
                networks[name](given)
                if round_number >= 0:
                    samples[name].append(clock() - start)
    return samples


@torch.inference_mode()
def check() -> None:
    """Nothing is timed that does not match: ours and grid_sample's answer to a small clip, in float32."""
    given = clip((64, 96), torch.float32)
    ours, theirs = (network(name, "fp32")(given) for name in NETWORKS[1:])
    error = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    if error > 1e-3:
        raise SystemExit(f"the operator and grid_sample differ by {error:.2g} of the largest value")


def peak(name: str, arguments: argparse.Namespace) -> None:
    """Child process: print the megabytes that a forward needs above what was there before."""
    built = network(name, arguments.precision)
    given = clip(arguments.size, next(built.parameters()).dtype)
    with torch.inference_mode():
        before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        built(given)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 854), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--without-grid-sample", action="store_true")
    parser.add_argument("--peak-of", choices=NETWORKS, help=argparse.SUPPRESS)
    parser.add_argument("-o", "--out", type=Path, help="add the results to this JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak_of:
        return peak(arguments.peak_of, arguments)
    names = NETWORKS[:2] if arguments.without_grid_sample else NETWORKS
    options = ["--size", *map(str, arguments.size), "--precision", arguments.precision]
    options += ["--threads", str(arguments.threads)]
    check()
    results = {}
    for name, seconds in measure(arguments, names).items():
        child = subprocess.run(
            [sys.executable, __file__, *options, "--peak-of", name], capture_output=True, text=True, check=True
        )
        results[name] = {
            "seconds": round(statistics.median(seconds), 3),
            "all_seconds": [round(s, 3) for s in seconds],
            "peak_megabytes": round(float(child.stdout.split()[-1])),
        }
    for name, found in results.items():
        ratio = {key: found[key] / results[names[0]][key] for key in ("seconds", "peak_megabytes")}
        print(f"{name:26s} {found['seconds']:8.2f} s ({ratio['seconds']:.2f}x)"
              f" {found['peak_megabytes']:7d} MB ({ratio['peak_megabytes']:.2f}x)")  # fmt: skip
    if arguments.out:
        record = {"command": " ".join(sys.argv), "machine": machine(), "clock": arguments.clock, "results": results}
        runs = json.loads(arguments.out.read_text()) if arguments.out.exists() else []
        arguments.out.write_text(json.dumps([*runs, record], indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
