"""Ctrl-C between frames, never within one: a tracker cut off in the middle of a frame has a state of no frame."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["interrupted_only_after"]


@contextmanager
def interrupted_only_after() -> Iterator[None]:
    """Hold an interruption (SIGINT) back until the block is done, then raise ``KeyboardInterrupt``.

    A second one within the block is let through at once. Only the main thread receives interruptions; in others, and
    where the program handles SIGINT in its own way, nothing is changed.
    """
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or previous is not signal.default_int_handler:
        yield
        return
    pending = False

    def hold(number: int, frame: object) -> None:
        nonlocal pending
        if pending:
            raise KeyboardInterrupt
        pending = True

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if pending:
        raise KeyboardInterrupt
