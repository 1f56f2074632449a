"""What several commands share: progress on the terminal, -v and -q."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import click

__all__ = ["Quietness", "progress_bar", "verbosity"]


@dataclass(frozen=True)
class Quietness:
    """quiet: results only in files. verbose: more than usual."""

    quiet: bool
    verbose: bool


def verbosity(command: Callable) -> Callable:
    """Adds -q and -v; the function receives ``quietness``."""

    @click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
    @click.option("-v", "--verbose", is_flag=True, help="Print more.")
    @click.pass_context
    def wrapped(context: click.Context, quiet: bool, verbose: bool, **arguments):
        logging.basicConfig(level=logging.DEBUG if verbose else logging.WARNING, format="%(name)s: %(message)s")
        return context.invoke(command, quietness=Quietness(quiet, verbose), **arguments)

    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    if hasattr(command, "__click_params__"):
        wrapped.__click_params__ = command.__click_params__ + wrapped.__click_params__
    return wrapped


@contextmanager
def progress_bar(what: str, total: int | None, *, quiet: bool = False) -> Iterator[Callable[[int, str], None]]:
    """A bar with speed and time left on standard error; yields ``advance(done, text)``."""
    if quiet:
        yield lambda done, text="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total, note="")
        yield lambda done, text="": progress.update(task, completed=done, note=text)
