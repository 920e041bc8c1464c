"""COCO-style files of random people in any joint set, and the people of a file as plain dictionaries."""

from __future__ import annotations

from typing import Any

import numpy as np

File = dict[str, Any]


def people_file(
    joints: tuple[str, ...], people: list[list[dict[str, Any]]], video: str = "v", **image: Any
) -> File:
    """A file with one list of annotations per frame; ``keypoints`` may be [J, 3]."""
    images = [
        {"id": 100 + t, "file_name": f"{video}/{t:06d}.jpg", "width": 640, "height": 480, **image}
        for t in range(len(people))
    ]
    annotations = []
    for t, frame in enumerate(people):
        for person in frame:
            keypoints = np.asarray(person.get("keypoints", []), dtype=float).reshape(-1).tolist()
            annotations.append(
                {
                    "category_id": 1,
                    **person,
                    "id": len(annotations) + 1,
                    "image_id": 100 + t,
                    "keypoints": keypoints,
                }
            )
    category = {"id": 1, "name": "person", "keypoints": list(joints)}
    return {"images": images, "annotations": annotations, "categories": [category]}


def random_people(
    joints: tuple[str, ...], seed: int, *, frames: int = 6, people: int = 3, crowds: bool = False
) -> tuple[File, File]:
    """Ground truth and predictions: noise, misses, strangers, unlabelled joints, changing identities."""
    rng = np.random.default_rng(seed)
    count = len(joints)
    truth: list[list[dict[str, Any]]] = []
    found: list[list[dict[str, Any]]] = []
    for t in range(frames):
        truth.append([])
        found.append([])
        for p in range(people):
            size = rng.uniform(40, 200)
            corner = rng.uniform(1, 300, 2)
            xy = corner + rng.uniform(0, 1, (count, 2)) * [size / 2, size]
            flag = rng.choice([0.0, 1.0, 2.0], count, p=[0.2, 0.2, 0.6])
            if rng.random() < 0.9:
                keypoints = np.column_stack([np.where(flag[:, None] > 0, xy, 0), flag])
                head = [float(v) for v in (*corner, size / 8, size / 6)]
                person = {
                    "keypoints": keypoints, "bbox": [*map(float, corner), size / 2, size], "bbox_head": head,
                    "area": float(size * size / 3), "num_keypoints": int((flag > 0).sum()), "track_id": p,
                    "iscrowd": int(crowds and rng.random() < 0.15),
                }  # fmt: skip
                truth[t].append(person)
            for _ in range(int(rng.choice([0, 1, 1, 2]))):
                noisy = np.abs(xy + rng.normal(0, rng.choice([1, size / 30, size / 6]), (count, 2))) + 0.1
                scores = rng.uniform(0.05, 1, count)
                scores[rng.random(count) < 0.1] = 0
                found[t].append({
                    "keypoints": np.column_stack([np.where(scores[:, None] > 0, noisy, 0), scores]),
                    "scores": scores.tolist(), "score": float(rng.random()),
                    "bbox": [*map(float, corner + rng.normal(0, 5, 2)), size / 2, size],
                    "track_id": 10 * len(found[t]) + int(rng.integers(3)),
                })  # fmt: skip
    return people_file(joints, truth), people_file(joints, found)


def by_frame(file: File) -> dict[int, list[dict[str, Any]]]:
    """Image id -> annotations, keypoints as [J, 3]."""
    out: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in file["images"]}
    for annotation in file["annotations"]:
        keypoints = np.array(annotation["keypoints"]).reshape(-1, 3)
        out[annotation["image_id"]].append({**annotation, "keypoints": keypoints})
    return out
