"""YouTube-VOS 2018 and 2019 on disk.

::

    <split>/                            train, valid, test
      JPEGImages/<video>/00000.jpg      every fifth frame, under its real number
      Annotations/<video>/00000.png     indexed; in valid and test only where an object first appears
      meta.json                         {"videos": {video: {"objects": {"1": {"category": "cat", "frames":
      [...]}}}}}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pliant.datasets.clip import Clip
from pliant.datasets.labels import read_labels
from pliant.errors import DatasetError

__all__ = ["SEEN_CATEGORIES", "clips", "object_categories", "required_frames", "video_names"]

# Of the training set; the validation set has 26 more.
_SEEN = """
    airplane ape bear bike bird boat bucket bus camel cat cow crocodile deer dog dolphin duck eagle
    earless_seal elephant fish fox frisbee frog giant_panda giraffe hand hat hedgehog horse knife
    leopard lion lizard monkey motorbike mouse others owl paddle parachute parrot penguin person
    plant rabbit raccoon sedan shark sheep sign skateboard snail snake snowboard squirrel surfboard
    tennis_racket tiger toilet train truck turtle umbrella whale zebra
"""
SEEN_CATEGORIES = frozenset(_SEEN.split())


def video_names(root: Path) -> list[str]:
    """The videos of a split folder that have a folder of annotations, by name. Raises DatasetError without
    any."""
    folder = root / "Annotations"
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not names:
        found = sorted(path.name for path in root.iterdir())[:8] if root.is_dir() else []
        raise DatasetError(
            f"{folder} has no folder of a video; the split folder of YouTube-VOS is expected, which holds "
            f"Annotations/<video>/*.png and meta.json, this one holds {', '.join(found) or 'nothing'}"
        )
    return names


def object_categories(root: Path) -> dict[str, dict[int, str | None]] | None:
    """Video -> object -> category from ``meta.json``; None without the file. Raises DatasetError if it is
    broken."""
    path = root / "meta.json"
    if not path.is_file():
        return None
    try:
        videos: dict[str, Any] = json.loads(path.read_text())["videos"]
        return {
            video: {int(number): entry.get("category") for number, entry in content["objects"].items()}
            for video, content in videos.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f'{path} cannot be used ({error!r}); {{"videos": {{video: {{"objects": {{id: ...}}}}}}}} is expected'
        ) from None


def required_frames(root: Path) -> dict[str, list[str]]:
    """Video -> the frames for which ``meta.json`` wants masks: all that it lists for any object.

    Raises DatasetError without the file.
    """
    path = root / "meta.json"
    try:
        videos = json.loads(path.read_text())["videos"]
        return {
            video: sorted({frame for entry in content["objects"].values() for frame in entry["frames"]})
            for video, content in videos.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{path} cannot be used ({error!r}); the meta.json of a split folder of YouTube-VOS is expected, with "
            "the frames of each object"
        ) from None


def clips(root: str | Path) -> list[Clip]:
    """The videos of a split folder of YouTube-VOS (``train``, ``valid``, ``all_frames/valid_all_frames``,
    ...).

    Objects may first appear in any frame. Without ``meta.json`` the objects are those of the annotations.
    Raises DatasetError saying what was expected and found.
    """
    root = Path(root)
    categories = object_categories(root)
    return [_clip(root, name, categories) for name in video_names(root)]


def _clip(root: Path, name: str, categories: dict[str, dict[int, str | None]] | None) -> Clip:
    images = root / "JPEGImages" / name
    frames = sorted([*images.glob("*.jpg"), *images.glob("*.png")])
    if not frames:
        raise DatasetError(f"video {name} has no image: there is no JPEG in {images}")
    masks = [root / "Annotations" / name / f"{frame.stem}.png" for frame in frames]
    masks = [mask if mask.is_file() else None for mask in masks]
    if categories is not None and name in categories:
        named = {number: category for number, category in categories[name].items() if category}
        return Clip(name, tuple(frames), tuple(masks), tuple(sorted(categories[name])), named)
    present = {number for mask in masks if mask for number in np.unique(read_labels(mask)).tolist()} - {
        0,
        255,
    }
    return Clip(name, tuple(frames), tuple(masks), tuple(sorted(present)))
