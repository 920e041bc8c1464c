"""Named sets of trained weights: which there are, what each learned from, and where its files lie.

A set is a folder of ``.safetensors`` files and a ``card.json``. The default set comes with vidpose, in
``vidpose/weights/NAME``. Another comes with a package of its own, which names a module in the entry-point
group ``vidpose.weights``; the module's folder holds the files.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module, metadata, resources
from pathlib import Path
from typing import Any

from vidpose.errors import InputError

DEFAULT = "research"
"""The set that ``default`` means, and that comes with vidpose."""

KNOWN = {
    "rendered": "rendered people alone, no photograph of a person",
    "research": "rendered people, LSP-extended, JHMDB and more",
    "open": "rendered people, and HMDB51's video with labels of an Apache-2.0 teacher",
}
"""What each set of this project learned from."""

COMMON = "rendered"
"""The set that stands in for a file that another set lacks: its data are part of every set's."""

GROUP = "vidpose.weights"
"""The group of entry points: name of the set, and the module whose folder holds its files."""

DOCS = "docs/weights"
DETECTOR = "person_detector.safetensors"
FUSION = "propagation.safetensors"


@dataclass(frozen=True)
class WeightSet:
    """A set of weights, installed or not."""

    name: str
    folder: Path | None
    """Where its files lie; ``None``: not installed."""
    fault: str | None = None
    """Why its package cannot be used."""

    @property
    def files(self) -> list[Path]:
        """Its files of weights, by name."""
        found = self.folder.glob("*.safetensors") if self.folder is not None else ()
        return sorted(path for path in found if path.is_file())

    @property
    def size_bytes(self) -> int:
        """Of all its files of weights."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def card(self) -> dict[str, Any]:
        """Its ``card.json``: data and their licences, how each file was trained, where it was measured.

        Raises:
            InputError: the set is not installed, or has no card that can be read.
        """
        path = self.require() / "card.json"
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path}: the set's card cannot be read: {error}") from None
        if not isinstance(card, dict):
            raise InputError(f"{path}: the set's card is not a JSON object")
        return card

    @property
    def learned_from(self) -> str:
        """The data in a few words."""
        return KNOWN.get(self.name) or str(self.card.get("learned_from", "see its card"))

    @property
    def pip_command(self) -> str | None:
        """What installs the set's package, in vidpose's source folder; ``None``: this project has no such."""
        if self.name == DEFAULT or self.name not in KNOWN:
            return None
        return f"pip install packages/vidpose-weights-{self.name}"

    @property
    def problem(self) -> str | None:
        """Why it cannot be used although it is installed; ``None``: it can, or is not."""
        if self.fault is not None or self.folder is None:
            return self.fault
        try:
            self.card  # noqa: B018 - it is read
        except InputError as error:
            return str(error)
        return None

    def require(self) -> Path:
        """The folder of its files.

        Raises:
            InputError: it is not installed, and the message tells what to do, or its package is broken.
        """
        if self.fault is not None:
            raise InputError(self.fault)
        if self.folder is not None:
            return self.folder
        if self.pip_command is not None:
            do = f"are not installed: run `{self.pip_command}` in vidpose's source folder"
        else:
            of = "vidpose" if self.name == DEFAULT else "their package"
            do = f"are missing from this installation: reinstall {of}"
        raise InputError(f"the weights {self.name!r} {do}")

    def to_dict(self) -> dict[str, Any]:
        """What ``vidpose weights --json`` prints."""
        problem = self.problem
        return {
            "name": self.name,
            "default": self.name == DEFAULT,
            "installed": self.folder is not None,
            "problem": problem,
            "learned_from": KNOWN.get(self.name) if problem else self.learned_from,
            "folder": str(self.folder) if self.folder is not None else None,
            "files": {path.name: path.stat().st_size for path in self.files},
            "size_bytes": self.size_bytes,
            "pip_command": self.pip_command,
            "card": self.card if self.folder is not None and problem is None else None,
        }


def list_set_names() -> list[str]:
    """The names of this project's sets, installed or not, then of those in other packages."""
    others = (point.name for point in metadata.entry_points(group=GROUP))
    return list(dict.fromkeys([*KNOWN, *(name for name in others if name != "default")]))


def list_weight_sets() -> list[WeightSet]:
    """This project's sets, installed or not, then those of other packages; broken ones say so."""
    return [_listed(name) for name in list_set_names()]


