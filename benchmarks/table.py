"""Prints the rows of benchmark results as a table for the docs.

python benchmarks/table.py benchmarks/results/operators.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HEAD = "| case | what | ours, ms | dense, ms | ours / dense | others, ms |\n| --- | --- | --- | --- | --- | --- |"


def row(found: dict) -> str:
    """One line: medians, and ours against the dense layer in float32 and, for bfloat16, in bfloat16 too."""
    what = f"{found['dtype']} {'forward + backward' if found['backward'] else 'forward'}"
    ours = found["ours"]["median"]
    dense = [found[key]["median"] for key in ("dense float32", "dense") if key in found]
    ratios = [f"{ours / value:.2f}" for value in dense]
    ratio = f"**{ratios[0]}** of float32, {ratios[1]} of bfloat16" if len(ratios) == 2 else "".join(ratios)
    names = [k for k in found if isinstance(found[k], dict) and k not in ("ours", "dense", "dense float32")]
    others = ", ".join(f"{name} {found[name]['median']:.0f} ({found[name]['median'] / ours:.1f}x)" for name in names)
    times = ", ".join(f"{value:.1f}" for value in dense)
    return f"| {found['operator']}, {found['case']} | {what} | {ours:.1f} | {times} | {ratio} | {others} |"


def main() -> None:
    for name in sys.argv[1:]:
        results = json.loads(Path(name).read_text())
        print(" ".join(f"{k}: {v};" for k, v in results["machine"].items()))
        print(HEAD)
        for found in sorted(results["rows"], key=lambda r: (r["operator"], r["case"], r["backward"], r["dtype"])):
            print(row(found))


if __name__ == "__main__":
    main()
