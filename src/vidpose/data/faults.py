"""What is wrong with annotation files: the first fault raised, or all gathered, each with its place."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vidpose.errors import InputError
from vidpose.geometry import xywh_to_xyxy

MAX_COORDINATE = 1e5
"""Pixels; beyond it a coordinate is a mistake, not a joint outside the picture."""

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
    """From 1, for text files that are not JSON."""
    is_error: bool = True
    """False: reading goes on as if nothing were, or leaves the entry out as it should."""

    def __str__(self) -> str:
        place = _spell(self.keys)
        if self.note:
            place = f"{place} ({self.note})" if place else self.note
        file = str(self.file) if self.line is None else f"{self.file}:{self.line}"
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
    """The same faults with the line of each place in a JSON file of more than one line."""
    texts: dict[Path, str] = {}
    out = []
    for fault in faults:
        if fault.line is None and fault.keys and fault.file.suffix == ".json":
            if fault.file not in texts:
                texts[fault.file] = _text(fault.file)
            text = texts[fault.file]
            offset = locate(text, fault.keys) if "\n" in text.strip() else None
            if offset is not None:
                fault = replace(fault, line=text.count("\n", 0, offset) + 1)
        out.append(fault)
    return out


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return ""


_SPACE = re.compile(r"[ \t\n\r]*")


def locate(text: str, keys: tuple[Key, ...]) -> int | None:
    """Offset of a value in a JSON text, or of its nearest parent that is there; ``None``: not even that.

    Args:
        text: valid JSON.
        keys: the way to the value, from the outside in.
    """
    decode = json.JSONDecoder().raw_decode
    place = _skip(text, 0)
    for key in keys:
        found = _member(text, place, key, decode)
        if found is None:
            return place if place else None
        place = found
    return place


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _member(text: str, place: int, key: Key, decode: Callable[[str, int], tuple[Any, int]]) -> int | None:
    """Offset of one member of the object or array that begins at ``place``."""
    opening = "{" if isinstance(key, str) else "["
    if text[place : place + 1] != opening:
        return None
    position, number = _skip(text, place + 1), 0
    while text[position : position + 1] not in ("}", "]", ""):
        name: Key = number
        if opening == "{":
            name, position = decode(text, position)
            position = _skip(text, _skip(text, position) + 1)
        if name == key:
            return position
        _, position = decode(text, position)
        position = _skip(text, position)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)
        number += 1
    return None


# --- parts of annotations that all layouts share -----------------------------------------------------------


def parse_numbers(values: Any, what: str, count: int | None = None) -> np.ndarray:
    """float64 numbers that make sense as pixels; the :class:`InputError` says what is wrong, not where."""
    try:
        numbers = np.asarray(values, dtype=np.float64).reshape(-1)
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
