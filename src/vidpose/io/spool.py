"""Poses of a long video on disk instead of in memory."""

from __future__ import annotations

import pickle
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, overload

from vidpose.results import FramePoses


class FrameSpool(Sequence[FramePoses]):
    """A sequence of frames in a temporary file: 8 bytes of memory for each, whatever is in it.

    Takes the place of a list as :attr:`vidpose.results.VideoPoses.frames`. A context manager; the file goes
    when it is closed.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="vidpose-")  # noqa: SIM115 - open as long as the object
        self._starts = array("q")

    def append(self, frame: FramePoses) -> None:
        """Adds a frame at the end."""
        self._file.seek(0, 2)
        self._starts.append(self._file.tell())
        pickle.dump(frame, self._file, protocol=pickle.HIGHEST_PROTOCOL)

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, position: int) -> FramePoses: ...
    @overload
    def __getitem__(self, position: slice) -> list[FramePoses]: ...
    def __getitem__(self, position: int | slice) -> Any:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        self._file.seek(self._starts[position])
        return pickle.load(self._file)  # only this process has written it

    def __iter__(self) -> Iterator[FramePoses]:
        return (self[i] for i in range(len(self)))

    def close(self) -> None:
        """Removes the file."""
        self._file.close()

    def __enter__(self) -> FrameSpool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
