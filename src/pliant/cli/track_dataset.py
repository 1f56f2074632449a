"""``pliant track-dataset``: every sequence of a DAVIS or YouTube-VOS folder, ready for an evaluator."""

from __future__ import annotations

from pathlib import Path

import click

from pliant.cli.common import Quietness, progress_bar, verbosity

__all__ = ["track_dataset"]


@click.command()
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--set", "split", default="val", show_default=True, help="Split: val, train, test-dev, valid, ...")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder for the results.")
@click.option("--model", default="default", show_default=True, help="A name that `pliant models` lists.")
@click.option("--weights", type=click.Path(), help="Weights file instead of the embedded one.")
@click.option("--size", default=480, show_default=True, help="Short side in pixels at which the network looks.")
@click.option("--memory-every", default=3, show_default=True, help="Remember every so many frames.")
@click.option("--precision", type=click.Choice(["auto", "bf16", "fp32"]), default="auto", show_default=True)
@click.option("--overwrite", is_flag=True, help="Do sequences again whose results are in OUT.")
@click.option("--resume", is_flag=True, help="Skip sequences whose results are in OUT.")
@verbosity
def track_dataset(
    root: Path,
    split: str,
    out: Path,
    model: str,
    weights: str | None,
    size: int,
    memory_every: int,
    precision: str,
    overwrite: bool,
    resume: bool,
    quietness: Quietness,
) -> None:
    """Follow the objects of every sequence of ROOT from their first masks into OUT/<sequence>/<frame>.png.

    \b
    pliant track-dataset DAVIS --set val -o results/
    pliant evaluate davis2017 --gt DAVIS --results results/
    """
    from pliant.inference.datasets import track_dataset as run
    from pliant.inference.frames import prepare
    from pliant.models import load, resolve

    network = prepare(load(resolve(model), weights), precision)
    with progress_bar("sequences", None, quiet=quietness.quiet) as advance:
        written = run(
            root, split, out, network, size=size, memory_every=memory_every, overwrite=overwrite, resume=resume,
            on_frame=lambda p: advance(p.number - 1, f"of {p.sequences}: {p.sequence} {p.done}/{p.total}"),
        )  # fmt: skip
    if not quietness.quiet:
        click.echo(f"{len(written)} sequences in {out}")
