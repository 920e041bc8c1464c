"""Edits on disk, each before anybody is told that it is saved."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

from vidpose.errors import InputError
from vidpose.io.files import atomic_path

VERSION = 1
_KEY = "review"
"""Of the line that says what the edits belong to; no edit has it."""
_OPENINGS = (b'{"set"', b'{"undo"', b'{"redo"', b'{"review"')
_LOCKED_BYTE = 1 << 40
"""Windows locks bytes, not files: one that no journal reaches."""


class MisfitError(InputError):
    """An edit that is whole, but not of these labels."""


def _same(entry: dict[str, Any]) -> dict[str, Any]:
    return entry


class Journal:
    """A file with one JSON object a line, only ever appended to, by one process at a time.

    The first line says what the edits belong to. Journals of version 0.1 have none: they are taken if every
    edit fits, and say it from the next edit on.

    What follows the last whole edit of a damaged file is moved to a file beside it, ``PATH.damaged``.

    Args:
        path: made at once, and removed by :meth:`close` if nothing was written to it.
        belongs_to: names and values, by which a journal of other labels is told.
        check: called with the entries one after the other; gives the entry to be kept, and raises
            :class:`InputError` for one that is damaged, :class:`MisfitError` for one of other labels.

    Raises:
        InputError: the file is no journal, belongs to something else, is in use by another process, or
            cannot be read or written.
    """

    def __init__(
        self,
        path: Path,
        belongs_to: Mapping[str, Any] | None = None,
        check: Callable[[dict[str, Any]], dict[str, Any]] = _same,
    ) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        self.remarks: list[str] = []
        """What was wrong with the file, one line each."""
        self._header = {_KEY: VERSION, **(belongs_to or {})}
        self._bound = False
        self._length = 0
        self._file: FileIO | None = None
        try:
            self._file = self._open()
            self._read(check)
        except OSError as error:
            self.close()
            raise InputError(f"{path}: cannot be used: {error.strerror or error}") from error
        except BaseException:
            self.close()
            raise

    def append(self, entry: dict[str, Any]) -> None:
        """Writes an entry; it is on the disk when this returns. If that fails, the file is as it was before.

        Raises:
            InputError: it cannot be written, or another program has changed the file.
        """
        self._append(entry)
        self.entries.append(entry)

    def bind(self) -> None:
        """Writes what the edits belong to, where the file does not say it yet. Raises as :meth:`append`."""
        if not self._bound:
            self._append()

    def close(self) -> None:
        """Lets another process use the file."""
        file, self._file = self._file, None
        if file is None:
            return
        with suppress(OSError):
            if os.fstat(file.fileno()).st_size == 0 and _is_at(file, self.path):
                self.path.unlink()
        file.close()

    # -- opening

    def _open(self) -> FileIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(100):
            file = FileIO(self.path, "a+")
            try:
                self._lock(file)
                if _is_at(file, self.path):  # and was not removed meanwhile by the process that had locked it
                    return file
            except BaseException:
                file.close()
                raise
            file.close()
        raise InputError(f"{self.path}: is made and removed by another program")

    def _lock(self, file: FileIO) -> None:
        try:
            _lock(file)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK):
                raise InputError(
                    f"{self.path}: is in use by another review; end that one first, or give another --output"
                ) from None
            self.remarks.append(f"{self.path.name} cannot be locked here: review it in one program only")

    def _read(self, check: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        assert self._file is not None
        self._file.seek(0)
        raw = self._file.readall()
        number = 0
        while self._length < len(raw):
            number += 1
            end = raw.find(b"\n", self._length)
            line = raw[self._length : end] if end >= 0 else raw[self._length :]
            try:
                if end < 0:
                    raise InputError("it was cut off")
                self._take(line, check)
            except MisfitError as error:
                if not self._bound:
                    raise InputError(
                        f"{self.path}:{number}: is not an edit of these labels ({error}); move the file away "
                        "to begin anew, or give another --output"
                    ) from None
                self._recover(raw, number, str(error))
                return
            except _OtherLabels as error:
                raise InputError(f"{self.path}: {error}") from None
            except InputError as error:
                if number == 1 and not (line.startswith(_OPENINGS) or (end < 0 and _begins(line))):
                    raise InputError(
                        f"{self.path}:1: is no entry of a journal of edits; move the file away, or give "
                        "another --output"
                    ) from None
                self._recover(raw, number, str(error))
                return
            self._length += len(line) + 1

    def _take(self, line: bytes, check: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            raise InputError("it is not JSON") from None
        if not isinstance(entry, dict):
            raise InputError("it is no edit")
        if _KEY not in entry:
            self.entries.append(check(entry))
            return
        if len(self._header) > 1 and entry != self._header:
            raise _OtherLabels(_difference(entry, self._header))
        self._bound = True

    def _recover(self, raw: bytes, number: int, why: str) -> None:
        """Moves what follows the last whole entry to a file of its own."""
        assert self._file is not None
        rest, count = raw[self._length :], 1
        damaged = self.path.with_name(f"{self.path.name}.damaged")
        while os.path.lexists(damaged):
            count += 1
            damaged = self.path.with_name(f"{self.path.name}.damaged{count}")
        with atomic_path(damaged) as temporary, temporary.open("wb") as file:
            file.write(rest)
            file.flush()
            os.fsync(file.fileno())
        os.ftruncate(self._file.fileno(), self._length)
        self.remarks.append(
            f"{self.path.name}: line {number} is damaged ({why}): the {len(self.entries)} edits before it "
            f"are kept, the rest is now in {damaged.name}"
        )

    # -- writing

    def _append(self, *entries: dict[str, Any]) -> None:
        lines = entries if self._bound else (self._header, *entries)
        try:
            self._repair()
            self._write(b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines))
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error.strerror or error}") from error
        self._bound = True

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        number, rest = self._file.fileno(), memoryview(data)
        try:
            while rest:
                rest = rest[os.write(number, rest) :]
            os.fsync(number)
        except BaseException:
            with suppress(OSError):  # else it is tried again before the next entry
                os.ftruncate(number, self._length)
            raise
        self._length += len(data)

    def _repair(self) -> None:
        """Cuts off what is left of an entry that could not be written."""
        if self._file is None:
            raise InputError(f"{self.path}: the review has ended")
        length = os.fstat(self._file.fileno()).st_size
        if length < self._length or not _is_at(self._file, self.path):
            raise InputError(
                f"{self.path}: was changed or removed by another program; Save still writes all labels"
            )
        if length > self._length:
            os.ftruncate(self._file.fileno(), self._length)


class _OtherLabels(Exception):
    """A journal that belongs to something else."""


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    if found.get(_KEY) != VERSION:
        return f"is a journal of version {found.get(_KEY)!r}, this program writes version {VERSION}"
    keys = [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]
    return (
        f"holds edits of other labels or of another video ({' and '.join(keys)}); move the file away to "
        "begin anew, or give another --output"
    )


def _begins(line: bytes) -> bool:
    """Whether a line that was cut off may have been one of a journal."""
    return any(opening.startswith(line) for opening in _OPENINGS)


def _is_at(file: FileIO, path: Path) -> bool:
    """Whether the file that is open is the one that has this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(file: FileIO) -> None:
        file.seek(_LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: FileIO) -> None:
        """Held until the file is closed, or its process is dead."""
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
