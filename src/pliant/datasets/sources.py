"""What a training run is given to learn from: folders and files, as they come from the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pliant.errors import InputError

__all__ = ["Sources"]

_OPTIONS = {"clips": "data"}  # where the command line has another word


@dataclass(frozen=True)
class Sources:
    """What is at hand.

    photos, cutouts (pictures with alpha), films: folders or files for synthetic clips. videos: unlabelled clips.
    clips: a folder in DAVIS or YouTube-VOS layout, with masks, of which ``split`` is read. initial: weights to start
    from. teacher: weights of a network to imitate. cache: where decoded pictures are kept. seed: of everything random.
    """

    photos: tuple[Path, ...] = ()
    cutouts: tuple[Path, ...] = ()
    films: tuple[Path, ...] = ()
    videos: tuple[Path, ...] = ()
    clips: Path | None = None
    split: str = "train"
    initial: Path | None = None
    teacher: Path | None = None
    cache: Path = Path("runs/cache")
    seed: int = 0

    def need(self, *names: str) -> None:
        """Raises ``InputError`` where none of the sources ``names`` is given, or a given path does not exist."""
        given = {name: getattr(self, name) for name in names}
        if not any(given.values()):
            options = " or ".join(f"--{_OPTIONS.get(name, name)}" for name in names)
            raise InputError(f"nothing to train on: give {options} (`pliant fetch-training-data` brings free ones).")
        for name in ("photos", "cutouts", "films", "videos"):
            for path in getattr(self, name):
                if not Path(path).exists():
                    raise InputError(f"--{name} {path}: no such file or folder.")
