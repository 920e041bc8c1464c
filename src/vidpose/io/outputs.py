"""Which files a command may replace: those that it made itself and can make again, and no input."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from vidpose.errors import InputError

THERE = "is there already"
PNG_MARK = b"Software\0vidpose"
"""In the pictures that vidpose writes: a chunk tEXt, near the beginning of the file."""


def check_replaceable(
    target: str | os.PathLike[str],
    *,
    overwrite: bool,
    inputs: Iterable[str | os.PathLike[str]] = (),
    objection: Callable[[Path], str | None] = lambda path: THERE,
    instead: str = "choose another --output",
) -> None:
    """Refuses, before any work, to replace a file that somebody may miss.

    Args:
        target: the file that is going to be written.
        overwrite: replace whatever is there, inputs aside.
        inputs: files that are read; of a folder, whatever the command has not made there itself.
        objection: what speaks against replacing the file that is there, as the end of a sentence about it;
            ``None``: the same command made it.
        instead: what else the user may do.

    Raises:
        InputError: the target is an input or a folder, or is there and must not be replaced.
    """
    path = Path(target)
    if not os.path.lexists(path):
        return
    if path.is_dir():
        raise InputError(f"{path}: is a folder, and the result is a file; {instead}")
    problem = objection(path)
    for given in map(Path, inputs):
        same = path.exists() and given.exists() and path.samefile(given)
        inside = problem is not None and given.is_dir() and given.resolve() in path.resolve().parents
        if same or inside:
            what = "is an input" if same else f"lies in {given}, which is read"
            raise InputError(f"{path}: {what}, and the result would replace it; {instead}")
    if problem is not None and not overwrite:
        raise InputError(f"{path}: {problem}; {instead}, or replace it with --overwrite")


def begins_with(path: Path, *marks: bytes, length: int = 4096) -> bool:
    """Whether the first ``length`` bytes of a file hold every one of ``marks``."""
    try:
        with path.open("rb") as file:
            head = file.read(length)
    except OSError:
        return False
    return all(mark in head for mark in marks)


def unless_marked(*marks: bytes) -> Callable[[Path], str | None]:
    """An objection to replacing a file that does not hold these marks near its beginning."""
    return lambda path: None if begins_with(path, *marks) else f"{THERE} and was not made by this command"
