"""``pliant profile``: where a frame's time and multiply-adds go."""

from __future__ import annotations

import dataclasses
import json

import click

__all__ = ["profile"]

_PARTS = {"Q": "query encoder", "M": "memory encoder", "D": "decoder", "-": "between the layers"}


@click.command()
@click.argument("model", default="default")
@click.option("--weights", type=click.Path(), help="Weights file instead of the embedded one, or random ones.")
@click.option("--size", default=480, show_default=True, help="Short side in pixels at which the network looks.")
@click.option("--objects", default=1, show_default=True, help="Objects followed at once.")
@click.option("--frames", default=6, show_default=True, help="Frames averaged.")
@click.option("--memory-every", default=3, show_default=True, help="Remember every so many frames.")
@click.option("--precision", type=click.Choice(["auto", "bf16", "fp32"]), default="auto", show_default=True)
@click.option("--rows", default=25, show_default=True, help="Layers shown, slowest first.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def profile(
    model: str,
    weights: str | None,
    size: int,
    objects: int,
    frames: int,
    memory_every: int,
    precision: str,
    rows: int,
    as_json: bool,
) -> None:
    """Time a frame of MODEL on a made scene of 480 x 854, layer by layer.

    \b
    pliant profile spvos_small
    pliant profile spvos_triple --objects 2 --precision fp32
    """
    from pliant.inference.frames import prepare
    from pliant.inference.layer_times import profile_tracking
    from pliant.models import MODELS, build, load, resolve

    name = resolve(model)
    if MODELS[name].task != "track":
        raise click.UsageError(f"{name} does not follow objects; `pliant models --task track` lists those that do.")
    random = weights is None and MODELS[name].weights is None
    network = prepare(build(name) if random else load(name, weights), precision)
    found = profile_tracking(network, size=size, objects=objects, frames=frames, memory_every=memory_every)
    if as_json:
        click.echo(json.dumps({"model": name, **dataclasses.asdict(found)}, indent=1))
        return
    if random:
        click.echo(f"{name}: no weights embedded, random ones profiled.")
    width = max(len(layer.name) for layer in found.layers[:rows])
    click.echo(f"{'layer':{width}}  part  ms a frame   GMAC")
    for layer in found.layers[:rows]:
        click.echo(f"{layer.name:{width}}  {layer.part:4}  {layer.milliseconds:10.2f}  {layer.gmacs:5.2f}")
    click.echo()
    for part, sums in found.parts.items():
        label = f"{part}, {_PARTS[part]}" if part in _PARTS else part
        click.echo(f"{label:{width}}        {sums.milliseconds:10.2f}  {sums.gmacs:5.2f}")
    total = sum(sums.gmacs for sums in found.parts.values())
    click.echo(f"{'a whole frame, not observed':{width}}        {found.milliseconds:10.2f}  {total:5.2f}")
