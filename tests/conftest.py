"""Shared helpers of the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Before anything imports Triton: without a GPU its kernels are tested interpreted.
if not os.path.exists("/dev/nvidiactl"):
    os.environ.setdefault("TRITON_INTERPRET", "1")
# Real footage, fixtures of official networks and answers of official evaluators lie beside the checkout where they
# are at hand; they are not part of the project, so tests that read them skip where they are missing.
SHARED = Path(os.environ.get("PLIANT_SHARED", ROOT.parent / "shared"))


def shared(*parts: str) -> Path:
    """Path below the shared folder; skips the test, naming the path, where it is missing."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{Path('shared', *parts)} is not beside the checkout (set PLIANT_SHARED)")
    return path
