"""DAVIS 2016, 2017 and 2019 on disk.

::

    DAVIS/
      JPEGImages/480p/<sequence>/00000.jpg             also Full-Resolution in place of 480p
      Annotations/480p/<sequence>/00000.png            indexed; 0/255 grey in the 2016 release
      Annotations_unsupervised/480p/<sequence>/*.png   the labels of the unsupervised task
      ImageSets/2017/val.txt                           a sequence a line; 2016, 2017, 2019
      ImageSets/480p/val.txt                           2016 release: image and mask a line
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np

from pliant.datasets.clip import Clip
from pliant.datasets.labels import read_labels
from pliant.errors import DatasetError

__all__ = ["annotation_files", "annotation_folder", "clips", "sequence_names"]

# The lists that users miss most often: which download holds ImageSets differs.
_VAL_2016 = """
    blackswan bmx-trees breakdance camel car-roundabout car-shadow cows dance-twirl dog drift-chicane
    drift-straight goat horsejump-high kite-surf libby motocross-jump paragliding-launch parkour scooter-black
    soapbox
"""
_ONLY_2017 = "bike-packing dogs-jump gold-fish india judo lab-coat loading mbike-trick pigs shooting"
_KNOWN_LISTS = {(2016, "val"): _VAL_2016.split(), (2017, "val"): sorted((_VAL_2016 + _ONLY_2017).split())}


def sequence_names(root: Path, split: str, year: int, notes: list[str]) -> list[str]:
    """The sequences of a split, in the order of its list.

    Reads ``ImageSets/<year>/<split>.txt``; for 2016 also the pairs of paths in ``ImageSets/480p``. Where there is no
    list, the published one of the 2016 and 2017 validation split stands in if its sequences are there, and ``notes``
    gets a sentence about it. Raises DatasetError with the path that was expected.
    """
    list_file = root / "ImageSets" / str(year) / f"{split}.txt"
    pair_file = root / "ImageSets" / "480p" / f"{split}.txt"
    if list_file.is_file():
        names = list_file.read_text().split()
    elif year == 2016 and pair_file.is_file():
        names = re.findall(r"Annotations/480p/([^/\s]+)/", pair_file.read_text())
    else:
        names = _KNOWN_LISTS.get((year, split), [])
        present = {path.name for path in (root / "Annotations" / "480p").glob("*")}
        if not names or not present.issuperset(names):
            raise DatasetError(f"{list_file} is missing; {_expected(root, year)}")
        notes.append(f"{list_file} is missing; the published list of {len(names)} sequences was taken in its place")
    if not names:
        raise DatasetError(f"{list_file if list_file.is_file() else pair_file} names no sequence")
    return list(dict.fromkeys(names))


def annotation_folder(root: Path, unsupervised: bool = False, resolution: str = "480p") -> Path:
    """The folder of label maps. Raises DatasetError where it is missing."""
    folder = root / ("Annotations_unsupervised" if unsupervised else "Annotations") / resolution
    if not folder.is_dir():
        raise DatasetError(f"{folder} is missing; {_expected(root, 2017)}")
    return folder


def annotation_files(folder: Path, sequence: str) -> list[Path]:
    """The label maps of a sequence in order. Raises DatasetError where there are none."""
    files = sorted((folder / sequence).glob("*.png"))
    if not files:
        raise DatasetError(f"sequence {sequence} has no annotation: there is no PNG in {folder / sequence}")
    return files


def _expected(root: Path, year: int) -> str:
    """What a DAVIS root holds, and what this one does."""
    if not root.is_dir():
        return f"{root} is not a folder"
    found = sorted(path.name for path in root.iterdir())
    shown = ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
    return (
        f"a DAVIS root holds Annotations/480p/<sequence>/*.png and ImageSets/{year}/<split>.txt, "
        f"this one holds {shown or 'nothing'}"
    )


def clips(
    root: str | Path,
    split: str = "train",
    *,
    year: int = 2017,
    unsupervised: bool = False,
    resolution: str = "480p",
) -> list[Clip]:
    """The sequences of a DAVIS split.

    Parameters
    ----------
    root:
        The folder that holds JPEGImages, Annotations and ImageSets.
    split:
        train, val, test-dev or test-challenge.
    year:
        2016 (all ids of a frame are one object, 1), 2017 or 2019.
    unsupervised:
        Labels of ``Annotations_unsupervised``; 254 and 255, void there, become 255 and are no object.
    resolution:
        480p or Full-Resolution.

    Objects are 1 to the largest id of the first mask. Raises DatasetError saying what was expected and found.
    """
    root, notes = Path(root), []
    annotations = annotation_folder(root, unsupervised, resolution)
    names = sequence_names(root, split, year, notes)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    images = root / "JPEGImages" / resolution
    return [_clip(images / name, annotations / name, merge=year == 2016) for name in names]


def _clip(images: Path, annotations: Path, merge: bool) -> Clip:
    """One sequence; ``merge`` makes one object of all ids."""
    frames = sorted([*images.glob("*.jpg"), *images.glob("*.png")])
    if not frames:
        raise DatasetError(f"sequence {images.name} has no image: there is no JPEG or PNG in {images}")
    masks = [annotations / f"{frame.stem}.png" for frame in frames]
    masks = [mask if mask.is_file() else None for mask in masks]
    first = next((mask for mask in masks if mask is not None), None)
    if first is None:
        ids: tuple[int, ...] = ()
    elif merge:
        ids = (1,)
    else:
        labels = read_labels(first)
        ids = tuple(range(1, int(labels[labels < 254].max(initial=0)) + 1))
    return Clip(images.name, tuple(frames), tuple(masks), ids, read=_read_merged if merge else _read_void)


def _read_merged(path: Path) -> np.ndarray:
    """DAVIS 2016: any value but 0 is the object, also 255."""
    return (read_labels(path) != 0).astype(np.uint8)


def _read_void(path: Path) -> np.ndarray:
    """Labels whose void pixels are 255, also where the file says 254."""
    labels = read_labels(path)
    return np.maximum(labels, (labels == 254) * np.uint8(255)) if labels.max(initial=0) >= 254 else labels
