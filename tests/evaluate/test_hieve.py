"""HiEve's levels and frame weights: what must equal PoseTrack's AP, repeated frames, and fewer frames."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from people_files import people_file, random_people
from pose_files import both_sides, random_films

from vidpose.errors import InputError
from vidpose.evaluate import evaluate
from vidpose.evaluate.table import headline
from vidpose.skeletons import HIEVE14

NAMES = [f"v/{t:06d}.jpg" for t in range(6)]


def test_with_head_boxes_level_50_is_posetracks_ap() -> None:
    for seed in range(3):
        gt, found = both_sides(random_films(seed, films=1, frames=6)[0], "18")
        assert evaluate(gt, found, "hieve")["ap50"] == pytest.approx(evaluate(gt, found)["ap"], nan_ok=True)


def test_the_average_is_that_of_the_three_levels_and_they_fall() -> None:
    gt, found = random_people(HIEVE14.joints, 1)
    scores = evaluate(gt, found, "hieve")
    means = [scores[f"ap{level}"]["Mean"] for level in (50, 75, 90)]
    assert scores["ap"]["Mean"] == pytest.approx(np.mean(means)) == headline(scores)
    assert means[0] > means[1] > means[2]
    assert any("not published" in note for note in scores["summary"]["notes"])


def test_a_joint_that_nobody_is_annotated_with_is_undefined() -> None:
    gt, found = one_person(100, 100, 0)
    for side in (gt, found):
        for person in side["annotations"]:
            person["keypoints"][-3:] = [0, 0, 0]
    scores = evaluate(gt, found, "hieve")
    assert np.isnan(scores["ap"]["left_ankle"]) and scores["ap"]["Mean"] == 100


def one_person(nose: float, head: float, shift: float) -> tuple[dict[str, Any], dict[str, Any]]:
    keypoints = np.column_stack([np.arange(14) * 50.0 + 100, np.full(14, 300.0), np.ones(14)])
    keypoints[0, :2], keypoints[1, :2] = (nose, 100), (nose, 100 + head)
    moved = keypoints.copy()
    moved[5, 0] += shift
    box = [0.0, 0.0, 75.0, 150.0]
    return (
        people_file(HIEVE14.joints, [[{"keypoints": keypoints, "bbox": box}]]),
        people_file(HIEVE14.joints, [[{"keypoints": moved, "scores": [0.5] * 14}]]),
    )


@pytest.mark.parametrize(
    ("shift", "right"), [(9.9, ["50", "75", "90"]), (24.9, ["50", "75"]), (49.9, ["50"])]
)
def test_the_levels_are_a_half_a_quarter_and_a_tenth_of_nose_to_chest(shift: float, right: list[str]) -> None:
    gt, found = one_person(100, 100, shift)
    scores = evaluate(gt, found, "hieve")
    hit = [level for level in ("50", "75", "90") if scores[f"ap{level}"]["left_shoulder"] == 100]
    assert hit == right


def test_without_nose_the_head_is_a_share_of_the_box() -> None:
    for shift, expected in ((9.9, 100), (10.1, 0)):  # the box is 150 high: a head of 20
        gt, found = one_person(100, 100, shift)
        for file in (gt, found):
            file["annotations"][0]["keypoints"][:3] = [0, 0, 0]
        assert evaluate(gt, found, "hieve")["ap50"]["left_shoulder"] == expected


def repeated(file: dict[str, Any], times: dict[int, int]) -> dict[str, Any]:
    out = {**file, "images": [], "annotations": []}
    for t, image in enumerate(file["images"]):
        for k in range(times[t]):
            new = {**image, "id": 1000 * t + k, "file_name": f"v/{1000 * t + k:06d}.jpg"}
            out["images"].append(new)
            for annotation in file["annotations"]:
                if annotation["image_id"] == image["id"]:
                    entry = {
                        **copy.deepcopy(annotation),
                        "image_id": new["id"],
                        "id": len(out["annotations"]),
                    }
                    out["annotations"].append(entry)
    return out


def test_a_frame_of_weight_n_counts_as_often_as_n_such_frames(tmp_path: Path) -> None:
    gt, found = random_people(HIEVE14.joints, 8)
    times = {0: 1, 1: 3, 2: 2, 3: 0, 4: 1, 5: 2}
    path = tmp_path / "weights.json"
    path.write_text(json.dumps({NAMES[t]: n for t, n in times.items()}))
    weighted = evaluate(gt, found, "hieve", frame_weights=path)
    plain = evaluate(repeated(gt, times), repeated(found, times), "hieve")
    assert weighted["w_ap75"] == pytest.approx(plain["ap75"], nan_ok=True)
    assert weighted["summary"]["main"] == "w_ap"
    assert weighted["ap"] == pytest.approx(evaluate(gt, found, "hieve")["ap"], nan_ok=True)


def test_frames_without_weight_weigh_1_with_a_note(tmp_path: Path) -> None:
    gt, found = random_people(HIEVE14.joints, 8)
    path = tmp_path / "weights.json"
    path.write_text(json.dumps({NAMES[0]: 1.0}))
    scores = evaluate(gt, found, "hieve", frame_weights=path)
    assert scores["w_ap"] == pytest.approx(scores["ap"], nan_ok=True)
    assert any("names no weight for 5 frames" in note for note in scores["summary"]["notes"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "not an object of frame names"),
        ('{"v/000000.jpg": -1}', "weight of v/000000.jpg is not a finite number from 0 on"),
        ('{"x.jpg": 1}', "names no frame of the ground truth"),
        ('{"v/000000.jpg": "2"}', "not a finite number"),
    ],
)
def test_wrong_weights_are_refused(text: str, message: str, tmp_path: Path) -> None:
    gt, found = random_people(HIEVE14.joints, 8)
    path = tmp_path / "weights.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        evaluate(gt, found, "hieve", frame_weights=path)


def test_three_thresholds_are_needed() -> None:
    gt, found = random_people(HIEVE14.joints, 8)
    with pytest.raises(InputError, match="three thresholds"):
        evaluate(gt, found, "hieve", thresholds=[0.5])
