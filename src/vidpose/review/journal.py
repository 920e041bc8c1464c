"""Edits on disk, each before anybody is told that it is saved."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from vidpose.errors import InputError


class Journal:
    """A file with one JSON object a line, only ever appended to.

    Args:
        path: made at the first entry.

    Raises:
        InputError: a line that is no entry. A last line that was cut off by a crash is dropped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        if not path.is_file():
            return
        raw = path.read_bytes()
        whole, _, rest = raw.rpartition(b"\n")
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                entry = json.loads(line)
                if not isinstance(entry, dict):
                    raise ValueError
            except ValueError:
                raise InputError(f"{path}:{number}: is no entry of a journal of edits") from None
            self.entries.append(entry)
        if rest:  # its writer died: nobody was told that it was saved
            with path.open("r+b") as file:
                file.truncate(len(whole) + 1 if whole else 0)

    def append(self, entry: dict[str, Any]) -> None:
        """Writes an entry; it is on the disk when this returns.

        Raises:
            InputError: it cannot be written.
        """
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        try:
            with self.path.open("ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error.strerror or error}") from error
        self.entries.append(entry)
