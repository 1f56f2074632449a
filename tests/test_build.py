"""The native build: without a compiler the installation goes on, without the kernels."""

from __future__ import annotations

import os
import subprocess
import sys

from conftest import ROOT


def test_a_missing_compiler_is_no_error(tmp_path):
    nowhere = {"CC": "/nowhere/cc", "CXX": "/nowhere/c++"}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", tmp_path / "lib", "--build-temp", tmp_path]
    run = subprocess.run(command, cwd=ROOT, env={**os.environ, **nowhere}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert 'building extension "pliant._C" failed' in run.stderr
    assert not list(tmp_path.rglob("_C*"))
