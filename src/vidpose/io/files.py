"""Writing files so that they appear whole or not at all, and reading JSON with errors that name the place."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
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
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror or error}") from error
    os.close(handle)
    temporary = Path(name)
    try:
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


def left_temporaries(folder: str | os.PathLike[str], stems: str, suffix: str) -> list[Path]:
    """What :func:`atomic_path` left in a folder when its process was killed.

    Args:
        folder: need not exist.
        stems: a regular expression for the stems of the files that were being written. suffix: theirs.

    Folders of :func:`tempfile.mkdtemp` that were to become ``stem`` have such names, too.
    """
    if not Path(folder).is_dir():
        return []
    name = re.compile(rf"\.(?:{stems})-[a-z0-9_]{{8}}{re.escape(suffix)}")  # as mkstemp names them
    return [path for path in Path(folder).iterdir() if name.fullmatch(path.name)]


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
