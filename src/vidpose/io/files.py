"""Writing files so that they appear whole or not at all, and reading JSON with errors that name the place."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from vidpose.errors import InputError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends without an error.

    The temporary name keeps the suffix (encoders look at it). On an error it is removed and ``path`` is as
    it was before. Parent folders are made.

    Raises:
        InputError: the path cannot be written, or the disk is full.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep_once(str(target.parent.absolute()))
        handle, name = tempfile.mkstemp(
            prefix=_temporary_prefix(target.stem), suffix=target.suffix, dir=target.parent
        )
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        os.close(handle)
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise InputError(f"{target}: cannot be written: {error.strerror or error}") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def temporary_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """A new folder beside ``target``, which need not exist; gone when the block ends.

    Raises:
        OSError: it cannot be made.
    """
    place = Path(target)
    place.parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(str(place.parent.absolute()))
    folder = Path(tempfile.mkdtemp(prefix=_temporary_prefix(place.name), dir=place.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep_temporaries(folder: str | os.PathLike[str]) -> None:
    """Deletes what killed processes of this machine have left of files and folders that they were writing.

    Only what :func:`atomic_path` and :func:`temporary_folder` have named, and nothing of a process that lives
    or may live: those of another machine or container stay.
    """
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except OSError:
        return
    for name in names:
        match = _TEMPORARY.fullmatch(name)
        if match is None or match["machine"] != _machine() or _lives(int(match["process"])):
            continue
        path = Path(folder) / name
        with suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


@lru_cache(maxsize=1024)
def _sweep_once(folder: str) -> None:
    """Once per process: folders with very many files take their time."""
    sweep_temporaries(folder)


_TEMPORARY = re.compile(r"\..*-vidpose-(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-[a-z0-9_]{8}(\..*)?")
_LONGEST_STEM = 150
"""Bytes of a file's own name in its temporary's: file systems take names of 255 bytes."""


def _temporary_prefix(stem: str) -> str:
    """``.STEM-vidpose-MACHINE-PROCESS-``: says whose a temporary is, and whether anybody still writes it."""
    short = os.fsdecode(os.fsencode(stem)[:_LONGEST_STEM]) if len(os.fsencode(stem)) > _LONGEST_STEM else stem
    return f".{short}-vidpose-{_machine()}-{os.getpid()}-"


@cache
def _machine() -> str:
    """Names the machine, or the container on it, whose numbers of processes mean the same."""
    try:
        numbering = str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        numbering = ""
    return hashlib.blake2b(f"{platform.node()} {numbering}".encode(), digest_size=4).hexdigest()


def _lives(process: int) -> bool:
    """Whether there is such a process; on Windows one cannot ask without harm, so: yes."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        pass
    return True


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a whole UTF-8 text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any, *, indent: int | None = None) -> None:
    """Writes JSON atomically; NaN and infinity are refused, since other readers choke on them."""
    write_text(path, json.dumps(value, indent=indent, allow_nan=False))


def write_json_parts(path: str | os.PathLike[str], parts: Mapping[str, Any]) -> None:
    """Writes a JSON object atomically; a value that is an iterator becomes an array, item by item.

    What is in memory at once is one item, however long the array is.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        opening = "{"
        for key, value in parts.items():
            file.write(f"{opening}{json.dumps(key)}: ")
            opening = ", "
            if not isinstance(value, Iterator):
                file.write(json.dumps(value, allow_nan=False))
                continue
            separator = "["
            for item in value:
                file.write(separator + json.dumps(item, allow_nan=False))
                separator = ", "
            file.write("[]" if separator == "[" else "]")
        file.write("}" if parts else "{}")


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Finds out before a long job whether files can be written into a folder, which need not exist yet.

    Raises:
        InputError: it is a file, lies below one, or may not be written.
    """
    place = Path(folder).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        what = "is a file" if place == Path(folder).absolute() else f"cannot be made: {place} is a file"
        raise InputError(f"{folder}: {what}, a folder for the results is needed")
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from error


def content_digest(path: str | os.PathLike[str], but: Collection[str] = ()) -> str:
    """SHA-256 of a file, or of the names and contents of all files in a folder, in hexadecimal digits.

    Args:
        but: suffixes, in small letters, of files that are left out of a folder.

    Raises:
        InputError: one cannot be read.
    """
    place, digest = Path(path), hashlib.sha256()
    try:
        files = [place]
        if place.is_dir():
            files = sorted(file for file in place.rglob("*") if file.is_file())
            files = [file for file in files if file.suffix.lower() not in but]
        for file in files:
            if file != place:
                digest.update(os.fsencode(file.relative_to(place).as_posix()) + b"\0")
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    except OSError as error:
        raise InputError(f"{error.filename or place}: cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file; every way it can be wrong is one :class:`InputError` that names the file."""
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{source}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{source}: is a folder, a JSON file is needed") from None
    except UnicodeDecodeError:
        raise InputError(f"{source}: is not UTF-8 text, a JSON file is needed") from None
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {error.strerror or error}") from error
    if not text.strip():
        raise InputError(f"{source}: is empty, a JSON file is needed")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{source}:{error.lineno}: is not valid JSON: {error.msg}") from None
    except RecursionError:
        raise InputError(f"{source}: is nested too deeply to be read") from None
