"""PoseTrack21's own protocol: where it is PoseTrack's, where it is not, and keypoint HOTA."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pose_files import both_sides, film, layout18, person, random_films
from slow_hota import slow_hota
from slow_posetrack import NAMES, Film, distance, without_ignored

from vidpose.evaluate import evaluate
from vidpose.evaluate.table import format_table
from vidpose.skeletons import POSETRACK18

LATER = {"video": 2, "name": "000002_mpii_test"}


def labelled(files: dict[str, Any]) -> dict[str, Any]:
    """``is_labeled`` where somebody is annotated."""
    busy = {annotation["image_id"] for annotation in files["annotations"]}
    for image in files["images"]:
        image["is_labeled"] = image["id"] in busy
    return files


def positive_films(seed: int, *, films: int = 2, frames: int = 5) -> list[Film]:
    """Random films without joints at or left of or above 0."""
    made = random_films(seed, films=films, frames=frames)
    for someone in (s for one in made for picture in one for s in (*picture.truth, *picture.found)):
        someone.joints = {j: point for j, point in someone.joints.items() if min(point) > 0}
    return made


@pytest.mark.parametrize("seed", range(4))
def test_ap_is_posetracks_where_the_definitions_agree(seed: int) -> None:
    pairs = [both_sides(made, "18") for made in positive_films(seed, films=1, frames=8)]
    gt, found = [labelled(a) for a, _ in pairs], [b for _, b in pairs]
    ours, other = evaluate(gt, found, "posetrack21"), evaluate(gt, found)
    for metric in ("ap", "precision", "recall", "mota", "motp"):
        assert ours[metric] == pytest.approx(other[metric])


def test_official_files_without_joints_at_0_score_as_posetrack(shared_dir: Path | None) -> None:
    """The fixtures' joints with a coordinate at or below 0 are no joints to PoseTrack21."""
    if shared_dir is None:
        pairs = [both_sides(random_films(1, films=1)[0], "18")]
    else:
        folder = shared_dir / "fixtures" / "poseval" / "pt18_a"
        names = sorted(path.name for path in (folder / "gt").iterdir())
        pairs = [
            (json.loads((folder / "gt" / n).read_text()), json.loads((folder / "pred" / n).read_text()))
            for n in names
        ]
    for files in pairs:
        labelled(files[0])
        for file in files:
            for annotation in file["annotations"]:
                keypoints = np.array(annotation["keypoints"]).reshape(-1, 3)
                keypoints[(keypoints[:, :2] <= 0).any(axis=1)] = 0
                annotation["keypoints"] = keypoints.reshape(-1).tolist()
    gt, found = [a for a, _ in pairs], [b for _, b in pairs]
    assert evaluate(gt, found, "posetrack21")["ap"] == pytest.approx(evaluate(gt, found)["ap"])


def test_a_joint_exists_only_where_x_and_y_are_above_0() -> None:
    gt, found = both_sides(film(([person()], [person(score=0.5)])), "18")
    nose = 3 * POSETRACK18.index["nose"]
    gt["annotations"][0]["keypoints"][nose : nose + 3] = [0.0, 50.0, 1.0]
    found["annotations"][0]["keypoints"][nose : nose + 3] = [0.0, 50.0, 1.0]
    assert evaluate(gt, found)["ap"]["nose"] == 100
    assert evaluate(gt, found, "posetrack21")["ap"]["nose"] == 0


def test_visibility_is_not_read() -> None:
    gt, found = both_sides(film(([person()], [person(score=0.5)])), "18")
    gt["annotations"][0]["keypoints"][2::3] = [0.0] * 17
    assert evaluate(gt, found, "posetrack21")["ap"]["Mean"] == 100


def test_is_labeled_selects_the_frames() -> None:
    stranger = person(500, 500, score=0.9)
    gt, found = both_sides(film(([person()], [person(score=0.5)]), ([], [stranger])), "18")
    gt["images"][0]["is_labeled"] = True
    gt["images"][1]["is_labeled"] = False
    assert evaluate(gt, found, "posetrack21")["ap"]["Mean"] == 100
    gt["images"][1]["is_labeled"] = True  # a labelled frame without people: the stranger is wrong
    assert evaluate(gt, found, "posetrack21")["ap"]["Mean"] == 50
    assert evaluate(gt, found)["ap"]["Mean"] == 100  # to PoseTrack it is free


def test_a_joint_that_nobody_has_is_0_and_counts_in_the_mean() -> None:
    gt, found = both_sides(film(([person(joints=range(14))], [person(score=0.5)])), "18")
    scores = evaluate(gt, found, "posetrack21")
    assert scores["ap"]["head_top"] == 0
    assert scores["ap"]["Mean"] == pytest.approx(100 * 14 / 15)


# -------------------- keypoint HOTA


def joint_frames(made: Film, j: int) -> list[Any]:
    """A joint's ids and similarities of every frame with annotated people."""
    out = []
    for picture in (without_ignored(picture) for picture in made if picture.truth):
        truth = [someone for someone in picture.truth if j in someone.joints]
        found = [someone for someone in picture.found if j in someone.joints]
        values = {
            (a, b): max(1 - distance(one, two, j) / 0.5001, 0.0)
            for a, one in enumerate(truth)
            for b, two in enumerate(found)
        }
        out.append(([p.track for p in truth], [p.track for p in found], values))
    return out


@pytest.mark.parametrize("seed", range(3))
def test_keypoint_hota_as_in_the_slow_version(seed: int) -> None:
    films = positive_films(seed)
    first = both_sides(films[0], "18")
    second = layout18(films[1], "truth", **LATER), layout18(films[1], "found", **LATER)
    gt, found = [labelled(first[0]), labelled(second[0])], [first[1], second[1]]
    scores = evaluate(gt, found, "posetrack21")
    for j, joint in enumerate(NAMES):
        expected = slow_hota([joint_frames(made, j) for made in films], whole_tracks=False)
        assert scores["hota"][joint] == pytest.approx(100 * expected["HOTA"])
        assert scores["deta"][joint] == pytest.approx(100 * expected["DetA"])
        assert scores["assa"][joint] == pytest.approx(100 * expected["AssA"])


def test_perfect_joints_are_100_and_a_swapped_identity_costs_association_only() -> None:
    walk = [([person(track=1)], [person(track=k, score=0.5)]) for k in (4, 4, 4, 5)]
    gt, found = both_sides(film(*walk), "18")
    scores = evaluate(gt, found, "posetrack21")
    assert scores["deta"]["Mean"] == pytest.approx(100)
    assert scores["assa"]["nose"] == scores["assa"]["Mean"] == pytest.approx(100 * (3 * 3 / 4 + 1 / 4) / 4)
    assert "| HOTA" in format_table(scores)


def test_without_track_ids_ap_is_scored_and_hota_is_not() -> None:
    gt, found = both_sides(film(([person()], [person(score=0.5, track=None)])), "18")
    scores = evaluate(gt, copy.deepcopy(found), "posetrack21")
    assert scores["ap"]["Mean"] == 100
    assert np.isnan(scores["hota"]["Mean"]) and np.isnan(scores["mota"]["Mean"])
