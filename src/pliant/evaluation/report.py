"""What an evaluation found: numbers, and the sentences that belong to them."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["FrameCurve", "Report"]


@dataclass(frozen=True)
class FrameCurve:
    """J and F of an object in each counted frame, and where its masks are.

    ``truth`` has the label map of each frame, the folder ``results`` the result of the same name. ``object`` is the
    id in both, 0 for everything that is not background; ``prediction`` the id in the results where it is another one.
    """

    sequence: str
    object: int
    truth: Sequence[Path]
    results: Path
    j: Sequence[float]
    f: Sequence[float]
    prediction: int | None = None


@dataclass
class Report:
    """The result of an evaluation.

    Attributes
    ----------
    protocol, convention:
        What was computed; the convention is None where the protocol has one only.
    summary:
        Name -> number, the numbers that papers print; NaN and infinities stand where the official tool has
        them.
    sequences, objects:
        The same by part: a dictionary a sequence (or category) and a dictionary an object.
    warnings:
        Sentences about what a reader must know to take the numbers for what they are.
    curves:
        Scores frame by frame, where the protocol has them.
    """

    protocol: str
    convention: str | None
    summary: dict[str, float]
    sequences: dict[str, Any] = field(default_factory=dict)
    objects: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    curves: list[FrameCurve] = field(default_factory=list, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values: NaN and infinities are None, and a warning names where they stood."""
        undefined: list[str] = []
        in_parts: list[str] = []
        document = {
            "protocol": self.protocol,
            "convention": self.convention,
            "summary": _finite(self.summary, "", undefined),
            "sequences": _finite(self.sequences, "", in_parts),
            "objects": _finite(self.objects, "", in_parts),
            "warnings": list(self.warnings),
        }
        if undefined:
            document["warnings"].append(f"null stands for what is no number: {', '.join(undefined)}")
        if in_parts:
            more = f" and {len(in_parts) - 6} more" if len(in_parts) > 6 else ""
            document["warnings"].append(f"null in sequences and objects: {', '.join(in_parts[:6])}{more}")
        return document

    def to_json(self) -> str:
        """The document of :meth:`to_dict` as text, every number in full precision."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """The summary as two lines, and a line an object (or a sequence, where there are no objects), as the
        official tools lay them out; numbers in full precision."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.summary)
        writer.writerow(self.summary.values())
        parts = {name: part for name, part in (self.objects or self.sequences).items() if _is_flat(part)}
        if parts:
            columns = list(dict.fromkeys(key for part in parts.values() for key in part))
            writer.writerow([])
            writer.writerow(["Sequence", *columns])
            writer.writerows([name, *(part.get(key, "") for key in columns)] for name, part in parts.items())
        return text.getvalue()


def _is_flat(part: Any) -> bool:
    """Whether a part is one row of numbers and words."""
    return isinstance(part, dict) and not any(isinstance(value, (dict, list)) for value in part.values())


def _finite(value: Any, name: str, undefined: list[str]) -> Any:
    """The value without NaN and infinities; their names and what they were are added to ``undefined``."""
    if isinstance(value, dict):
        return {key: _finite(item, f"{name}{key}.", undefined) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item, name, undefined) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        kind = "NaN" if math.isnan(value) else "minus infinity" if value < 0 else "plus infinity"
        undefined.append(f"{name.rstrip('.')} ({kind})")
        return None
    return value
