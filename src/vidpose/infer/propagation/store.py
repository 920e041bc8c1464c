"""Finished parts of a long propagation on disk, so that a killed one continues where it was."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from vidpose.errors import InputError
from vidpose.io.files import atomic_path, read_json, write_json

JOB = "job.json"
_BLOCK = re.compile(r"\d{8}-\d{8}\.npz|\.\d{8}-\d{8}-[a-z0-9_]{8}\.npz")  # of which some are half-written
Arrays = tuple[np.ndarray, ...]


class BlockStore:
    """Arrays of each block of a video.

    Args:
        folder: made if absent; ``None``: nothing is kept. Blocks of another job in it are thrown away, other
            files stay.
        key: what the blocks depend on, see :func:`job_key`.

    Raises:
        InputError: the folder holds a ``job.json`` of something else.
    """

    def __init__(self, folder: Path | None, key: str) -> None:
        self.folder, self.key = folder, key
        if folder is None:
            return
        told = folder / JOB
        known = read_json(told) if os.path.lexists(told) else ""
        if not isinstance(known, str):
            raise InputError(
                f"{told}: is not of a propagation; move it away, or choose another folder for parts"
            )
        if known != key:
            _delete_blocks(folder)
            write_json(told, key)

    def part(self, name: str) -> BlockStore:
        """A store for other arrays of the same blocks."""
        return BlockStore(None if self.folder is None else self.folder / name, self.key)

    def get(self, start: int, end: int, make: Callable[[], Arrays], given: Arrays = ()) -> Arrays:
        """The arrays of the block from frame ``start`` to ``end``; made where they are not kept yet.

        ``given``: what they depend on besides the labels in the block. Here the key stands for it.
        """
        if self.folder is None:
            return make()
        file = self.folder / f"{start:08d}-{end:08d}.npz"
        if file.is_file():
            with np.load(file) as kept:
                return tuple(kept[name] for name in sorted(kept.files))
        arrays = make()
        with atomic_path(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **{f"a{k:02d}": array for k, array in enumerate(arrays)})  # type: ignore[arg-type]
        return arrays


def discard(folder: Path) -> None:
    """Deletes the blocks of a job, or of the jobs of a data set's videos, and folders that are empty then."""
    _delete_blocks(folder)
    for told in [folder / JOB, *folder.glob(f"*/{JOB}")]:
        with suppress(InputError):
            if isinstance(read_json(told), str):
                told.unlink()
    for place in [*sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True), folder]:
        with suppress(OSError):  # something else is in it
            place.rmdir()


def _delete_blocks(folder: Path) -> None:
    for path in folder.rglob("*.npz"):
        if _BLOCK.fullmatch(path.name):
            path.unlink()


def job_key(files: Sequence[str | os.PathLike[str]], settings: object) -> str:
    """A hash of settings and of files: of their content, or of size and time where they are large."""
    digest = hashlib.sha256(repr(settings).encode())
    for name in files:
        path = Path(name)
        digest.update(os.fspath(path.absolute()).encode())
        if path.is_file() and path.stat().st_size < 2**26:
            digest.update(path.read_bytes())
        elif path.exists():
            digest.update(repr((path.stat().st_size, path.stat().st_mtime_ns)).encode())
    return digest.hexdigest()
