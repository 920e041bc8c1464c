"""HOTA, IDF1 and MOTA of whole people: by hand and against a slow version, by boxes, OKS and PCKh."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from people_files import by_frame, people_file, random_people
from slow_hota import Frame, slow_hota

from vidpose.errors import InputError
from vidpose.evaluate import evaluate
from vidpose.evaluate.table import format_table, headline
from vidpose.skeletons import COCO17, POSETRACK15


def boxes(*frames: dict[int, float]) -> dict[str, Any]:
    """People as squares of 100 pixels: track id -> x, frame by frame."""
    people = [[{"bbox": [x, 0.0, 100.0, 100.0], "track_id": i} for i, x in frame.items()] for frame in frames]
    return people_file(POSETRACK15.joints, people)


def test_perfect_tracking_is_100() -> None:
    gt = boxes({1: 0, 2: 300}, {1: 10, 2: 290})
    scores = evaluate(gt, gt, "hota")
    for metric in ("hota", "identity", "clear"):
        assert scores[metric]["Mean"] == 100
    assert headline(scores) == 100


def test_a_switch_by_hand() -> None:
    # One person in four frames, found in all, under one id in three and another in one.
    gt = boxes(*[{1: 0}] * 4)
    scores = evaluate(gt, boxes({7: 0}, {7: 0}, {7: 0}, {8: 0}), "hota")
    assert scores["hota"]["DetA"] == 100
    # AssA: three hits of 3 / (4 + 3 - 3), one of 1 / (4 + 1 - 1).
    assert scores["hota"]["AssA"] == pytest.approx(100 * (3 * 3 / 4 + 1 / 4) / 4)
    assert scores["hota"]["HOTA"] == pytest.approx(100 * math.sqrt((3 * 3 / 4 + 1 / 4) / 4))
    assert scores["clear"]["MOTA"] == 75 and scores["summary"]["counts"]["IDSW"] == 1
    assert scores["identity"]["IDF1"] == 75  # 3 of 4 on each side


def test_a_miss_and_a_stranger_by_hand() -> None:
    gt = boxes({1: 0, 2: 300}, {1: 0, 2: 300})
    scores = evaluate(gt, boxes({7: 0, 9: 2000}, {7: 0}), "hota")
    assert scores["hota"]["DetA"] == pytest.approx(100 * 2 / 5)  # 2 hits, 2 misses, 1 stranger
    assert scores["hota"]["AssA"] == 100
    assert scores["clear"]["MOTA"] == pytest.approx(100 * (1 - 3 / 4))


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def alike(truth: dict[str, Any], found: dict[str, Any], similarity: str) -> float:
    if similarity == "box":
        return overlap(truth["bbox"], found["bbox"])
    total = 0.0
    labelled = np.flatnonzero(truth["keypoints"].any(axis=1))
    for j in labelled:
        if not found["keypoints"][j].any():
            continue
        away = math.dist(truth["keypoints"][j, :2], found["keypoints"][j, :2])
        if similarity == "oks":
            total += math.exp(-(away**2) / (2 * truth["area"] * (2 * COCO17.sigmas[j]) ** 2))
        else:
            total += away <= 0.5 * 0.6 * math.hypot(*truth["bbox_head"][2:])
    return total / max(len(labelled), 1)


def plain_frames(gt: dict[str, Any], found: dict[str, Any], similarity: str) -> list[Frame]:
    out: list[Frame] = []
    predictions = by_frame(found)
    for image, people in by_frame(gt).items():
        others = predictions[image]
        values = {
            (a, b): alike(person, other, similarity)
            for a, person in enumerate(people)
            for b, other in enumerate(others)
        }
        out.append(([p["track_id"] for p in people], [p["track_id"] for p in others], values))
    return out


@pytest.mark.parametrize("similarity", ["box", "oks", "pckh"])
@pytest.mark.parametrize("seed", [0, 1])
def test_hota_as_in_the_slow_version(similarity: str, seed: int) -> None:
    pairs = [random_people(COCO17.joints, 10 * seed + k, people=2) for k in range(2)]
    for (gt, found), name in zip(pairs, "ab", strict=True):
        for file in (gt, found):
            for image in file["images"]:
                image["file_name"] = image["file_name"].replace("v/", f"{name}/")
    scores = evaluate([gt for gt, _ in pairs], [found for _, found in pairs], "hota", similarity=similarity)
    expected = slow_hota([plain_frames(gt, found, similarity) for gt, found in pairs])
    for name, value in expected.items():
        assert scores["hota"][name] == pytest.approx(100 * value, abs=1e-6)


def test_unlabelled_frames_do_not_count() -> None:
    gt = boxes({1: 0}, {})
    found = boxes({7: 0}, {7: 0})
    assert evaluate(gt, found, "hota")["hota"]["DetA"] == 50
    gt["images"][1]["is_labeled"] = False
    assert evaluate(gt, found, "hota")["hota"]["DetA"] == 100


def test_people_in_ignore_regions_do_not_count() -> None:
    gt, found = boxes({1: 0}), boxes({7: 0, 8: 500})
    gt["images"][0] |= {
        "ignore_regions_x": [[450, 650, 650, 450]],
        "ignore_regions_y": [[-50, -50, 150, 150]],
    }
    assert evaluate(gt, found, "hota")["hota"]["HOTA"] == 100


def test_people_without_box_and_joints_are_left_out_with_a_note() -> None:
    gt, found = boxes({1: 0, 2: 300}), boxes({7: 0})
    gt["annotations"][1] |= {"bbox": [], "keypoints": [0] * 45}
    scores = evaluate(gt, found, "hota")
    assert headline(scores) == 100
    assert scores["summary"]["notes"] == ["1 annotated people without box or joints are left out"]


def test_the_tables_show_the_three_groups() -> None:
    text = format_table(evaluate(boxes({1: 0}), boxes({7: 0}), "hota"))
    assert "| HOTA " in text and "| Identity |" in text and "| CLEAR |" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"similarity": "shape"}, "unknown similarity 'shape'; known: box, oks, pckh"),
        ({"similarity": "oks"}, "the ground truth has no joints, which oks needs"),
        ({"by": "difficulty"}, "no breakdown by difficulty"),
    ],
)
def test_what_cannot_be_measured_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(boxes({1: 0}), boxes({7: 0}), "hota", **options)  # type: ignore[arg-type]


def test_every_person_needs_a_track_id() -> None:
    gt, found = boxes({1: 0}), boxes({7: 0})
    del found["annotations"][0]["track_id"]
    with pytest.raises(InputError, match="person 0: this person of the predictions has no track_id"):
        evaluate(gt, found, "hota")
