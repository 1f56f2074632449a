"""``pliant models``: the networks that this installation can build."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--task", type=click.Choice(["track", "salient", "instances"]), help="Only networks for this task.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def models(task: str | None, as_json: bool) -> None:
    """List the networks: name, task, parameters, weights, speed, what they are."""
    from pliant.models import MODELS

    rows = [_row(name) for name, model in MODELS.items() if task in (None, model.task)]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    width = max(len(row["name"]) for row in rows) if rows else 0
    for row in rows:
        click.echo(
            f"{row['name']:{width}}  {row['task']:9}  {row['parameters'] / 1e6:6.1f} M  {row['weights']:8}  "
            f"{row['speed']:8}  {row['summary']}"
        )


def _row(name: str) -> dict[str, object]:
    import torch

    from pliant.models import MODELS, build
    from pliant.weights import FOLDER
    from pliant.weights.known_files import KNOWN_FILES

    model = MODELS[name]
    with torch.device("meta"):  # shapes alone
        network = build(name)
    if model.weights is not None and (FOLDER / model.weights).is_file():
        weights = "embedded"
    else:
        weights = "file" if any(known.model == name for known in KNOWN_FILES) else "none"
    return {
        "name": name,
        "task": model.task,
        "parameters": sum(p.numel() for p in network.parameters()),
        "weights": weights,
        "speed": model.speed,
        "summary": model.summary,
    }
