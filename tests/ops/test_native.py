"""Finding the native kernels, and saying why they are not there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pliant.ops import native

SAY_WHY = "from pliant.ops import native; print(native.why_missing())"


def said(**environment):
    """What a fresh interpreter with this environment says about the library."""
    run = subprocess.run(
        [sys.executable, "-c", SAY_WHY], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_a_named_library_that_is_not_there_is_named():
    assert (
        said(PLIANT_NATIVE_LIBRARY="/nowhere/_C.so")
        == "PLIANT_NATIVE_LIBRARY names /nowhere/_C.so, which does not exist"
    )


def test_a_file_that_is_no_library_is_reported_with_the_way_to_build(tmp_path):
    broken = tmp_path / "_C.so"
    broken.write_bytes(b"not a library")
    answer = said(PLIANT_NATIVE_LIBRARY=str(broken))
    assert str(broken) in answer and "cannot be loaded" in answer and "pip install" in answer


@pytest.mark.skipif(native.why_missing() is not None, reason="needs the native kernels (make build)")
def test_the_instruction_set_can_be_capped_for_a_block():
    best = native.instruction_set()
    with native.use_instruction_set("plain"):
        assert native.instruction_set() == "plain"
    assert native.instruction_set() == best


@pytest.mark.skipif(native.why_missing() is not None, reason="needs the native kernels (make build)")
def test_an_unknown_instruction_set_is_refused():
    with (
        pytest.raises(ValueError, match="plain, avx2, avx512, amx, not 'sse'"),
        native.use_instruction_set("sse"),
    ):
        pass
