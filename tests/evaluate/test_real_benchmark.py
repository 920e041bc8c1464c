"""What benchmarks/real.py computes: joints in common, PCK, mirrored people, intervals, occluders."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny_posetrack import make_posetrack
from vidpose.errors import InputError
from vidpose.models.factory import create_model
from vidpose.skeletons import COCO17, LSP14, POSETRACK15, Skeleton

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import occluders
import real
import real_scores

RNG = np.random.default_rng(0)


def labelled(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.ones((*points.shape[:2], 1))], axis=2)


def test_only_joints_of_both_count() -> None:
    names = [
        joint
        for joint, both in zip(COCO17.joints, real_scores.common_joints(LSP14, COCO17), strict=True)
        if both
    ]
    assert set(names) == set(real_scores.TWELVE) and len(names) == 12
    truth = labelled(RNG.uniform(0, 100, (3, 14, 2)))
    found = real.convert_keypoints(np.ones((3, 17, 3)) * 1e6, COCO17, LSP14, approximate=False)
    done = real_scores.tally(found, truth, np.full(3, 5.0))
    assert done.counts.sum() == 3 * 12 and done.per_cent() == 0
    parts = real_scores.by_part(done, LSP14)
    assert np.isnan(parts["head_top"]) and parts["knee"] == 0


def test_a_model_without_a_joint_in_common_is_refused_in_one_line(tmp_path: Path) -> None:
    people = real.read_people("tiny", make_posetrack(tmp_path, splits=("val",), videos=1), "val")
    with pytest.raises(InputError, match="no joint in common") as error:
        real.in_joints_of(people.data, np.zeros((1, 1, 3)), Skeleton("tail", ("tail",), ()))
    assert "\n" not in str(error.value)


def test_pck_of_the_box_is_a_share_of_its_larger_side() -> None:
    truth = labelled(np.full((2, 15, 2), 100.0))
    boxes = np.array([[0, 0, 50, 200], [0, 0, 400, 100.0]])
    found = truth.copy()
    found[:, :, 0] += 30
    lengths = real_scores.limits(truth, boxes, POSETRACK15)
    done = real_scores.tally(found, truth, lengths["PCK 0.1 box"])
    assert done.right.all(axis=1).tolist() == [False, True]
    assert real_scores.tally(found, truth, lengths["PCK 0.05 box"]).per_cent() == 0


def test_mirrored_people_are_told_from_wrong_ones() -> None:
    truth = labelled(RNG.uniform(0, 100, (4, 15, 2)))
    found = truth.copy()
    found[1] = truth[1, POSETRACK15.flip_permutation]
    found[2, :, :2] = 1000
    found[3, 4:, 2] = 0  # too few pairs to say
    sides = np.full(4, 100.0)
    assert real_scores.mirrored(found, truth, sides, POSETRACK15)[:3].tolist() == [0, 1, 0]
    assert np.isnan(real_scores.mirrored(found, truth, sides, POSETRACK15)[3])


def test_clips_of_a_film_are_one_group() -> None:
    film = "TrumanShow"
    names = [f"000603_{film}_walk_f_cm_np1_ri_med_36", f"000626_{film}_wave_u_nm_np1_fr_med_25"]
    assert {real_scores.film_of(name) for name in names} == {"trumanshow"}
    assert real_scores.film_of("003418_mpii_test") == "003418_mpii_test"


def test_the_interval_is_that_of_the_binomial_and_wider_by_groups() -> None:
    right = RNG.random((400, 1)) < 0.5
    done = real_scores.Tally(np.ones_like(right), right)
    low, high = real_scores.share_interval(done, [str(k) for k in range(400)])
    assert high - low == pytest.approx(2 * 1.96 * 100 * np.sqrt(0.25 / 400), rel=0.1)
    alike = real_scores.Tally(np.ones((400, 1), dtype=bool), np.repeat(right[:20], 20, axis=0))
    grouped = np.subtract(*real_scores.share_interval(alike, [str(k // 20) for k in range(400)]))
    assert -grouped > 3 * (high - low)


def test_differences_are_paired_and_over_joints_of_both() -> None:
    first = real_scores.Tally(np.ones((50, 2), dtype=bool), RNG.random((50, 2)) < 0.5)
    groups = [str(k) for k in range(50)]
    assert real_scores.difference(first, first, groups) == (0, 0, 0)
    better = replace(first, right=first.right | (np.arange(50) < 10)[:, None])
    gain, low, high = real_scores.difference(first, better, groups)
    assert 0 < low < gain < high < 25
    half = replace(better, counts=better.counts & [True, False], right=better.right & [True, False])
    assert real_scores.difference(first, half, groups)[0] == pytest.approx(
        100 * (better.right[:, 0].mean() - first.right[:, 0].mean())
    )


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_an_occluder_hides_the_share_it_is_asked_for(share: float) -> None:
    box = np.array([30.0, 20, 90, 140])
    masks = [
        occluders.random_polygon(np.random.default_rng(seed), box, (160, 120), share) for seed in range(5)
    ]
    assert [occluders.covered(mask, box) for mask in masks] == pytest.approx([share] * 5, abs=0.02)
    other = np.full((80, 60, 3), 200, dtype=np.uint8)
    out = occluders.fill_from(np.random.default_rng(0), np.zeros((160, 120, 3), np.uint8), masks[0], other)
    assert (out == 200).all(axis=2).tolist() == masks[0].tolist()


def test_occluded_people_keep_their_clip_and_lose_visible_joints(tmp_path: Path) -> None:
    people = real.read_people("tiny", make_posetrack(tmp_path, splits=("val",), videos=2), "val", every=3)
    frames = [
        [cut.path.read_bytes() for video in made.data.videos for cut in video.frames]
        for made in (real.occluded(people, _folder(tmp_path, name), reach=1) for name in "ab")
    ]
    assert frames[0] == frames[1]
    hidden = real.occluded(people, _folder(tmp_path, "c"), reach=1)
    assert np.array_equal(hidden.truth, people.truth) and hidden.groups == people.groups
    assert (hidden.visible <= people.visible).all() and hidden.visible.sum() < people.visible.sum()
    assert {len(video.frames) for video in hidden.data.videos} <= {2, 3}


def _folder(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


def test_labels_of_other_joints_are_taken_out_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    annotation = {"keypoints": [1, 1, 2, 5, 6, 1], "num_keypoints": 2}
    path.write_text(
        json.dumps({"categories": [{"keypoints": ["nose", "left_hip"]}], "annotations": [annotation]})
    )
    real.keep_joints(path, ["left_hip"])
    kept = {"keypoints": [0, 0, 0, 5, 6, 1], "num_keypoints": 1}
    assert json.loads(path.read_text())["annotations"] == [kept]


def test_a_coco_model_is_scored_on_posetrack_by_the_joints_of_both(tmp_path: Path) -> None:
    people = real.read_people("tiny", make_posetrack(tmp_path, splits=("val",), videos=1, frames=2), "val")
    model = create_model("hrnet", backbone="hrnet_w16_small", skeleton="coco17", input_size=(64, 32)).eval()
    settings = real.Settings(False, True, torch.device("cpu"), torch.float32, 4)
    poses = real.find_poses("coco", model, people, settings, Path("none"))
    done = real.tallies(people, poses.found)
    scores = real.score(people, poses, done)
    assert done["PCK 0.1 box"].counts.sum(axis=1).tolist() == [13] * 4
    assert np.isnan(scores["PCK 0.1 box"]["head_top"]) and scores["AP"]["joints"] == 13


def test_the_protocols_score_of_right_poses_is_full_without_the_joints_that_a_model_lacks(
    tmp_path: Path,
) -> None:
    people = real.read_people("tiny", make_posetrack(tmp_path, splits=("val",), videos=1), "val")
    found = people.truth.copy()
    found[:, POSETRACK15.index["head_top"], 2] = 0
    assert people.protocol is not None
    scores = people.protocol(found)
    assert scores["mAP"] == 100 and scores["joints"] == 14 and "Head" not in scores and scores["Hip"] == 100


def refused(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which the command ends, status 2."""
    monkeypatch.setattr(sys, "argv", ["real.py", *arguments])
    with pytest.raises(SystemExit) as exit:
        real.main()
    said = capsys.readouterr().err
    assert exit.value.code == 2 and said.startswith("real.py: ") and len(said.splitlines()) == 1, said
    return said


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--batch-size", "0"], "--batch-size is 0: 1 or more"),
        (["--every", "-1"], "--every is -1: 1 or more"),
        (["--batch-size", "many"], "invalid int value"),
        (["--out", "{folder}"], "is a folder"),
        (["--out", "{folder}/file/x.json"], "is a file"),
        (["--pictures", "{folder}"], "ends in .jpg"),
        (["--pictures", "x.txt"], "ends in .jpg"),
        (["--colour"], "--colour"),
        (["mediapipe:full", "--mediapipe-python", "{folder}/none"], "No such file"),
        (["mediapipe:full", "--mediapipe-python", "{empty}"], "lacks mediapipe"),
    ],
)
def test_wrong_options_are_one_line_before_any_work(
    options: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    (tmp_path / "file").touch()
    empty = tmp_path / "python"  # one that has no packages
    empty.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    empty.chmod(0o755)
    filled = [text.format(folder=tmp_path, empty=empty) for text in options]
    assert told in refused(["--data", "none:val", "hrnet:default", *filled], monkeypatch, capsys)


def test_a_model_that_was_not_scored_is_told_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    root = make_posetrack(tmp_path / "data", splits=("val",), videos=1)

    def find_poses(*about: object) -> None:
        raise InputError("no joint in common")

    monkeypatch.setattr(real, "find_poses", find_poses)
    monkeypatch.setattr(real, "open_model", lambda name: (None, name))
    out = tmp_path / "new" / "out.json"
    told = refused(["mine.safetensors", "--data", f"{root}:val", "--out", str(out)], monkeypatch, capsys)
    assert "not scored: mine.safetensors on" in told and "no joint in common" in told
    assert "no joint in common" in out.read_text()
