"""One task a sequence, over the processor cores; a worker's failure is the caller's error."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

__all__ = ["Progress", "run_tasks"]

Result = TypeVar("Result")
Progress = Callable[[int, int], None]  # frames done, frames in all


def run_tasks(
    work: Callable[..., Result],
    tasks: Sequence[tuple[Any, ...]],
    sizes: Sequence[int],
    jobs: int | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """``work(*task)`` for every task, in the order of the tasks.

    Parameters
    ----------
    work:
        A function of a module, so that a process can be given it.
    sizes:
        Frames of each task; the longest start first, so that the last ones end together.
    jobs:
        Processes; default one a core that this process may use. 1 works in this process.
    progress:
        Called with frames done and frames in all whenever a task ends.
    """
    longest_first = sorted(range(len(tasks)), key=lambda index: -sizes[index])
    results: dict[int, Result] = {}
    done, total = 0, sum(sizes)
    for index, result in _outcomes(work, tasks, longest_first, min(jobs or _cores(), len(tasks))):
        results[index] = result
        done += sizes[index]
        if progress is not None:
            progress(done, total)
    return [results[index] for index in range(len(tasks))]


def _cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _outcomes(
    work: Callable[..., Result], tasks: Sequence[tuple[Any, ...]], order: Sequence[int], jobs: int
) -> Iterator[tuple[int, Result]]:
    """Index and result of each task as it ends; the first failure is raised and the rest is dropped."""
    if jobs <= 1:
        for index in order:
            yield index, work(*tasks[index])
        return
    # A forked worker starts at once; elsewhere it imports what it needs, which is little.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        futures = {pool.submit(work, *tasks[index]): index for index in order}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
