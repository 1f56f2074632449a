"""The state of a tracker in a file, so that an interrupted run goes on to the same result.

States are dataclasses of tensors, arrays and plain values. They are written as plain dictionaries, and reading
executes nothing: only dataclasses of pliant itself are made again.
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pliant.errors import OutputError

__all__ = ["load_snapshot", "save_snapshot"]

_TYPE, _ARRAY, _TUPLE, _PAIRS = "__dataclass__", "__array__", "__tuple__", "__pairs__"


def save_snapshot(path: str | Path, state: Any, about: dict[str, Any]) -> None:
    """Write ``state`` and the plain values ``about`` to ``path``, under a temporary name first."""
    path = Path(path)
    partial = path.with_name(path.name + ".part")
    torch.save({"about": about, "state": _plain(state)}, partial)
    partial.replace(path)


def load_snapshot(path: str | Path) -> tuple[Any, dict[str, Any]]:
    """(state, about) as given to ``save_snapshot``. Raises ``OutputError`` where the file cannot be used."""
    try:
        stored = torch.load(path, weights_only=True)
        return _rebuilt(stored["state"]), stored["about"]
    except Exception as error:  # every reader of a damaged file has its own exceptions
        raise OutputError(f"{path} cannot be continued from ({error}); use --overwrite to begin anew.") from error


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        kind = type(value)
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {_TYPE: f"{kind.__module__}:{kind.__qualname__}", "fields": fields}
    if isinstance(value, np.ndarray):
        return {_ARRAY: torch.from_numpy(np.array(value))}
    if isinstance(value, dict):
        return {_PAIRS: [[_plain(k), _plain(v)] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {_TUPLE: [_plain(v) for v in value]}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, Tensor):
        return value.detach().clone()  # a view would drag its whole storage into the file
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a state may not hold {type(value).__name__}.")


def _rebuilt(value: Any) -> Any:
    if isinstance(value, list):
        return [_rebuilt(v) for v in value]
    if not isinstance(value, dict):
        return value
    if _ARRAY in value:
        return value[_ARRAY].numpy()
    if _TUPLE in value:
        return tuple(_rebuilt(v) for v in value[_TUPLE])
    if _PAIRS in value:
        return {_rebuilt(k): _rebuilt(v) for k, v in value[_PAIRS]}
    module, name = value[_TYPE].split(":")
    if not module.startswith("pliant.") or "." in name:
        raise ValueError(f"{value[_TYPE]} is no state of pliant")
    kind = getattr(importlib.import_module(module), name)
    if not dataclasses.is_dataclass(kind):
        raise ValueError(f"{value[_TYPE]} is no dataclass")
    made = object.__new__(kind)
    for field, part in value["fields"].items():
        object.__setattr__(made, field, _rebuilt(part))
    return made
