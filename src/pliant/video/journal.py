"""What a run has finished, line by line, so that an interrupted one can be continued to the same result."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pliant.errors import OutputError

__all__ = ["Journal"]


class Journal:
    """A file of JSON lines: first what the run was begun with, then one line a finished frame.

    Args:
        path: the file.
        header: source and settings; a run is continued only where these are the same.
        resume: continue a journal that is there.

    Attributes:
        lines: number of frames that the journal holds.

    Raises:
        OutputError: the journal there belongs to another run.
    """

    def __init__(self, path: Path, header: dict[str, Any], *, resume: bool) -> None:
        self.path = path
        header = json.loads(json.dumps(header))
        self.lines = 0
        if resume and path.exists():
            self._cut_half_line()
            with open(path, encoding="utf-8") as file:
                begun_with = json.loads(file.readline() or "{}")
                self.lines = sum(1 for _ in file)
            different = [key for key in header if header[key] != begun_with.get(key)]
            if different:
                key = different[0]
                raise OutputError(
                    f"the run in {path.parent} was begun with another {key} ({begun_with.get(key)!r}, now "
                    f"{header[key]!r}) and cannot be continued; use --overwrite to begin anew."
                )
            self._file = path.open("a", encoding="utf-8")
        else:
            self._file = path.open("w", encoding="utf-8")
            self._put(header)

    def append(self, record: dict[str, Any]) -> None:
        """Notes a frame as finished."""
        self._put(record)
        self.lines += 1

    def truncate(self, lines: int) -> None:
        """Forgets all frames from ``lines`` on."""
        self._file.close()
        kept = self.path.read_text(encoding="utf-8").splitlines(keepends=True)[: lines + 1]
        temporary = self.path.with_name(f".{self.path.name}.part")
        temporary.write_text("".join(kept), encoding="utf-8")
        os.replace(temporary, self.path)
        self.lines = lines
        self._file = self.path.open("a", encoding="utf-8")

    def records(self) -> list[dict[str, Any]]:
        """The records of all finished frames, in order."""
        self._file.flush()
        with open(self.path, encoding="utf-8") as file:
            next(file)
            return [json.loads(line) for line in file]

    def close(self) -> None:
        """Closes the file; it stays for a later run."""
        self._file.close()

    def remove(self) -> None:
        """Closes and deletes the file: the run is finished."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _put(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record, separators=(",", ":")) + "\n")
        self._file.flush()

    def _cut_half_line(self) -> None:
        data = self.path.read_bytes()
        if not data.endswith(b"\n"):
            self.path.write_bytes(data[: data.rfind(b"\n") + 1])
