"""What is wrong with annotation files: the first fault raised, or all gathered, each with its place."""

from __future__ import annotations

import contextlib
import json
import math
import re
from bisect import bisect_left
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vidpose.errors import InputError
from vidpose.geometry import xywh_to_xyxy

MAX_COORDINATE = 1e5
"""Pixels; beyond it a coordinate is a mistake, not a joint outside the picture."""

MAX_FRAMES = 10**6
"""Of one video, eleven hours of it; a larger number is a mistake, and nothing is made of its frames."""

Key = str | int
T = TypeVar("T")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, and where."""

    file: Path
    keys: tuple[Key, ...]
    """The way into a JSON file, such as ``("annotations", 17)``; empty: the whole file."""
    what: str
    note: str = ""
    """What helps a person to find it, such as the image's name."""
    line: int | None = None
    """From 1."""
    column: int | None = None
    """From 1, where the file has but one line."""
    is_error: bool = True
    """False: reading goes on as if nothing were, or leaves the entry out as it should."""

    def __str__(self) -> str:
        place = _spell(self.keys)
        if self.note:
            place = f"{place} ({self.note})" if place else self.note
        numbers = (number for number in (self.line, self.column) if number is not None)
        file = ":".join(map(str, (self.file, *numbers)))
        return f"{file}: {place}: {self.what}" if place else f"{file}: {self.what}"


def _spell(keys: tuple[Key, ...]) -> str:
    """``("annotations", 17, "bbox")`` -> ``annotations[17].bbox``."""
    parts = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return "".join(parts).removeprefix(".")


class Faults:
    """Takes what readers find.

    Args:
        strict: the first error is raised as an :class:`InputError`, remarks are passed over; else everything
            is gathered in ``found`` and the reader leaves the broken entry out.
    """

    def __init__(self, *, strict: bool = True) -> None:
        self.strict = strict
        self.found: list[Fault] = []
        self.assumed: list[str] = []
        """What a reader took for granted, such as where the images are; nothing wrong, one line each."""

    def assume(self, what: str) -> None:
        """Keeps what a person should know who wonders why a data set reads as it does."""
        if what not in self.assumed:
            self.assumed.append(what)

    def at(self, file: Path, *keys: Key, note: str = "", line: int | None = None) -> Place:
        """A place in a file, to report to."""
        return Place(self, file, keys, note, line)

    def add(self, fault: Fault) -> None:
        """Raises or gathers one fault."""
        if not self.strict:
            self.found.append(fault)
        elif fault.is_error:
            raise InputError(str(with_lines([fault])[0]))

    @property
    def errors(self) -> int:
        """How many errors, not remarks, were gathered."""
        return sum(fault.is_error for fault in self.found)


@dataclass(frozen=True)
class Place:
    """A place in a file; whatever is wrong there is told to ``faults``."""

    faults: Faults
    file: Path
    keys: tuple[Key, ...] = ()
    note: str = ""
    line: int | None = None

    def error(self, what: str) -> None:
        """The entry cannot be used."""
        self.faults.add(Fault(self.file, self.keys, what, self.note, self.line))

    def remark(self, what: str) -> None:
        """The entry is odd; reading goes on."""
        self.faults.add(Fault(self.file, self.keys, what, self.note, self.line, is_error=False))

    def attempt(self, parse: Callable[..., T], *arguments: Any) -> T | None:
        """What ``parse(*arguments)`` returns; an :class:`InputError` becomes an error here, and ``None``."""
        try:
            return parse(*arguments)
        except InputError as problem:
            self.error(str(problem))
            return None


# --- lines -----------------------------------------------------------------------------------------------


def with_lines(faults: list[Fault]) -> list[Fault]:
    """The same faults with the line of each place in a JSON file, and the column where all is one line.

    Each file is gone through once, however many faults it has.
    """
    by_file: dict[Path, list[int]] = {}
    for i, fault in enumerate(faults):
        if fault.line is None and fault.keys:
            by_file.setdefault(fault.file, []).append(i)
    out = list(faults)
    for file, positions in by_file.items():
        text = _text(file)
        places = locate(text, {faults[i].keys for i in positions})
        one_line = "\n" not in text.strip()
        breaks = [] if one_line else [match.start() for match in re.finditer("\n", text)]
        for i in positions:
            offset = places.get(faults[i].keys)
            if offset is not None:
                line, column = bisect_left(breaks, offset) + 1, offset + 1 if one_line else None
                out[i] = replace(faults[i], line=line, column=column)
    return out


