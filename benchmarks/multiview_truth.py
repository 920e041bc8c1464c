"""Labels of real video from poses on which calibrated cameras agree: truth, nearly, where there is none.

    vidpose estimate DIR/p2s_*.mp4 -o poses
    python benchmarks/multiview_truth.py --clips DIR poses -o data/agreed

A joint is triangulated from those three cameras or more that agree best about it (to 3 % of the person's
height), put on a smooth path over seven frames, and projected into all cameras; where they do not agree it
has no label. Heads are boxes of 22 cm around the middle of the head, or of what is known of a person: they
say how large people are. What is written is a data set in PoseTrack18's layout (split ``val``, one video for
each camera), for benchmarks/propagation.py.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import av
import cv2
import numpy as np
from multiview import (
    HEIGHT,
    LEAST_VIEWS,
    Person,
    View,
    add_people_option,
    largest_groups,
    read_views,
    reproject,
    root_mean_square,
    seen_at,
)

from vidpose.data.convert import write_labels
from vidpose.data.dataset import Frame, PoseDataset, Video
from vidpose.data.dataset import Person as Labelled
from vidpose.errors import InputError
from vidpose.geometry import enclosing_box
from vidpose.results import VideoPoses
from vidpose.skeletons import POSETRACK15

AGREED = 0.03
"""Of a person's height."""
HEAD = 220.0
"""Millimetres."""
REACH = 3
"""Frames on each side by which a path is smoothed."""
LEAST_JOINTS = 6


def agreed_places(views: list[View], group: list[Person]) -> np.ndarray:
    """[J, 3] joints on which three cameras or more agree, NaN elsewhere."""
    places = np.full((POSETRACK15.num_joints, 3), np.nan)
    least = np.full(len(places), AGREED)
    for size in range(LEAST_VIEWS, len(group) + 1):
        for some in combinations(group, size):
            where, misses = reproject(views, list(some), HEIGHT)
            error = root_mean_square(misses)
            better = error < least
            places[better], least[better] = where[better], error[better]
    return places


def follow(found: Sequence[Sequence[np.ndarray]], count: int) -> np.ndarray:
    """[P, F, J, 3] of ``count`` people from the places [J, 3] of each frame: whoever is nearest goes on."""
    tracks = np.full((count, len(found), POSETRACK15.num_joints, 3), np.nan)
    last: dict[int, np.ndarray] = {}
    for t, here in enumerate(found):
        free = list(range(count))
        for places in here:
            if np.isfinite(places[:, 0]).any() and free:
                middle = np.nanmean(places, axis=0)
                # Whoever has not been seen yet is far from everybody.
                away = [np.linalg.norm(last[p] - middle) if p in last else 1e9 for p in free]
                person = free.pop(int(np.argmin(away)))
                last[person] = middle
                tracks[person, t] = places
    return tracks


def smooth(path: np.ndarray) -> np.ndarray:
    """A joint's path [F, 3], NaN where it is not known, drawn through parabolas over its neighbours."""
    out = np.full_like(path, np.nan)
    for t in range(len(path)):
        times = np.arange(max(t - REACH, 0), min(t + REACH + 1, len(path)))
        times = times[np.isfinite(path[times, 0])]
        if len(times) > REACH and times[0] <= t <= times[-1]:
            out[t] = np.polynomial.polynomial.polyfit(times - t, path[times], 2)[0]
    return out


def label(view: View, places: np.ndarray, person: int, size: tuple[int, int]) -> Labelled | None:
    """A person [J, 3] as one camera sees them; ``None`` where too little of them is in the picture."""
    known = np.isfinite(places[:, 0])
    points = np.zeros((len(places), 2))
    if known.any():
        points[known] = view.project(places[known])
    known &= ((points >= 0) & (points < size[::-1])).all(axis=1)
    box = enclosing_box(points, known, margin=0.1)
    ends = [POSETRACK15.index[name] for name in ("head_bottom", "head_top")]
    if known.sum() < LEAST_JOINTS or box is None:
        return None
    middle = points[ends if known[ends].all() else known].mean(axis=0)
    half = HEAD / 2 * view.matrix[0, 0] / np.median(view.depth(places[known]))
    keypoints = np.column_stack([points, np.ones(len(points))]) * known[:, None]
    head = np.concatenate([middle - half, middle + half])
    return Labelled(keypoints, box, head, person, known)


def make_videos(name: str, count: int, poses: Path, clips: Path, out: Path) -> list[Video]:
    """One video for each camera of a scene, with its pictures."""
    views = read_views(clips / f"{name}_calibration.qca.txt")
    videos = [VideoPoses.load(poses / f"{name}_cam{k + 1:02d}.json") for k in range(len(views))]
    found = [
        [agreed_places(views, group) for group in largest_groups(views, seen_at(videos, t), HEIGHT, count)]
        for t in range(min(len(video) for video in videos))
    ]
    tracks = follow(found, count)
    for path in tracks.transpose(0, 2, 1, 3).reshape(-1, len(found), 3):
        path[:] = smooth(path)
    print(f"{name}: {100 * np.isfinite(tracks[..., 0]).mean():.0f} % of the joints are agreed on")
    made = []
    for k, view in enumerate(views):
        folder = out / "images" / "val" / f"{name}_{k + 1}"
        folder.mkdir(parents=True)
        frames = []
        with av.open(str(clips / f"{name}_cam{k + 1:02d}.mp4")) as file:
            for t, picture in zip(range(len(found)), file.decode(video=0), strict=False):
                image = picture.to_ndarray(format="bgr24")
                path = folder / f"{t:06d}.jpg"
                cv2.imwrite(str(path), image)
                size = image.shape[0], image.shape[1]
                people = [label(view, track[t], p, size) for p, track in enumerate(tracks)]
                there = [person for person in people if person is not None]
                frames.append(Frame(path, path.relative_to(out).as_posix(), t, t, size, True, there))
        made.append(Video(folder.name, frames, folder))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("poses", type=Path, help="folder that `vidpose estimate` wrote")
    parser.add_argument("--clips", type=Path, required=True)
    add_people_option(parser)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    warnings.simplefilter("ignore", np.exceptions.RankWarning)
    try:
        if options.out.exists():
            raise InputError(f"{options.out}: is there already; name a new folder")
        options.out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=options.out.absolute().parent) as temporary:
            folder = Path(temporary) / "data"
            videos = []
            for name, count in options.people.items():
                videos += make_videos(name, count, options.poses, options.clips, folder)
            data = PoseDataset(videos, POSETRACK15, folder, "val")
            labels = Path(temporary) / "labels"
            write_labels([data], labels, "posetrack18")
            os.replace(labels / "annotations", folder / "annotations")
            os.replace(folder, options.out)  # whole or not at all
    except (InputError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
