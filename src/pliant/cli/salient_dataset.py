"""``pliant salient-dataset``: every sequence of a dataset, no mask of it looked at, ready for an evaluator."""

from __future__ import annotations

from pathlib import Path

import click

from pliant.cli.common import Quietness, progress_bar, verbosity

__all__ = ["salient_dataset"]


@click.command()
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--set", "split", default="val", show_default=True, help="Split: val, train, test-dev, valid, ...")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder for the results.")
@click.option("--model", default="default", show_default=True, help="A name that `pliant models` lists.")
@click.option("--weights", type=click.Path(), help="Weights file instead of the embedded one.")
@click.option("--threshold", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.5,
              show_default=True, help="Probability above which a pixel counts.")  # fmt: skip
@click.option("--keep-largest", type=click.IntRange(1), metavar="N", help="At most N objects a frame.")
@click.option("--size", type=click.IntRange(32), help="Side in pixels at which the network looks; else its own.")
@click.option("--overlap", type=click.IntRange(0), default=3, show_default=True,
              help="Frames that neighbouring clips share; 7 is the papers' dense mode.")  # fmt: skip
@click.option("--precision", type=click.Choice(["auto", "bf16", "fp32"]), default="auto", show_default=True)
@click.option("--one-object", is_flag=True, help="All of it as one object (DAVIS 2016) instead of ids by region.")
@click.option("--overwrite", is_flag=True, help="Do sequences again whose results are in OUT.")
@click.option("--resume", is_flag=True, help="Skip sequences whose results are in OUT.")
@verbosity
def salient_dataset(
    root: Path,
    split: str,
    out: Path,
    model: str,
    weights: str | None,
    threshold: float,
    keep_largest: int | None,
    size: int | None,
    overlap: int,
    precision: str,
    one_object: bool,
    overwrite: bool,
    resume: bool,
    quietness: Quietness,
) -> None:
    """Find what moves and matters in every sequence of ROOT, into OUT/<sequence>/<frame>.png.

    \b
    pliant salient-dataset DAVIS --set val --one-object -o results/
    pliant evaluate davis2016 --gt DAVIS --results results/
    """
    from pliant.inference.datasets import salient_dataset as run
    from pliant.inference.frames import prepare
    from pliant.models import load

    network = prepare(load(model, weights, task="salient"), precision)
    with progress_bar("sequences", None, quiet=quietness.quiet) as advance:
        written = run(
            root, split, out, network, threshold=threshold, keep_largest=keep_largest, size=size, overlap=overlap,
            one_object=one_object, overwrite=overwrite, resume=resume,
            on_frame=lambda p: advance(p.number - 1, f"of {p.sequences}: {p.sequence} {p.done}/{p.total}"),
        )  # fmt: skip
    if not quietness.quiet:
        click.echo(f"{len(written)} sequences in {out}")