def _text(file: Path) -> str:
    """A file's text where it can be JSON, else nothing."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return ""
    return text if text.lstrip()[:1] in ("{", "[") else ""


_SPACE = re.compile(r"[ \t\n\r]*")


def locate(text: str, ways: Collection[tuple[Key, ...]]) -> dict[tuple[Key, ...], int]:
    """Offsets of values in a JSON text, or of their nearest parents that are there, in one pass.

    Args:
        text: valid JSON.
        ways: the ways to the values, from the outside in; one that is not found at all is left out.
    """
    tree: dict[Key, Any] = {}
    for way in ways:
        branch = tree
        for key in way:
            branch = branch.setdefault(key, {})
    found: dict[tuple[Key, ...], int] = {}
    with contextlib.suppress(json.JSONDecodeError, RecursionError):  # changed since it was read
        _walk(text, _skip(text, 0), tree, (), found)
    out = {}
    for way in ways:
        known = next((way[:n] for n in range(len(way), 0, -1) if way[:n] in found), None)
        if known is not None:
            out[way] = found[known]
    return out


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


_decode = json.JSONDecoder().raw_decode


def _walk(
    text: str,
    position: int,
    tree: dict[Key, Any],
    way: tuple[Key, ...],
    found: dict[tuple[Key, ...], int],
) -> int:
    """Notes the offsets of the members in ``tree`` of the value at ``position``; returns where it ends."""
    opening = text[position : position + 1]
    if not tree or opening not in ("{", "["):
        return _decode(text, position)[1]
    position, number = _skip(text, position + 1), 0
    while text[position : position + 1] not in ("}", "]", ""):
        name: Key = number
        if opening == "{":
            name, position = _decode(text, position)
            position = _skip(text, _skip(text, position) + 1)
        if name in tree:
            found[(*way, name)] = position
            position = _walk(text, position, tree[name], (*way, name), found)
        else:
            position = _decode(text, position)[1]
        position = _skip(text, position)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)
        number += 1
    return position + 1


# --- parts of annotations that all layouts share -----------------------------------------------------------


def parse_numbers(values: Any, what: str, count: int | None = None) -> np.ndarray:
    """float64 numbers that make sense as pixels; the :class:`InputError` says what is wrong, not where."""
    try:
        plain = np.asarray(values)
        whole = plain.dtype.kind == "O" and all(type(value) in (int, float) for value in plain.flat)
        if plain.dtype.kind not in "iuf" and not whole:  # numbers beyond 64 bits are objects
            raise TypeError
        numbers = plain.astype(np.float64).reshape(-1)
    except OverflowError:
        raise InputError(f"{what} holds a number beyond all measure") from None
    except (TypeError, ValueError):
        raise InputError(f"{what} holds something that is not a number") from None
    if not np.isfinite(numbers).all():
        raise InputError(f"{what} holds NaN or infinity")
    if len(numbers) and np.abs(numbers).max() > MAX_COORDINATE:
        largest = np.abs(numbers).max()
        raise InputError(f"{what} holds {largest:g}; pixels of at most {MAX_COORDINATE:g} make sense")
    if count is not None and len(numbers) != count:
        raise InputError(f"{what} has {len(numbers)} numbers, {count} are needed")
    return numbers


def parse_box(values: Any, what: str) -> np.ndarray | None:
    """x, y, width, height -> xyxy; ``None`` where absent."""
    if values is None or (isinstance(values, list) and not values):
        return None
    numbers = parse_numbers(values, what)
    if len(numbers) != 4:
        raise InputError(f"{what} has {len(numbers)} numbers, 4 are needed: x, y, width, height")
    if numbers[2] < 0 or numbers[3] < 0:
        raise InputError(f"{what} has a negative width or height; it is x, y, width, height")
    return xywh_to_xyxy(numbers)


def check_frame(number: int, what: str) -> int:
    """The number of a frame or of frames, from 0; :class:`InputError` where no video can have it."""
    if not 0 <= number <= MAX_FRAMES:
        raise InputError(f"{what} {number:,}: a video has 0 to {MAX_FRAMES:,} frames")
    return number


def parse_whole(value: Any, what: str) -> int:
    """A whole number, also where the file writes it as 3.0."""
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or value != value // 1
        or abs(value) > 2**53
    ):
        raise InputError(f"{what} {value!r} is not a whole number")
    return int(value)
