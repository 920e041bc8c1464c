"""Detected boxes: read by name, end of name or id; doubles among poses; a detector over a split."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tiny_posetrack import make_posetrack
from vidpose.cli import app
from vidpose.data.boxes import read_boxes, suppress_poses
from vidpose.data.readers import read_dataset
from vidpose.errors import InputError
from vidpose.geometry import object_keypoint_similarity, oks_nms
from vidpose.infer import split_boxes
from vidpose.infer.split_boxes import detect_split
from vidpose.skeletons import POSETRACK15
from vidpose.train.recipe import load_recipe
from vidpose.train.validation import evaluation_settings


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_posetrack(tmp_path_factory.mktemp("pt"), unlabeled=(1,))


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


# --- reading ---------------------------------------------------------------------------------------------


def test_a_box_is_found_by_name_by_its_end_and_by_id(root: Path, tmp_path: Path) -> None:
    data = read_dataset(root, "val")
    first, second, third = data.videos[0].frames[:3]
    entries = [
        {"image_name": first.file_name, "bbox": [1, 2, 3, 4], "score": 0.9},
        {
            "image_name": "/mnt/" + "/".join(second.file_name.split("/")[-2:]),
            "bbox": [1, 2, 3, 4],
            "score": 1,
        },
        {"image_id": third.image_id, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.3},
        # a name that the split lacks is another split's, even if its numbers collide
        {"image_name": "x/000000.jpg", "image_id": third.image_id, "bbox": [1, 2, 3, 4], "score": 1},
    ]
    found = read_boxes(write(tmp_path / "boxes.json", entries), data)
    assert {k: [score for _, score in v] for k, v in found.items()} == {
        first.image_id: [0.9],
        second.image_id: [1.0],
        third.image_id: [0.3],
    }


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"bbox": [1, 2, 3]}, "entry 2: bbox needs 4 numbers"),
        ({"bbox": [1, 2, 3, "x"]}, "entry 2: bbox or score .* not a number"),
        ({"bbox": [1, 2, float("nan"), 4]}, "entry 2: bbox or score is not finite"),
        ({"bbox": [1, 2, -3, 4]}, "entry 2: bbox has a negative width"),
        ({"score": None}, "entry 2: has no score"),
        ({"image_name": None}, "entry 2: needs an image_name"),
        ({"image_id": "a"}, "entry 2: image_id 'a' is not a whole number"),
        (7, "entry 2: is not an object"),
    ],
)
def test_a_malformed_entry_is_named(root: Path, tmp_path: Path, entry: object, message: str) -> None:
    data = read_dataset(root, "val")
    good = {"image_name": data.videos[0].frames[0].file_name, "bbox": [1, 2, 3, 4], "score": 1}
    broken = {**good, **entry} if isinstance(entry, dict) else entry
    file = write(tmp_path / "boxes.json", [good, good, broken])
    with pytest.raises(InputError, match=r"boxes\.json: " + message):
        read_boxes(file, data)


# --- OKS non-maximum suppression -------------------------------------------------------------------------


def slow_nms(keypoints, scores, areas, sigmas, threshold):
    """Two at a time, by the words of the rule."""
    left = sorted(range(len(scores)), key=lambda p: (-scores[p], p))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [
            p
            for p in left
            if float(
                object_keypoint_similarity(
                    keypoints[p], keypoints[best], np.float64((areas[p] + areas[best]) / 2), sigmas
                )
            )
            <= threshold
        ]
    return kept


@pytest.mark.parametrize("seed", range(20))
def test_oks_nms_is_the_slow_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    people = rng.uniform(0, 200, (4, 1, 15, 2))
    keypoints = (people + rng.normal(0, 8, (4, 5, 15, 2))).reshape(20, 15, 2)
    scores, areas = rng.random(20).round(1), rng.uniform(5e3, 2e4, 20)
    for threshold in (0.3, 0.6, 0.9):
        kept = oks_nms(keypoints, scores, areas, POSETRACK15.sigmas, threshold)
        assert kept.tolist() == slow_nms(keypoints, scores, areas, POSETRACK15.sigmas, threshold)
    assert len(oks_nms(keypoints[:0], scores[:0], areas[:0], POSETRACK15.sigmas, 0.9)) == 0


def test_the_better_pose_of_each_frame_stays() -> None:
    rng = np.random.default_rng(0)
    pose = rng.uniform(0, 100, (15, 2))
    keypoints = np.stack([pose, pose + 0.5, pose + 0.5, pose + 300])
    box_scores = np.array([0.9, 0.8, 0.8, 0.3])
    peaks = np.stack([np.full(15, 0.5), np.full(15, 0.9), np.full(15, 0.9), np.full(15, 0.4)])
    peaks[1, :5] = 0.1  # does not count: the mean is over what is seen
    kept = suppress_poses(
        ["a", "a", "b", "a"], keypoints, peaks * box_scores[:, None], box_scores, POSETRACK15.sigmas, 0.9
    )
    assert kept.tolist() == [1, 2, 3]


# --- data detect -----------------------------------------------------------------------------------------


def test_detect_writes_boxes_that_validation_takes(root: Path, tmp_path: Path) -> None:
    data = read_dataset(root, "val")
    known = [
        {"image_name": frame.file_name, "bbox": [float(v) for v in box], "score": score}
        for _, frame in data.frames()
        for person in frame.people
        for box, score in (
            ([*person.box_xyxy[:2], *(person.box_xyxy[2:] - person.box_xyxy[:2])], 0.9),
            ([0, 0, 20, 20], 0.3),  # nobody's
        )
    ]
    given = write(tmp_path / "given.json", known)
    output = tmp_path / "boxes.json"
    summary = detect_split(root, output, detector=str(given), min_score=0.1, batch_size=3)
    assert (summary.frames, summary.people) == (10, 20)
    assert [row["min_score"] for row in summary.agreement] == [0.1, 0.2, 0.4]
    assert [row["recall"] for row in summary.agreement] == [100, 100, 100]
    assert [row["precision"] for row in summary.agreement][2] == 100
    found = read_boxes(output, data, 0.4)
    for _, frame in data.frames():
        boxes = [box for box, _ in found.get(frame.image_id, [])]
        assert np.allclose(
            sorted(b[0] for b in boxes), sorted(p.box_xyxy[0] for p in frame.people), atol=0.01
        )
    settings = evaluation_settings(load_recipe("hrnet_small", [f"data.boxes={output}"]))
    assert settings["boxes"] == f"{output} ({given}, score >= 0.1, NMS 0.65)"
    assert not list(tmp_path.glob("*.part"))


def test_a_broken_off_detection_goes_on(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tmp_path / "whole.json"
    detect_split(root, whole, detector="full-frame", batch_size=2)
    output, read = tmp_path / "boxes.json", []
    real = split_boxes.read_frame

    def failing(frame):
        read.append(frame.image_id)
        if len(read) == 7:
            raise InputError("the disk is gone")
        return real(frame)

    monkeypatch.setattr(split_boxes, "read_frame", failing)
    with pytest.raises(InputError, match="disk is gone"):
        detect_split(root, output, detector="full-frame", batch_size=2)
    assert not output.exists()
    part = output.with_name("boxes.json.part")
    with part.open("a") as file:
        file.write('[{"image_na')  # killed in the middle of a line
    with pytest.raises(InputError, match="begun with another detector"):
        detect_split(root, output, detector="full-frame", min_score=0.5, resume=True)
    detect_split(root, output, detector="full-frame", batch_size=2, resume=True)
    assert output.read_text() == whole.read_text() and not part.exists()
    assert len(set(read)) == 10 and len(read) < 14


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "nowhere"], "nowhere"),
        (["--detector", "nothing"], "nothing"),
        (["--min-score", "2"], "min_score is 2"),
        (["--batch", "0"], "--batch is 0"),
    ],
)
def test_wrong_options_are_one_line(root: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(
            app,
            ["data", "detect", str(root), "-o", str(tmp_path / "b.json"), *arguments],
            catch_exceptions=False,
        )
    assert not (tmp_path / "b.json").exists()
