"""Freed memory is kept, within its bound, unless the user has decided otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from pliant.inference.allocator import keep_freed_memory

# In a process of its own: what a heap does depends on all that happened in it before.
PROGRAM = """
import resource, sys
import numpy as np
from pliant.inference.allocator import keep_freed_memory

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        a, b = np.ones(10 << 20, np.uint8), np.ones(10 << 20, np.uint8)
        del a, b
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    assert keep_freed_memory()
faults(3)
print(faults(20))
"""


def faults(word: str) -> int:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, word], capture_output=True, text=True, env=environment, check=True, timeout=120
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_the_same_memory_is_used_again():
    pages_of_a_block = (10 << 20) // 4096
    assert faults("keep") < 2 * pages_of_a_block, "forty blocks, and less than two of them mapped anew"


@pytest.mark.parametrize(
    ("name", "value"), [("MALLOC_ARENA_MAX", "2"), ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=1000")]
)
def test_the_user_s_own_options_stay(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert not keep_freed_memory()