def _listed(name: str) -> WeightSet:
    try:
        return WeightSet(name, _folder(name))
    except InputError as error:
        return WeightSet(name, None, str(error))


def find_weight_set(name: str) -> WeightSet:
    """A set by its name; ``default`` is :data:`DEFAULT`. It need not be installed.

    Raises:
        InputError: no set of that name; the message lists the known ones.
    """
    wanted = DEFAULT if name == "default" else name
    if wanted not in list_set_names():
        known = ", ".join(["default", *list_set_names()])
        raise InputError(f"no set of weights is called {name!r}; known: {known}; or give a file or a hub id")
    return WeightSet(wanted, _folder(wanted))


def set_name(weights: str | os.PathLike[str]) -> str | None:
    """The real name of the set that ``weights`` names; ``None`` where it is a file, a folder or a hub id.

    A set's name comes before a file of that name: ``./open`` is the file.

    Raises:
        InputError: a word that is neither.
    """
    text = os.fspath(weights)
    if text == "default":
        return DEFAULT
    if text in list_set_names():
        return text
    if re.fullmatch(r"[\w-]+", text) and not Path(text).exists():
        find_weight_set(text)  # raises
    return None


def find_file(file: str, weights: str | os.PathLike[str] = "default") -> tuple[Path, str] | None:
    """A file of a set, and the name of the set that holds it; ``None`` where no set does.

    What the set lacks comes from :data:`COMMON`, where that is installed. Where ``weights`` is a file or a
    hub id, the default set is asked.

    Raises:
        InputError: no set of that name, or it is not installed.
    """
    wanted = find_weight_set(set_name(weights) or DEFAULT)
    path = wanted.require() / file
    if path.is_file():
        return path, wanted.name
    common = find_weight_set(COMMON)
    if common.folder is not None and (common.folder / file).is_file():
        return common.folder / file, common.name
    return None


def describe_weights(weights: str | None, **others: str | None) -> str | None:
    """The line that tells a command's weights: ``weights: rendered (learned from …; other sets: …)``.

    Args:
        weights: name of the set, or the file, of the pose model; ``None``: there is none.
        others: names of the sets of other parts, such as ``detector``; ``None``: of no set.

    Returns:
        ``None`` where nothing is of a set.
    """
    told, more = [], f"; other sets: {DOCS}"
    for what, name in {"weights": weights, **others}.items():
        if name is None or (what != "weights" and name == weights):
            continue
        if name in list_set_names():
            told.append(f"{what}: {name} (learned from {find_weight_set(name).learned_from}{more})")
            more = ""
        else:
            told.append(f"{what}: {name}")
    return None if more else "; ".join(told)


def tell_weights(weights: str | None, *, quiet: bool, **others: str | None) -> None:
    """Prints :func:`describe_weights` on standard error, unless ``quiet``."""
    line = None if quiet else describe_weights(weights, **others)
    if line is not None:
        print(line, file=sys.stderr, flush=True)


def format_weight_sets(sets: Sequence[WeightSet]) -> str:
    """Sets as a table: which is installed, how large it is, what it learned from, how to get it."""
    rows = [("set", "installed", "MB", "learned from", "how to get it")]
    for found in sets:
        size = f"{found.size_bytes / 1e6:.1f}" if found.folder is not None else "-"
        name = f"{found.name} (default)" if found.name == DEFAULT else found.name
        get = found.pip_command or ""
        if found.folder is not None and found.folder.parent == bundled_folder():
            get = "comes with vidpose"
        problem = found.problem
        if problem is None:
            rows.append((name, "yes" if found.folder is not None else "no", size, found.learned_from, get))
        else:
            rows.append((name, "unusable", size, KNOWN.get(found.name, "-"), problem))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*(line.rstrip() for line in lines), "", f"Each set's card: {DOCS} and --json."])


def _folder(name: str) -> Path | None:
    """Where the files of a set lie: in vidpose, or beside the module that an entry point names."""
    bundled = bundled_folder() / name
    if any(bundled.glob("*.safetensors")):
        return bundled
    for point in metadata.entry_points(group=GROUP, name=name):
        try:
            folder = Path(str(resources.files(import_module(point.module))))
        except Exception as error:  # whatever a foreign package raises
            raise InputError(f"the package of the weights {name!r} cannot be used: {error}") from error
        if any(folder.glob("*.safetensors")):
            return folder
    return None


def bundled_folder() -> Path:
    """The folder of the sets that come with vidpose."""
    return Path(str(resources.files("vidpose"))) / "weights"
