"""Result files beside their ground truth: which there are, which are missing, whether they fit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from pliant.datasets.labels import read_labels
from pliant.errors import MaskError, ResultsError

__all__ = ["Problems", "check_results_folder", "find_results", "read_pair"]


class Problems:
    """What is wrong with the files of a part: the first as a sentence, and how many there are."""

    def __init__(self, first: str | None = None, count: int = 0) -> None:
        self.first, self.count = first, count

    def add(self, sentence: str) -> None:
        """One more file that cannot be used."""
        self.first = self.first or sentence
        self.count += 1

    @staticmethod
    def raise_first(
        parts: Iterable[Problems],
        one: str = "result file cannot be used",
        many: str = "result files cannot be used",
    ) -> None:
        """Raises ResultsError with the first sentence of all, and how many files more cannot be used."""
        parts = [part for part in parts if part.count]
        if parts:
            others = sum(part.count for part in parts) - 1
            raise ResultsError(parts[0].first + _more(others, one, many))


def _more(others: int, one: str, many: str) -> str:
    return f"; {others} more {one if others == 1 else many}" if others else ""


def check_results_folder(results: Path, example: str) -> None:
    """Raises ResultsError where there is no such folder."""
    if not results.is_dir():
        found = "is a file" if results.exists() else "does not exist"
        raise ResultsError(f"the results folder {results} {found}; a folder that holds {example} is expected")


def find_results(results: Path, needed: Sequence[tuple[str, Sequence[str]]], unit: str = "sequence") -> None:
    """Checks that every counted frame has a result ``<results>/<sequence>/<frame name>``.

    Parameters
    ----------
    needed:
        Sequence and the file names of its counted frames.
    unit:
        What the protocol calls a sequence.

    Raises ResultsError that names the first one that is missing and counts the others.
    """
    first, names = needed[0]
    check_results_folder(results, f"{first}/{names[0] if names else '00000.png'} and so on")
    first, count = "", 0
    for sequence, names in needed:
        folder = results / sequence
        present = set(os.listdir(folder)) if folder.is_dir() else set()
        missing = [name for name in names if name not in present]
        if missing and not first:
            frame = Path(missing[0]).stem
            what = f"{unit} {sequence} has no result for frame {frame}"
            if not folder.is_dir():
                what = f"{unit} {sequence} has no results (frame {frame} is the first of {len(missing)})"
            first = f"{what}: {folder / missing[0]} is missing, and every counted frame needs one"
        count += len(missing)
    if first:
        raise ResultsError(first + _more(count - 1, "file is missing", "files are missing"))


def read_pair(truth: Path, prediction: Path, sequence: str, problems: Problems) -> tuple[np.ndarray, np.ndarray] | None:
    """Label maps of ground truth and result of a frame; None, and one problem more, where the result does not
    fit."""
    target = read_labels(truth)
    try:
        labels = read_labels(prediction)
    except MaskError as error:
        problems.add(f"frame {prediction.stem} of {sequence} cannot be used: {error}")
        return None
    if labels.shape != target.shape:
        problems.add(
            f"frame {prediction.stem} of {sequence} has another size than its ground truth: {prediction} is "
            f"{size(labels)}, {size(target)} is expected (width x height)"
        )
        return None
    return target, labels


def size(labels: np.ndarray) -> str:
    """Width x height, as people write it."""
    return f"{labels.shape[1]}x{labels.shape[0]}"
