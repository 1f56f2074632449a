"""``pliant salient``: find what moves and matters in a video, nothing given."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pliant.cli.common import Quietness, progress_bar, verbosity

__all__ = ["salient"]

_SHOWN = ("dilation", "modulation")


def _names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in (value or "").split(",") if name.strip())
    for name in names:
        if name not in _SHOWN:
            raise click.BadParameter(f"{name!r} cannot be shown; expected {' or '.join(_SHOWN)}.")
    return names


@click.command()
@click.argument("clip", required=False)
@click.option("--source", help="A camera (camera:0) or stream address instead of CLIP.")
@click.option("-o", "--out", type=click.Path(), required=True, help="Folder for the results.")
@click.option("--model", default="default", show_default=True, help="A name that `pliant models` lists.")
@click.option("--weights", type=click.Path(), help="Weights file instead of the embedded one.")
@click.option("--threshold", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.5,
              show_default=True, help="Probability above which a pixel counts.")  # fmt: skip
@click.option("--keep-largest", type=click.IntRange(1), metavar="N", help="At most N objects a frame.")
@click.option("--smallest", type=click.FloatRange(0, 1, max_open=True), default=0.0005, show_default=True,
              help="Drop objects below this share of the frame.")  # fmt: skip
@click.option("--size", type=click.IntRange(32), help="Side in pixels at which the network looks; else its own.")
@click.option("--overlap", type=click.IntRange(0), default=3, show_default=True,
              help="Frames that neighbouring clips share; 7 is the papers' dense mode.")  # fmt: skip
@click.option("--average", type=click.Choice(["probabilities", "logits"]), default="probabilities",
              show_default=True, help="What is averaged where clips overlap.")  # fmt: skip
@click.option("--precision", type=click.Choice(["auto", "bf16", "fp32"]), default="auto", show_default=True)
@click.option("--start", type=click.IntRange(0), default=0, help="First frame.")
@click.option("--soft", is_flag=True, help="Also soft masks: the probability of each pixel, 0 to 255.")
@click.option("--show", callback=_names, metavar="dilation,modulation",
              help="Also videos of the network's dilation rates and modulations over the frames.")  # fmt: skip
@click.option("--alpha", type=click.Choice(["vp9", "prores"]), help="Also a video with transparency an object.")
@click.option("--no-overlay", is_flag=True, help="Do not write overlay.mp4.")
@click.option("--overwrite", is_flag=True, help="Replace results that are in OUT.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run in OUT.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, nothing else.")
@verbosity
def salient(
    clip: str | None,
    source: str | None,
    out: str,
    model: str,
    weights: str | None,
    precision: str,
    start: int,
    no_overlay: bool,
    as_json: bool,
    quietness: Quietness,
    **options,
) -> None:
    """Separate what moves and matters from the rest of CLIP (a file, a folder or a pattern of images).

    \b
    pliant salient clip.mp4 -o out/
    pliant salient clip.mp4 -o out/ --keep-largest 1 --soft
    pliant salient --source camera:0 -o out/
    """
    if (clip is None) == (source is None):
        raise click.UsageError("give one source: CLIP, or --source ADDRESS.")
    from pliant.inference.frames import prepare
    from pliant.inference.salient_jobs import salient_to_folder
    from pliant.models import load, resolve
    from pliant.video import read

    name = resolve(model, task="salient")
    network = prepare(load(name, weights), precision)
    if not 0 <= options["overlap"] < network.clip_length:
        raise click.UsageError(f"--overlap must be below the clip's {network.clip_length} frames.")
    with read(clip if clip is not None else source, start=start) as frames:
        count = frames.info.frame_count
        with progress_bar("finding", count, quiet=quietness.quiet or as_json) as advance:
            summary = salient_to_folder(
                frames, out, network, overlay=not no_overlay,
                about={"model": name, "weights": weights or "embedded", "precision": precision},
                on_frame=lambda p: advance(p.done, f"{p.frames_per_second:.1f} frames/s"),
                **options,
            )  # fmt: skip
    if as_json:
        click.echo(json.dumps(summary))
    elif not quietness.quiet:
        _print(summary, Path(out))


def _print(summary: dict, out: Path) -> None:
    for warning in summary.get("warnings", []):
        click.echo(f"warning: {warning}", err=True)
    for identity, found in summary["objects"].items():
        click.echo(f"object {identity}: in {found['frames_seen']} of {summary['frames']} frames")
    if not summary["objects"]:
        click.echo("nothing found")
    click.echo(f"{summary['frames']} frames, {summary.get('frames_per_second', '?')} frames a second")
    files = {"overlay": "overlay.mp4", "masks": "masks", "soft masks": "soft", "contact sheet": "contact_sheet.png"}
    files |= {name: f"{name}.mp4" for name in _SHOWN}
    for what, file in files.items():
        if (out / file).exists():
            click.echo(f"{what + ':':15}{out / file}")
