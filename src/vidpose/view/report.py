"""A saved result drawn over its video: an mp4 of all frames, or a contact sheet of a few."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vidpose.errors import InputError
from vidpose.io.sources import find_source
from vidpose.io.video import open_video
from vidpose.io.video_writer import VideoWriter
from vidpose.progress import track
from vidpose.results import FramePoses, VideoPoses
from vidpose.view.draw import contact_sheet, draw_poses, save_png


def view(
    result: str | os.PathLike[str],
    *,
    source: str | None = None,
    output: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> Path:
    """Draws a result file over its video.

    Args:
        result: a file that ``estimate`` wrote, in any format.
        source: the video; by default the one that the result names.
        output: ``.mp4`` for all frames, ``.png`` for a contact sheet; by default the mp4 beside the result.

    Returns:
        The path of what was written.

    Raises:
        InputError: the result, the video or the output cannot be used, or do not belong together.
    """
    poses = VideoPoses.load(result)
    source = source or _source_of(poses, Path(result))
    target = Path(output) if output is not None else Path(result).with_suffix(".mp4")
    if target.exists() and any(Path(p).exists() and target.samefile(p) for p in (source, result)):
        raise InputError(f"{target}: would replace what is read; give another --output")
    if target.suffix.lower() == ".png":
        write_contact_sheet(poses, source, target)
    elif target.suffix.lower() == ".mp4":
        _write_video(poses, source, target, quiet)
    else:
        raise InputError(f"{target}: unknown picture format; use .mp4 or .png")
    return target


def _source_of(poses: VideoPoses, result: Path) -> str:
    if not poses.source:
        raise InputError(f"{result}: does not say which video it belongs to; give --source")
    try:
        find_source(poses.source)
    except InputError:
        # Not looked for beside the result: what has its name there is the annotated video.
        raise InputError(f"{result}: its video {poses.source} is not there; give --source") from None
    return poses.source


def _write_video(poses: VideoPoses, source: str, target: Path, quiet: bool) -> None:
    frames = drawn_frames(poses, source)
    first = next(frames, None)
    if first is None:
        raise InputError(f"{source}: has none of the frames that the result describes")
    with VideoWriter(target, poses.fps, (first[0].shape[0], first[0].shape[1])) as writer:
        writer.write(first[0], first[1].time)
        for image, frame in track(frames, "draw", total=len(poses) - 1, unit="frames", quiet=quiet):
            writer.write(image, frame.time)


def drawn_frames(
    poses: VideoPoses, source: str, *, time: bool = True
) -> Iterator[tuple[np.ndarray, FramePoses]]:
    """The frames of ``source`` that ``poses`` has, annotated, in order."""
    wanted = {frame.index: frame for frame in poses}
    last = max(wanted, default=-1)
    with open_video(source) as video:
        if poses.width and (video.width, video.height) != (poses.width, poses.height):
            raise InputError(
                f"{source}: is {video.width}x{video.height}, the result belongs to a video of "
                f"{poses.width}x{poses.height}"
            )
        for frame in video:
            if frame.index in wanted:
                found = wanted[frame.index]
                yield draw_poses(frame.image, found, poses.skeleton, time=time), found
            if frame.index >= last:
                return


def write_contact_sheet(
    poses: VideoPoses, source: str, path: str | os.PathLike[str], *, count: int = 9, columns: int = 3
) -> Path:
    """``count`` annotated frames, evenly spread over the video, in one PNG."""
    chosen = np.unique(np.linspace(0, len(poses) - 1, min(count, len(poses))).round().astype(int))
    spread = VideoPoses(
        [poses.frames[i] for i in chosen.tolist()], poses.skeleton, poses.source, poses.width, poses.height
    )
    drawn = list(drawn_frames(spread, source, time=False))  # the sheet's labels say it
    if not drawn:
        raise InputError(f"{source}: has none of the frames that the result describes")
    save_png(
        path,
        contact_sheet(
            [image for image, _ in drawn],
            columns=columns,
            labels=[f"frame {frame.index}, {frame.time:.2f} s" for _, frame in drawn],
        ),
    )
    return Path(path)
