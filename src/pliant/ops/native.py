"""Finds and loads the compiled kernels (``pliant._C``), once, at their first use; remembers why they are
missing.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path

import torch

# From weakest to strongest; each includes the ones before it.
INSTRUCTION_SETS = ("plain", "avx2", "avx512", "amx")
INSTALL_HINT = (
    "install a C++17 compiler (Debian, Ubuntu: apt install g++), then: pip install --no-build-isolation ."
)


def _library_path() -> Path | None:
    """``PLIANT_NATIVE_LIBRARY`` where it is set, else the library that the build left in the package."""
    named = os.environ.get("PLIANT_NATIVE_LIBRARY")
    if named:
        return Path(named)
    return next(iter(sorted(Path(__file__).resolve().parents[1].glob("_C*.so"))), None)


@functools.cache
def why_missing() -> str | None:
    """Loads the library; ``None`` when it is there, else one sentence that says why it is not.

    ``PLIANT_NATIVE_LIBRARY`` names another file to load. ``PLIANT_INSTRUCTION_SET`` (plain, avx2, avx512,
    amx) caps what the kernels may use, so that every path can be tested on one machine.
    """
    path = _library_path()
    if path is None:
        return f"the native kernels were not built; {INSTALL_HINT}"
    if not path.exists():
        return f"PLIANT_NATIVE_LIBRARY names {path}, which does not exist"
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        return f"{path} cannot be loaded ({error}); build it again for this PyTorch: {INSTALL_HINT}"
    cap = os.environ.get("PLIANT_INSTRUCTION_SET")
    if cap:
        _set_cap(cap)
    return None


def instruction_set() -> str:
    """The instruction set that the kernels use now: the machine's best, or the cap. Needs the library."""
    why_missing()
    return INSTRUCTION_SETS[torch.ops.pliant_native.instruction_set()]


def bfloat16_products() -> bool:
    """Whether that set multiplies bfloat16 (AVX512_BF16 or AMX). Needs the library."""
    why_missing()
    return torch.ops.pliant_native.bfloat16_products()


def _set_cap(name: str) -> None:
    if name not in INSTRUCTION_SETS:
        raise ValueError(f"instruction set must be one of {', '.join(INSTRUCTION_SETS)}, not {name!r}")
    torch.ops.pliant_native.cap_instruction_set(INSTRUCTION_SETS.index(name))


@contextlib.contextmanager
def use_instruction_set(name: str) -> Iterator[None]:
    """In this block the kernels use at most ``name`` (plain, avx2, avx512 or amx); for tests and
    measurements.
    """
    before = instruction_set()
    _set_cap(name)
    try:
        yield
    finally:
        _set_cap(before)
