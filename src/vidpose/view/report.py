"""A saved result drawn over its video: an mp4 of all frames, or a contact sheet of a few."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vidpose.errors import InputError
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
        result: JSON that ``estimate`` wrote (PoseTrack18 layout).
        source: the video; by default the one that the result names.
        output: ``.mp4`` for all frames, ``.png`` for a contact sheet; by default the mp4 beside the result.

    Returns:
        The path of what was written.
    """
    poses = VideoPoses.load(result)
    source = source or poses.source
    if not source:
        raise InputError(f"{result}: does not say which video it belongs to; give --source")
    target = Path(output) if output is not None else Path(result).with_suffix(".mp4")
    if target.suffix.lower() == ".png":
        write_contact_sheet(poses, source, target)
    elif target.suffix.lower() == ".mp4":
        with VideoWriter(target, poses.fps, (poses.height, poses.width)) as writer:
            for image, frame in track(drawn_frames(poses, source), "draw", total=len(poses), unit="frame",
                                      quiet=quiet):  # fmt: skip
                writer.write(image, frame.time)
    else:
        raise InputError(f"{target}: unknown picture format; use .mp4 or .png")
    return target


def drawn_frames(poses: VideoPoses, source: str) -> Iterator[tuple[np.ndarray, FramePoses]]:
    """The frames of ``source`` that ``poses`` has, annotated, in order."""
    wanted = {frame.index: frame for frame in poses}
    with open_video(source) as video:
        for frame in video:
            if frame.index in wanted:
                found = wanted[frame.index]
                yield draw_poses(frame.image, found, poses.skeleton), found


def write_contact_sheet(
    poses: VideoPoses, source: str, path: str | os.PathLike[str], *, count: int = 9, columns: int = 3
) -> Path:
    """``count`` annotated frames, evenly spread over the video, in one PNG."""
    chosen = (
        {int(i) for i in np.linspace(0, len(poses) - 1, min(count, len(poses))).round()}
        if poses.frames
        else set()
    )
    spread = VideoPoses([poses.frames[i] for i in sorted(chosen)], poses.skeleton, poses.source)
    drawn = list(drawn_frames(spread, source))
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
