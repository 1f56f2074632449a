"""Zip files as the servers of the challenges take them, checked before they are written."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from pliant.datasets.davis import sequence_names
from pliant.datasets.youtube_vis import read_annotations
from pliant.datasets.youtube_vos import required_frames
from pliant.errors import DatasetError, OutputError, ResultsError, UnknownNameError
from pliant.evaluation.output import write_bytes
from pliant.evaluation.results import find_results
from pliant.evaluation.tracks import read_results

__all__ = ["SERVERS", "write_submission"]

_Entries = Iterator[tuple[str, Path]]  # name in the zip, file


def write_submission(server: str, results: str | Path, like: str | Path, path: str | Path, split: str) -> int:
    """Write the zip of results for a server; the number of files in it.

    Parameters
    ----------
    server:
        A name of ``SERVERS``.
    results:
        Folder of ``<sequence>/<frame>.png`` (davis, youtube-vos) or results file (youtube-vis).
    like:
        What the results are checked against: root of the dataset (davis: the lists and images), its split folder
        (youtube-vos: meta.json) or its annotation file (youtube-vis, ovis).
    path:
        The zip file. It must not be there yet.
    split:
        Of davis: test-dev, test-challenge, val.

    Raises ResultsError that names the first file that is missing or does not fit, DatasetError, OutputError.
    """
    results, like, path = Path(results), Path(like), Path(path)
    if server not in SERVERS:
        raise UnknownNameError("server", server, SERVERS)
    if path.exists():
        raise OutputError(f"{path} is there already; name a place that is not, or remove it")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in SERVERS[server](results, like, split):
            # One date for all, so that equal results give equal files.
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), source.read_bytes(), zipfile.ZIP_DEFLATED)
    write_bytes(path, file.getvalue())
    return len(archive.namelist())


def _davis(results: Path, like: Path, split: str) -> _Entries:
    """The folders of the sequences at the top: a zip with one folder around them is refused."""
    year = 2019 if (like / "ImageSets" / "2019" / f"{split}.txt").is_file() else 2017
    needed = []
    for name in sequence_names(like, split, year, notes=[]):
        images = sorted((like / "JPEGImages" / "480p" / name).glob("*.jpg"))
        if not images:
            raise DatasetError(f"sequence {name} has no image in {like / 'JPEGImages' / '480p' / name}")
        needed.append((name, [f"{image.stem}.png" for image in images]))
    find_results(results, needed)
    for name, frames in needed:
        for frame in frames:
            yield f"{name}/{frame}", results / name / frame


def _youtube_vos(results: Path, like: Path, split: str) -> _Entries:
    """A folder Annotations around those of the videos; the frames that meta.json asks for."""
    needed = [(name, [f"{frame}.png" for frame in frames]) for name, frames in required_frames(like).items()]
    find_results(results, needed, "video")
    for name, frames in needed:
        for frame in frames:
            yield f"Annotations/{name}/{frame}", results / name / frame


def _youtube_vis(results: Path, like: Path, split: str) -> _Entries:
    """results.json alone, without a folder."""
    _, warnings = read_results(results, read_annotations(like, tracks=False))
    if warnings:
        raise ResultsError(f"{results} does not fit {like}: {warnings[0]}")
    yield "results.json", results


# server -> files of (results, dataset, split)
SERVERS: dict[str, Callable[[Path, Path, str], _Entries]] = {
    "davis": _davis,
    "youtube-vos": _youtube_vos,
    "youtube-vis": _youtube_vis,
}
