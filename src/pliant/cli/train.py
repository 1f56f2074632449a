"""``pliant train``: one loop for every recipe."""

from __future__ import annotations

from pathlib import Path

import click

from pliant.cli.common import Quietness, progress_bar, verbosity

__all__ = ["train"]

_PATHS = click.Path(path_type=Path)


@click.command()
@click.argument("name", metavar="RECIPE")
@click.option("--photos", type=_PATHS, multiple=True, help="Photographs (folder or file; may be repeated).")
@click.option("--cutouts", type=_PATHS, multiple=True, help="Pictures with transparency (may be repeated).")
@click.option("--films", type=_PATHS, multiple=True, help="Film for moving backgrounds (may be repeated).")
@click.option("--videos", type=_PATHS, multiple=True, help="Clips without masks, for self-supervised recipes.")
@click.option("--data", type=_PATHS, help="Clips with masks: a folder in DAVIS or YouTube-VOS layout.")
@click.option("--set", "split", default="train", show_default=True, help="Split of --data.")
@click.option("--from", "initial", help="Start from these weights: a model's name or a file.")
@click.option("--teacher", help="Imitate this: a model's name or a file (spvos_light), u2netp.onnx (salient_small).")
@click.option("--out", type=_PATHS, required=True, help="Folder of the run; an unfinished run there is continued.")
@click.option("--steps", type=int, help="Length of the schedule.")
@click.option("--batch-size", type=int)
@click.option("--learning-rate", type=float)
@click.option("--workers", type=int, default=2, show_default=True, help="Processes that make samples.")
@click.option("--precision", type=click.Choice(["bf16", "fp32"]), default="bf16", show_default=True)
@click.option("--time-limit", type=float, metavar="MINUTES", help="Stop after this time; can be continued.")
@click.option("--finish-in", type=float, metavar="MINUTES", help="Fit the whole schedule into this time.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--no-resume", is_flag=True, help="Begin anew even where OUT holds a run.")
@verbosity
def train(
    name: str,
    photos: tuple[Path, ...],
    cutouts: tuple[Path, ...],
    films: tuple[Path, ...],
    videos: tuple[Path, ...],
    data: Path | None,
    split: str,
    initial: str | None,
    teacher: str | None,
    out: Path,
    workers: int,
    precision: str,
    time_limit: float | None,
    finish_in: float | None,
    seed: int,
    no_resume: bool,
    quietness: Quietness,
    **numbers: float | None,
) -> None:
    """Train RECIPE into the folder OUT.

    \b
    pliant train spvos_small --photos DIR --cutouts DIR --out runs/small
    pliant train spvos_light --teacher spvos_small --photos DIR --cutouts DIR --out runs/light
    pliant train spvos_small --from spvos_small --data my-clips --out runs/mine --finish-in 10
    """
    from pliant.datasets.clip_samples import hold_back
    from pliant.datasets.layouts import read_clips
    from pliant.datasets.sources import Sources
    from pliant.inference.scores import mean_overlap
    from pliant.models import MODELS
    from pliant.training import recipe
    from pliant.training.loop import Settings
    from pliant.training.loop import train as run

    sources = Sources(
        photos, cutouts, films, videos, data, split, _weights(initial), _weights(teacher), out / "cache", seed
    )
    chosen, settings = recipe(name, sources)
    settings.update({key: value for key, value in numbers.items() if value is not None})
    settings.update(
        workers=workers, precision=precision, time_limit=time_limit, finish_in=finish_in, seed=seed
    )
    settings = Settings(**settings)
    measured = data is not None and name in MODELS and MODELS[name].task == "track"
    held_back = hold_back(read_clips(data, split))[1] if measured else []
    before = mean_overlap(chosen.build(), held_back, precision) if held_back and initial else None
    with progress_bar("training", settings.steps, quiet=quietness.quiet) as advance:
        network = run(
            chosen, out, settings, resume=not no_resume,
            on_step=lambda r: advance(r.step, f"loss {r.losses['loss']:.3f}  {r.seconds_left / 60:.0f} min left"),
        )  # fmt: skip
    if not quietness.quiet:
        if held_back:
            after = mean_overlap(network, held_back, precision)
            gain = f", {before:.3f} before: {after - before:+.3f}" if before is not None else ""
            names = ", ".join(clip.name for clip in held_back[:3]) + (", ..." if len(held_back) > 3 else "")
            click.echo(f"J on what was held back ({names}): {after:.3f}{gain}")
        click.echo(f"weights: {out / 'weights.safetensors'}")


def _weights(initial: str | None) -> Path | None:
    """A file, or the embedded weights of a model's name."""
    if initial is None:
        return None
    from pliant.models import MODELS
    from pliant.weights import embedded

    if initial in MODELS:
        return embedded(initial, MODELS[initial].weights)
    return Path(initial)
