"""``pliant convert-masks``: masks between the formats that tools and servers take."""

from __future__ import annotations

from pathlib import Path

import click

from pliant.export.read_masks import READERS, read_mask_videos
from pliant.export.submission import SERVERS, write_submission
from pliant.export.write_masks import WRITERS, write_mask_videos

__all__ = ["convert_masks"]

_PATH = click.Path(path_type=Path)
_ZIPS = {f"{server}-zip": server for server in SERVERS}


@click.command("convert-masks")
@click.argument("source", type=_PATH)
@click.option("-o", "--output", required=True, type=_PATH, help="Folder, JSON file or zip to write; must not exist.")
@click.option("--to", "target", required=True, type=click.Choice([*WRITERS, *_ZIPS]), help="Format to write.")
@click.option("--from", "form", type=click.Choice(list(READERS)), help="Format to read.  [default: what it looks like]")
@click.option("--like", type=_PATH, help="Data set to check a zip against, or annotation file that names the videos.")
@click.option("--set", "split", default="test-dev", show_default=True, help="Split of a DAVIS zip.")
def convert_masks(source: Path, output: Path, target: str, form: str | None, like: Path | None, split: str) -> None:
    """Convert the masks in SOURCE.

    \b
    indexed              <video>/<frame>.png, the number of the object in each pixel
    objects              <video>/<object>/<frame>.png, 0 and 255
    youtube-vis          JSON with videos, categories, annotations
    youtube-vis-results  JSON list of results, for the servers of YouTube-VIS and OVIS
    mots                 <video>.txt of KITTI MOTS and MOTSChallenge
    davis-zip, youtube-vos-zip, youtube-vis-zip
                         results, checked against the data set of --like and packed as the server asks
    """
    if target in _ZIPS:
        if like is None:
            raise click.UsageError(f"--to {target} needs --like, the data set that the results belong to")
        count = write_submission(_ZIPS[target], source, like, output, split)
        click.echo(f"written: {output} ({count} files)")
        return
    count = write_mask_videos(read_mask_videos(source, form, like), output, target)
    click.echo(f"written: {output} ({count} videos)")
