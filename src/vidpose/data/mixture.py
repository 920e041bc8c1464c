"""Several data sets in one training, each with its share of the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vidpose.data.dataset import Person, PoseDataset, Video
from vidpose.data.readers import usable
from vidpose.errors import InputError
from vidpose.skeletons import Skeleton


def joined(datasets: Sequence[PoseDataset], skeleton: Skeleton) -> tuple[PoseDataset, np.ndarray]:
    """The videos of all data sets in one, in one joint set.

    A joint that a data set lacks is unlabelled there. Track ids count within a video, as before.

    Args:
        datasets: one or more; the first one's folder and split become those of the whole.
        skeleton: joints of the result, matched by name.

    Returns:
        The data, and [V] the position in ``datasets`` that each video comes from.

    Raises:
        InputError: no data set has a label for some joint.
    """
    parts = [data if data.skeleton.joints == skeleton.joints else usable(data, skeleton) for data in datasets]
    missing = [name for name in skeleton.joints if all(name not in data.skeleton.index for data in datasets)]
    if missing:
        raise InputError(f"recipe: no data set of data.root and data.mix labels {', '.join(missing)}")
    videos = [video for data in parts for video in data.videos]
    origin = np.repeat(np.arange(len(parts)), [len(data.videos) for data in parts])
    return replace(parts[0], videos=videos, skeleton=skeleton), origin


def without_images(data: PoseDataset, listed: str | Path) -> PoseDataset:
    """The data without the labels of some images, which stay as neighbours of others.

    Args:
        listed: a text file with one image name a line, as the annotations call them; empty lines and lines
            that begin with ``#`` are left out.

    Raises:
        InputError: the file cannot be read, or names an image that the data lack.
    """
    try:
        lines = Path(listed).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{listed}: cannot be read: {error}") from None
    names = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    unknown = names - {frame.file_name for _, frame in data.frames()}
    if unknown:
        raise InputError(
            f"{listed}: {len(unknown)} names are no images of {data.root}, {min(unknown)} is one"
        )

    def change(video: Video) -> Video:
        if not any(frame.file_name in names for frame in video.frames):
            return video
        frames = [
            replace(frame, people=[], is_labeled=False) if frame.file_name in names else frame
            for frame in video.frames
        ]
        return replace(video, frames=frames)

    return replace(data, videos=[change(video) for video in data.videos])


def weighted_joints(data: PoseDataset, weights: Mapping[str, float]) -> PoseDataset:
    """The data with joints that count less in training.

    Args:
        weights: 0 to 1 by joint name; ``hip`` stands for both hips.

    Raises:
        InputError: a name that is no joint of the data.
    """
    factors = np.ones(data.skeleton.num_joints)
    for name, weight in weights.items():
        places = [data.skeleton.index.get(n) for n in (name, f"left_{name}", f"right_{name}")]
        chosen = [place for place in places if place is not None]
        if not chosen:
            raise InputError(f"recipe: joint_weights: {name} is no joint of {data.root}")
        factors[chosen] = weight

    def change(person: Person) -> Person:
        keypoints = person.keypoints.copy()
        keypoints[:, 2] *= factors
        keypoints[keypoints[:, 2] <= 0] = 0
        return replace(person, keypoints=keypoints)

    videos = [
        replace(v, frames=[replace(f, people=[change(p) for p in f.people]) for f in v.frames])
        for v in data.videos
    ]
    return replace(data, videos=videos)
