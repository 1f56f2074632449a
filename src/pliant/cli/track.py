"""``pliant track``: follow marked objects through a video, a folder of images, a camera or a stream."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pliant.cli.common import Quietness, progress_bar, verbosity

__all__ = ["track"]

_BOX = "x0,y0,x1,y1[@FRAME]"


class _Box(click.ParamType):
    """A box in pixels and the frame it belongs to (0 unless said)."""

    name = _BOX

    def convert(self, value, param, ctx):
        try:
            corners, _, frame = value.partition("@")
            box = tuple(float(part) for part in corners.split(","))
            if len(box) != 4:
                raise ValueError
            return box, int(frame) if frame else 0
        except ValueError:
            self.fail(f"{value!r} is no box; expected {_BOX}, four numbers in pixels.", param, ctx)


@click.command()
@click.argument("clip", required=False)
@click.option("--source", help="A camera (camera:0) or stream address instead of CLIP.")
@click.option("--mask", type=click.Path(), help="Mask image, RLE JSON, or folder of masks by frame.")
@click.option("--box", "boxes", type=_Box(), multiple=True, help="Mark an object by a box; may be given again.")
@click.option("--auto", is_flag=True, help="Follow what is salient at the start, nothing marked (`pliant salient`).")
@click.option("--auto-weights", type=click.Path(), metavar="FILE", help="Weights for --auto instead of the embedded.")
@click.option("-o", "--out", type=click.Path(), required=True, help="Folder for the results.")
@click.option("--model", default="default", show_default=True, help="A name that `pliant models` lists.")
@click.option("--weights", type=click.Path(), help="Weights file instead of the embedded one.")
@click.option("--size", default=480, show_default=True, help="Short side in pixels at which the network looks.")
@click.option("--memory-every", default=3, show_default=True, help="Remember every so many frames.")
@click.option("--precision", type=click.Choice(["auto", "bf16", "fp32"]), default="auto", show_default=True)
@click.option("--start", type=int, default=0, help="First frame; masks and boxes count from it.")
@click.option("--alpha", type=click.Choice(["vp9", "prores"]), help="Also a video with transparency an object.")
@click.option("--show-policy", is_flag=True, help="Also policy.mp4: what gates skip, reuse and compute where.")
@click.option("--no-overlay", is_flag=True, help="Do not write overlay.mp4.")
@click.option("--overwrite", is_flag=True, help="Replace results that are in OUT.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run in OUT.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, nothing else.")
@verbosity
def track(
    clip: str | None,
    source: str | None,
    mask: str | None,
    boxes: tuple,
    auto: bool,
    auto_weights: str | None,
    out: str,
    model: str,
    weights: str | None,
    size: int,
    memory_every: int,
    precision: str,
    start: int,
    alpha: str | None,
    show_policy: bool,
    no_overlay: bool,
    overwrite: bool,
    resume: bool,
    as_json: bool,
    quietness: Quietness,
) -> None:
    """Follow the objects marked by --mask, --box or --auto through CLIP (a file, a folder or a pattern of images).

    \b
    pliant track clip.mp4 --mask first.png -o out/
    pliant track clip.mp4 --box 310,120,480,400 -o out/
    pliant track clip.mp4 --auto -o out/
    pliant track --source camera:0 --mask first.png -o out/
    """
    if (clip is None) == (source is None):
        raise click.UsageError("give one source: CLIP, or --source ADDRESS.")
    if auto and (mask is not None or boxes):
        raise click.UsageError("--auto finds the first mask itself: leave --mask and --box out.")
    if auto and clip is None:
        raise click.UsageError("--auto looks at the first frames twice, which a live source does not allow: give CLIP.")
    if mask is None and not boxes and not auto:
        raise click.UsageError("mark what to follow: --mask FILE, --box x0,y0,x1,y1, or --auto.")
    from pliant.inference.frames import prepare
    from pliant.inference.jobs import track_to_folder
    from pliant.inference.salient import first_mask
    from pliant.models import load, resolve
    from pliant.video import read

    if auto:
        mask = first_mask(clip, weights=auto_weights, start=start, precision=precision)
    by_frame: dict[int, list] = {}
    for box, frame in boxes:
        by_frame.setdefault(frame, []).append(box)
    with read(clip if clip is not None else source, start=start) as frames:
        name = resolve(model)
        network = prepare(load(name, weights), precision)
        with progress_bar("tracking", frames.info.frame_count, quiet=quietness.quiet or as_json) as advance:
            summary = track_to_folder(
                frames, out, network, mask=mask, boxes=by_frame, size=size, memory_every=memory_every,
                overwrite=overwrite, resume=resume, overlay=not no_overlay, alpha=alpha,
                show_policy=show_policy,
                about={"model": name, "weights": weights or "embedded", "precision": precision},
                on_frame=lambda p: advance(p.done, f"{p.frames_per_second:.1f} frames/s"),
            )  # fmt: skip
    if as_json:
        click.echo(json.dumps(summary))
    elif not quietness.quiet:
        _print(summary, Path(out))


def _print(summary: dict, out: Path) -> None:
    for warning in summary.get("warnings", []):
        click.echo(f"warning: {warning}", err=True)
    for identity, found in summary["objects"].items():
        name = f" ({found['name']})" if found.get("name") and found["name"] != identity else ""
        lost = ", ".join(f"{a}-{b}" for a, b in found["lost"])
        click.echo(
            f"object {identity}{name}: seen in {found['frames_seen']} of {summary['frames']} frames"
            + (f", lost in {lost}" if lost else "")
        )
    click.echo(f"{summary['frames']} frames, {summary.get('frames_per_second', '?')} frames a second")
    files = {
        "overlay": "overlay.mp4", "decisions": "policy.mp4", "masks": "masks", "contact sheet": "contact_sheet.png"
    }  # fmt: skip
    for what, file in files.items():
        if (out / file).exists():
            click.echo(f"{what + ':':15}{out / file}")
