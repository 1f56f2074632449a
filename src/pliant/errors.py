"""What can go wrong, as a tree: catch broadly by the root, recover by a leaf.

    PliantError                 anything a caller can cause and mend; its text is one sentence for people
    ├── InputError              something handed in cannot be used (also a ValueError)
    │   ├── SourceError         a video, image folder or stream cannot be read
    │   ├── MaskError           a mask file or array cannot be used
    │   ├── DatasetError        a folder is not laid out as a known dataset
    │   └── ResultsError        results to evaluate or convert do not fit their ground truth
    ├── OutputError             a result cannot be written (also an OSError)
    ├── WeightsError            a weights file is not what it should be (also a ValueError)
    ├── UnknownNameError        no model, preset, operator or protocol of that name (also a KeyError)
    └── MissingDependencyError  an optional package is needed (also an ImportError)

Wrong shapes and dtypes of tensors are plain ``ValueError`` and ``TypeError`` with the arithmetic in the text.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "DatasetError",
    "InputError",
    "MaskError",
    "MissingDependencyError",
    "OutputError",
    "PliantError",
    "ResultsError",
    "SourceError",
    "UnknownNameError",
    "WeightsError",
]


class PliantError(Exception):
    """Root of everything that pliant raises on purpose. ``str(error)`` says what is wrong, where, and what to do."""


class InputError(PliantError, ValueError):
    """Something handed in cannot be used."""


class SourceError(InputError):
    """A video, image folder or stream cannot be read."""


class MaskError(InputError):
    """A mask file or array cannot be used."""


class DatasetError(InputError):
    """A folder is not laid out as a known dataset."""


class ResultsError(InputError):
    """Results to evaluate or convert do not fit their ground truth."""


class OutputError(PliantError, OSError):
    """A result cannot be written."""


class WeightsError(PliantError, ValueError):
    """A weights file is not what it should be."""


class UnknownNameError(PliantError, KeyError):
    """No model, preset, operator or protocol of that name; the text offers the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = list(known)
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}."
        self.message = f"there is no {kind} named {name!r}; {hint}"
        super().__init__(self.message)

    def __str__(self) -> str:  # KeyError would print the repr
        return self.message


class MissingDependencyError(PliantError, ImportError):
    """An optional package is needed; the text says how to get it."""
