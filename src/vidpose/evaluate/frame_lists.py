"""Frames by name: lists that restrict an evaluation, and weights of frames."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from vidpose.errors import InputError
from vidpose.evaluate.people import Frames
from vidpose.io.files import read_json


def read_frame_list(path: str | os.PathLike[str]) -> list[str]:
    """Frame names from a text file (one a line, ``#`` starts a comment) or JSON (a list, or ``frames``).

    Raises:
        InputError: naming the file and what is wrong with it.
    """
    source = Path(path)
    if source.suffix == ".json":
        data = read_json(source)
        names = data.get("frames") if isinstance(data, dict) else data
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{source}: is not a list of frame names, nor an object with one at 'frames'")
    else:
        try:
            lines = source.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            raise InputError(f"{source}: no such file") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{source}: cannot be read as a list of frames: {error}") from None
        names = [line.split("#")[0].strip() for line in lines]
    names = [name for name in names if name]
    if not names:
        raise InputError(f"{source}: names no frame")
    return names


def select_frames(frames: Frames, names: Iterable[str], source: str) -> Frames:
    """Only the frames of those names; a note says how many of the names are not among them.

    Raises:
        InputError: none is.
    """
    found, unknown = locate(frames, list(names), source)
    keep = np.zeros(len(frames), dtype=bool)
    keep[sorted(set(found.values()))] = True
    if not keep.any():
        raise InputError(
            f"{source}: names no frame of the ground truth, which has for example {frames.names[0]}"
        )
    kept = frames.keep(keep)
    kept.notes.append(f"{source}: {len(kept):,} of {len(frames):,} frames are scored")
    if unknown:
        kept.notes.append(
            f"{source}: {len(unknown)} of its frames take no part, for example {unknown[0]}: absent, "
            "or without annotated people"
        )
    return kept


def read_frame_weights(path: str | os.PathLike[str], frames: Frames) -> np.ndarray:
    """[F] weights from JSON ``{frame name: weight}``; a frame that it does not name weighs 1, with a note.

    Raises:
        InputError: naming the file and what is wrong with it.
    """
    data: Any = read_json(path)
    if not isinstance(data, dict) or not data:
        raise InputError(f"{path}: is not an object of frame names and weights")
    for name, weight in data.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise InputError(f"{path}: the weight of {name} is not a finite number from 0 on")
    found, _ = locate(frames, list(data), str(path))
    if not found:
        raise InputError(
            f"{path}: names no frame of the ground truth, which has for example {frames.names[0]}"
        )
    weights = np.ones(len(frames))
    for name, frame in found.items():
        weights[frame] = data[name]
    without = len(frames) - len(set(found.values()))
    if without:
        frames.notes.append(f"{path}: names no weight for {without:,} frames: they weigh 1")
    if not weights.any():
        raise InputError(f"{path}: all weights are 0")
    return weights


def locate(frames: Frames, names: list[str], source: str) -> tuple[dict[str, int], list[str]]:
    """Which frame each name means: by the whole name, else its last two parts, else its last part.

    Returns:
        name -> frame for those found, and the names not found.

    Raises:
        InputError: a name fits several frames.
    """
    tables: list[dict[str, list[int]]] = []
    for parts in (1000, 2, 1):
        table: dict[str, list[int]] = {}
        for f, name in enumerate(frames.names):
            table.setdefault(_tail(name, parts), []).append(f)
        tables.append(table)
    found: dict[str, int] = {}
    unknown: list[str] = []
    for name in names:
        for table, parts in zip(tables, (1000, 2, 1), strict=True):
            fitting = table.get(_tail(name, parts), [])
            if len(fitting) > 1:
                raise InputError(
                    f"{source}: {name} fits several frames, for example {frames.names[fitting[0]]} and "
                    f"{frames.names[fitting[1]]}: give more of the path"
                )
            if fitting:
                found[name] = fitting[0]
                break
            if parts == 2 and "/" in name.replace("\\", "/"):
                break  # its folder is another one
        if name not in found:
            unknown.append(name)
    return found, unknown


def _tail(name: str, parts: int) -> str:
    split = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    return "/".join(split[-parts:])
