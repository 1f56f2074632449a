"""Memory that one frame frees is what the next one needs."""

from __future__ import annotations

import ctypes
import os
import platform

__all__ = ["keep_freed_memory"]

# mallopt's parameters and their values in bytes: blocks up to 64 MiB come from the heap, up to 1 GiB of freed heap
# (more than a frame of the largest network frees) stay with the process, and the heap grows in steps of 32 MiB.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_OPTIONS = {_M_MMAP_THRESHOLD: 64 << 20, _M_TRIM_THRESHOLD: 1 << 30, _M_TOP_PAD: 32 << 20}


def keep_freed_memory() -> bool:
    """Tell glibc to reuse the memory of large activations instead of handing it back at once; whether it was told.

    By default each activation of some megabytes is mapped anew and zeroed page by page by the kernel, which is a tenth
    of a frame's time. At most 1 GiB stays. Elsewhere than on glibc, and where the user has set malloc's options in
    the environment, nothing is changed.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    if "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    library = ctypes.CDLL(None)
    return all(library.mallopt(option, value) for option, value in _OPTIONS.items())
