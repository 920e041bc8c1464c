"""A PoseTrack18-layout data set made on the spot: coloured dots for joints, two people, small frames."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from vidpose.skeletons import POSETRACK15, POSETRACK17, POSETRACK18

# Joints of a standing person in a box of 1 x 1.
_POSE = {
    "nose": (0.5, 0.12), "head_bottom": (0.5, 0.22), "head_top": (0.5, 0.02),
    "left_shoulder": (0.7, 0.28), "right_shoulder": (0.3, 0.28), "left_elbow": (0.85, 0.42),
    "right_elbow": (0.15, 0.42), "left_wrist": (0.95, 0.55), "right_wrist": (0.05, 0.55),
    "left_hip": (0.62, 0.55), "right_hip": (0.38, 0.55), "left_knee": (0.65, 0.76),
    "right_knee": (0.35, 0.76), "left_ankle": (0.66, 0.97), "right_ankle": (0.34, 0.97),
}  # fmt: skip


def make_posetrack(
    root: Path,
    *,
    splits: tuple[str, ...] = ("train", "val"),
    videos: int = 2,
    frames: int = 6,
    size: tuple[int, int] = (64, 96),
    unlabeled: tuple[int, ...] = (),
    people: int = 2,
    seed: int = 0,
) -> Path:
    """Writes ``root/annotations/SPLIT/*.json`` and ``root/images/SPLIT/*/*.jpg``; returns ``root``."""
    rng = np.random.default_rng(seed)
    for s, split in enumerate(splits):
        for v in range(videos):
            name = f"{v + 1:06d}_mpii_test"
            write_video(root, split, name, 100 * s + v + 1, rng, frames, size, unlabeled, people)
    return root


def write_video(
    root: Path,
    split: str,
    name: str,
    number: int,
    rng: np.random.Generator,
    frames: int,
    size: tuple[int, int],
    unlabeled: tuple[int, ...],
    people: int,
) -> None:
    """One video with its annotation file."""
    height, width = size
    folder = root / "images" / split / name
    folder.mkdir(parents=True, exist_ok=True)
    background = cv2.GaussianBlur(rng.integers(0, 120, (height, width, 3)).astype(np.uint8), (0, 0), 3)
    start = [np.array([8.0 + 42 * p, 6.0]) for p in range(people)]
    speed = rng.uniform(-1, 1, (people, 2))
    images, annotations = [], []
    for f in range(frames):
        picture = background.copy()
        image_id = 10_000_000_000 + number * 10_000 + f
        labeled = f not in unlabeled
        for p in range(people):
            corner = start[p] + speed[p] * f
            extent = np.array([30.0, 48.0])
            joints = {joint: corner + extent * np.array(at) for joint, at in _POSE.items()}
            for k, joint in enumerate(POSETRACK15.joints):
                colour = (80 + 12 * k % 175, 255 - 16 * k, 60 + 70 * (k % 3))
                cv2.circle(picture, tuple(round(float(c)) for c in joints[joint]), 2, colour, -1)
            if labeled:
                annotations.append(_annotation(image_id, p, corner, extent, joints))
        file_name = f"images/{split}/{name}/{f:06d}.jpg"
        cv2.imwrite(str(root / file_name), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        images.append(
            {
                "id": image_id, "file_name": file_name, "frame_id": image_id, "vid_id": f"{number:06d}",
                "nframes": frames, "is_labeled": labeled, "height": height, "width": width,
                "ignore_regions_x": [], "ignore_regions_y": [],
            }
        )  # fmt: skip
    categories = [{"id": 1, "name": "person", "keypoints": list(POSETRACK18.joints), "skeleton": []}]
    target = root / "annotations" / split / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def _annotation(
    image_id: int, track: int, corner: np.ndarray, extent: np.ndarray, joints: dict[str, np.ndarray]
) -> dict:
    keypoints: list[float] = []
    for joint in POSETRACK18.joints:
        keypoints += [*map(float, joints[joint]), 1] if joint in joints else [0, 0, 0]
    x, y = map(float, corner)
    w, h = map(float, extent)
    return {
        "id": image_id * 100 + track, "image_id": image_id, "category_id": 1, "track_id": track,
        "bbox": [x, y, w, h], "bbox_head": [x + 0.35 * w, y, 0.3 * w, 0.22 * h], "keypoints": keypoints,
        "scores": [], "iscrowd": False, "num_keypoints": 15,
    }  # fmt: skip


def as_posetrack17(content: dict) -> dict:
    """A PoseTrack18 file's content in PoseTrack17's layout, which has no person boxes."""
    frames = []
    for image in content["images"]:
        people = []
        for person in content["annotations"]:
            if person["image_id"] != image["id"]:
                continue
            x, y, w, h = person["bbox_head"]
            points = []
            for k, joint in enumerate(POSETRACK17.joints):
                at = 3 * POSETRACK18.index[joint]
                x_joint, y_joint, seen = person["keypoints"][at : at + 3]
                if (x_joint, y_joint, seen) != (0, 0, 0):
                    points.append({"id": [k], "x": [x_joint], "y": [y_joint], "is_visible": [seen]})
            people.append(
                {
                    "x1": [x], "y1": [y], "x2": [x + w], "y2": [y + h], "track_id": [person["track_id"]],
                    "annopoints": [{"point": points}] if points else [],
                }
            )  # fmt: skip
        regions = zip(image["ignore_regions_x"], image["ignore_regions_y"], strict=True)
        frames.append(
            {
                "image": [{"name": image["file_name"]}], "imgnum": [len(frames) + 1],
                "is_labeled": [int(image["is_labeled"])], "annorect": people,
                "ignore_regions": [
                    {"point": [{"x": [x], "y": [y]} for x, y in zip(*region, strict=True)]}
                    for region in regions
                ],
            }
        )  # fmt: skip
    return {"annolist": frames}
