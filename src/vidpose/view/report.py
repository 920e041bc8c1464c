"""A saved result drawn over its video: an mp4 of all frames, or a contact sheet of a few."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vidpose.errors import InputError
from vidpose.io.outputs import PNG_MARK, THERE, check_replaceable, unless_marked
from vidpose.io.sources import find_source, source_digest
from vidpose.io.video import open_video
from vidpose.io.video_writer import VideoWriter, drawn_digest
from vidpose.progress import track
from vidpose.results import FramePoses, VideoPoses
from vidpose.view.draw import contact_sheet, draw_poses, save_png


def view(
    result: str | os.PathLike[str],
    *,
    source: str | None = None,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """Draws a result file over its video.

    Args:
        result: a file that ``estimate`` wrote, in any format.
        source: the video; by default the one that the result names.
        output: ``.mp4`` for all frames, ``.png`` for a contact sheet; by default the mp4 beside the result.
        overwrite: replace whatever is there, but never what is read; otherwise only an mp4 that vidpose drew
            over the same video, and a picture that it made.

    Returns:
        The path of what was written.

    Raises:
        InputError: the result, the video or the output cannot be used, or do not belong together; or another
            file would be replaced.
    """
    poses = VideoPoses.load(result)
    source = source or _source_of(poses, Path(result))
    target = Path(output) if output is not None else Path(result).with_suffix(".mp4")
    suffix = target.suffix.lower()
    if suffix not in (".mp4", ".png"):
        raise InputError(f"{target}: unknown picture format; use .mp4 or .png")
    digest = source_digest(find_source(source))

    def objection(path: Path) -> str | None:
        if suffix == ".png":
            return unless_marked(PNG_MARK)(path)
        return None if drawn_digest(path) == digest else f"{THERE} and was not drawn over this video"

    read = [name for name in (source, result) if Path(name).is_file()]
    check_replaceable(target, overwrite=overwrite, inputs=read, objection=objection)
    if suffix == ".png":
        write_contact_sheet(poses, source, target)
    else:
        _write_video(poses, source, target, digest, quiet)
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


def _write_video(poses: VideoPoses, source: str, target: Path, digest: str | None, quiet: bool) -> None:
    frames = drawn_frames(poses, source)
    first = next(frames, None)
    if first is None:
        raise InputError(f"{source}: has none of the frames that the result describes")
    size = first[0].shape[0], first[0].shape[1]
    with VideoWriter(target, poses.fps, size, source_digest=digest) as writer:
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
