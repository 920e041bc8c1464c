"""Finished parts of a long propagation on disk, so that a killed one continues where it was."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vidpose.io.files import atomic_path, read_json, write_json

Arrays = tuple[np.ndarray, ...]


class BlockStore:
    """Arrays of each block of a video.

    Args:
        folder: made if absent; ``None``: nothing is kept. What it holds of another job is thrown away.
        key: what the blocks depend on, see :func:`job_key`.
    """

    def __init__(self, folder: Path | None, key: str) -> None:
        self.folder, self.key = folder, key
        if folder is None:
            return
        told = folder / "job.json"
        if not told.is_file() or read_json(told) != key:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
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
