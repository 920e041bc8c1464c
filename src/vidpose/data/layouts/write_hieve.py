"""Predictions as HiEve's test server takes them: a zip with one JSON file per video, called as it is."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from vidpose.data.dataset import Frame, PoseDataset, Video
from vidpose.data.layouts.write_posetrack import posetrack17_document
from vidpose.errors import InputError

_CORNERS = ("x1", "y1", "x2", "y2")


def write_submission(data: PoseDataset, path: Path) -> None:
    """Writes the zip; ``data`` is in :data:`vidpose.skeletons.HIEVE14`.

    Raises:
        InputError: two videos of one name.
    """
    names = [video.name for video in data.videos]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"two videos are called {twice[0]}; the test server knows videos by their names")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for video in data.videos:
            # One date for all, so that the same predictions are the same bytes.
            entry = zipfile.ZipInfo(f"{video.name}.json", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, json.dumps(track_document(video), allow_nan=False))


def track_document(video: Video) -> dict[str, Any]:
    """``annolist`` of a video's pose track, as of PoseTrack17 with 14 joints.

    silent: the public description of the format ends before the fields of this file; they are those of
    PoseTrack17, whose evaluation the server builds on. x1 … y2 is the person's box.
    """
    document = posetrack17_document(video)
    for frame, entry in zip(video.frames, document["annolist"], strict=True):
        entry["image"] = [{"name": f"{frame_number(frame):06d}.jpg"}]
        for rect in entry["annorect"]:
            head = {key: rect.pop(key) for key in _CORNERS if key in rect}
            box = rect.pop("box", [head])[0]
            rect |= {key: box[key] for key in _CORNERS if key in box}
    return document


def frame_number(frame: Frame) -> int:
    """Number of a frame in its video, from 0."""
    if frame.video_frame is not None:
        return frame.video_frame
    digits = re.search(r"(\d+)$", PurePosixPath(frame.file_name).stem)
    return int(digits[1]) if digits else frame.index
