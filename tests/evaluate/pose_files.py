"""Films of people as PoseTrack17 and PoseTrack18 JSON, and random films."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from slow_posetrack import NAMES, Film, Picture, Someone

from vidpose.skeletons import POSETRACK18

SLOT = [POSETRACK18.index[name] for name in NAMES]
"""Where each of the 15 joints stands among PoseTrack18's 17."""


def person(
    x: float = 100.0, y: float = 100.0, *, joints: Any = range(15), score: float | None = None, **kw: Any
) -> Someone:
    """Someone with joints on a line from (x, y), 40 pixels from one to the next."""
    points = {j: (x + 40.0 * j, y) for j in joints}
    return Someone(points, scores={} if score is None else dict.fromkeys(points, score), **kw)


def film(*pictures: tuple[list[Someone], list[Someone]]) -> Film:
    """(annotated, predicted) of each frame."""
    return [Picture(truth, found) for truth, found in pictures]


def frame_name(name: str, t: int) -> str:
    return f"images/val/{name}/{t:08d}.jpg"


def layout17(pictures: Film, side: str, name: str = "000001_mpii_test") -> dict[str, Any]:
    """PoseTrack17 JSON of one side (``truth`` or ``found``)."""
    frames = []
    for t, picture in enumerate(pictures):
        rects = []
        for someone in getattr(picture, side):
            points = []
            for j, (x, y) in someone.joints.items():
                point: dict[str, Any] = {"id": [j], "x": [x], "y": [y]}
                if side == "truth":
                    point["is_visible"] = [1]
                elif j in someone.scores:
                    point["score"] = [someone.scores[j]]
                points.append(point)
            rect: dict[str, Any] = {"annopoints": [{"point": points}]}
            if someone.track is not None:
                rect["track_id"] = [someone.track]
            if side == "truth" and someone.head is not None:
                rect.update(zip(("x1", "y1", "x2", "y2"), ([v] for v in someone.head), strict=True))
            rects.append(rect)
        frame: dict[str, Any] = {"image": [{"name": frame_name(name, t)}], "annorect": rects}
        if side == "truth" and picture.boxes:
            frame["ignore_regions"] = [
                {"point": [{"x": [x], "y": [y]} for x, y in corners(box)]} for box in picture.boxes
            ]
        frames.append(frame)
    return {"annolist": frames}


def layout18(pictures: Film, side: str, name: str = "000001_mpii_test", video: int = 1) -> dict[str, Any]:
    """PoseTrack18 JSON of one side (``truth`` or ``found``)."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for t, picture in enumerate(pictures):
        image_id = 10_000_000_000 + 10_000 * video + t
        image: dict[str, Any] = {"id": image_id, "file_name": frame_name(name, t), "vid_id": f"{video:06d}"}
        if side == "truth" and picture.boxes:
            image["ignore_regions_x"] = [[x for x, _ in corners(box)] for box in picture.boxes]
            image["ignore_regions_y"] = [[y for _, y in corners(box)] for box in picture.boxes]
        images.append(image)
        for someone in getattr(picture, side):
            keypoints, scores = [0.0] * 51, [0.0] * 17
            for j, (x, y) in someone.joints.items():
                keypoints[3 * SLOT[j] : 3 * SLOT[j] + 3] = [x, y, 1.0]
                scores[SLOT[j]] = someone.scores.get(j, 0.0)
            annotation: dict[str, Any] = {
                "id": len(annotations), "image_id": image_id, "category_id": 1, "keypoints": keypoints,
                "scores": scores if someone.scores else [],
            }  # fmt: skip
            if someone.track is not None:
                annotation["track_id"] = someone.track
            if side == "truth" and someone.head is not None:
                x1, y1, x2, y2 = someone.head
                annotation["bbox_head"] = [x1, y1, x2 - x1, y2 - y1]
            annotations.append(annotation)
    category = {"id": 1, "name": "person", "keypoints": list(POSETRACK18.joints)}
    return {"images": images, "annotations": annotations, "categories": [category]}


LAYOUTS = {"17": layout17, "18": layout18}


def corners(box: tuple[float, float, float, float]) -> list[tuple[float, float]]:
    x1, y1, x2, y2 = box
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]


def both_sides(pictures: Film, layout: str = "17", **kw: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ground truth and predictions as parsed JSON."""
    return LAYOUTS[layout](pictures, "truth", **kw), LAYOUTS[layout](pictures, "found", **kw)


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def write_folders(root: Path, films: list[Film], layout: str = "17") -> tuple[Path, Path]:
    """``root/gt`` and ``root/pred`` with one file per film."""
    for v, pictures in enumerate(films):
        name = f"{v + 1:06d}_mpii_test"
        kw = {"name": name, "video": v + 1} if layout == "18" else {"name": name}
        for folder, value in zip(("gt", "pred"), both_sides(pictures, layout, **kw), strict=True):
            write(root / folder / f"{name}.json", value)
    return root / "gt", root / "pred"


def random_films(
    seed: int, *, films: int = 2, frames: int = 4, people: int = 3, spread: float = 150.0
) -> list[Film]:
    """People close together, predicted with errors, doubles, strangers and changing identities.

    All scores differ and no coordinate is 0, so that nothing depends on the order of equals.
    """
    rng = np.random.default_rng(seed)
    scores = iter(rng.permutation(200_000) / 200_000)
    out = []
    for _ in range(films):
        base = rng.uniform(20, 20 + spread, (people, 15, 2))
        tracks = rng.permutation(3 * people)
        pictures = []
        for _ in range(frames):
            picture = Picture()
            for p in range(people):
                pose = base[p] + rng.normal(0, 3, (15, 2))
                if rng.random() < 0.85:
                    keep = np.flatnonzero(rng.random(15) < rng.choice([0.8, 0.0], p=[0.95, 0.05]))
                    head = (5.0, 5.0, 5.0 + rng.uniform(5, 60), 5.0 + rng.uniform(5, 60))
                    picture.truth.append(Someone({int(j): as_point(pose[j]) for j in keep}, p, head=head))
                for copy in range(int(rng.choice([0, 1, 1, 1, 2]))):
                    noisy = pose + rng.normal(0, rng.choice([2.0, 10.0, 30.0]), (15, 2))
                    keep = np.flatnonzero(rng.random(15) < 0.85)
                    picture.found.append(
                        Someone(
                            {int(j): as_point(noisy[j]) for j in keep},
                            int(tracks[p + copy * people]),
                            {int(j): float(next(scores)) for j in keep},
                        )
                    )
            rng.shuffle(picture.found)  # type: ignore[arg-type]
            if rng.random() < 0.1:
                picture.truth = []
            if rng.random() < 0.1:
                picture.found = []
            if rng.random() < 0.3:
                x, y = rng.uniform(0, spread, 2)
                picture.boxes = [(float(x), float(y), float(x + spread / 2), float(y + spread / 2))]
                if rng.random() < 0.3:
                    picture.boxes.append((-1e4, -1e4, 1e4, 1e4))
            if rng.random() < 0.3:
                rng.shuffle(tracks)
            pictures.append(picture)
        out.append(pictures)
    return out


def as_point(xy: np.ndarray) -> tuple[float, float]:
    return round(float(xy[0]), 3), round(float(xy[1]), 3)
