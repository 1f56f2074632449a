"""Writing a report to files: never into what was read, and never half."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pliant.errors import OutputError

__all__ = ["check_output", "write_bytes"]


def check_output(path: Path, *inputs: Path) -> None:
    """Raises OutputError where a file cannot be written at ``path``, or must not be: inside ground truth or
    results."""
    folder = path.resolve().parent
    for source in inputs:
        if (source.is_dir() and folder.is_relative_to(source.resolve())) or path.resolve() == source.resolve():
            raise OutputError(f"{path} lies in {source}, which is only read; choose a place outside of it")
    if not folder.is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {folder}")
    if path.is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(f"{path} cannot be written: {'it is a folder' if path.is_dir() else 'no permission'}")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises OutputError with the system's reason."""
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from None
