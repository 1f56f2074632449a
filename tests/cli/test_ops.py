"""``pliant ops``: a row an operator; says what is missing and how to get it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from pliant.ops import OPERATORS


def pliant_ops(*arguments, **environment):
    command = [sys.executable, "-m", "pliant", "ops", *arguments]
    run = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_every_operator_has_a_row():
    lines = pliant_ops().splitlines()
    assert {name for name in OPERATORS if any(line.startswith(f"{name} ") for line in lines)} == set(OPERATORS)


def test_what_has_no_gpu_kernels_is_named_and_what_runs_instead():
    assert "gpu, memory_readout, warp: no kernels for the gpu; the reference runs there" in pliant_ops().splitlines()


def test_without_the_library_it_says_so_and_what_to_do(tmp_path):
    broken = tmp_path / "_C.so"
    broken.write_bytes(b"not a library")
    text = pliant_ops(PLIANT_NATIVE_LIBRARY=str(broken))
    assert "native kernels: none" in text and "pip install --no-build-isolation" in text
    rows = json.loads(pliant_ops("--json", PLIANT_NATIVE_LIBRARY=str(broken)))["operators"]
    assert rows["deform_conv3d"]["reference"] is None and "cannot be loaded" in rows["deform_conv3d"]["cpu"]


def test_an_instruction_set_can_be_capped_from_outside():
    found = json.loads(pliant_ops("--json", PLIANT_INSTRUCTION_SET="plain"))
    assert found["native"]["missing"] or found["native"]["instruction_set"] == "plain"
