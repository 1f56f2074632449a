"""``pliant convert-checkpoint``: somebody's trained weights as a safetensors file that pliant loads."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CHECKPOINT...")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT.safetensors")
@click.option("--model", help="What the checkpoint is, where its keys do not tell (see `pliant models`).")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def convert_checkpoint(sources: tuple[Path, ...], out: Path, model: str | None, overwrite: bool, as_json: bool) -> None:
    """Convert an official CHECKPOINT (STCN, XMem, ...) to OUT.safetensors; nothing in it is executed.

    Two checkpoints, torchvision's ResNet-50 and ResNet-18, make the initial weights of a training.
    """
    from pliant.models.conversion import convert_checkpoint as convert

    result = convert(sources, out, model=model, overwrite=overwrite)
    if as_json:
        click.echo(json.dumps({"out": str(out), **vars(result)}))
        return
    click.echo(f"{result.what}: {result.tensors} tensors, {result.parameters:,} parameters -> {out}")
    if len(sources) == 1:
        click.echo(f"use it with: pliant track CLIP --mask MASK --model {result.model} --weights {out}")
