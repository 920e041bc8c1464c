"""What may be given and how: files, folders, lists, results, any names and order; and what is refused."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pose_files import (
    both_sides,
    film,
    frame_name,
    layout17,
    layout18,
    person,
    random_films,
    write,
    write_folders,
)
from slow_posetrack import NAMES, Film

import vidpose
from vidpose.errors import InputError
from vidpose.evaluate import evaluate
from vidpose.results import FramePoses, VideoPoses
from vidpose.skeletons import COCO17, POSETRACK15


def small_film() -> Film:
    return film(
        *[([person(), person(0, 900, track=1)], [person(100 + 2.0 * t, score=0.1 * t)]) for t in range(1, 4)]
    )


# -------------------- what is the same however it is given


@pytest.mark.parametrize("layout", ["17", "18"])
def test_folders_files_lists_and_parsed_json_score_alike(layout: str, tmp_path: Path) -> None:
    films = random_films(3, films=3)
    gt, predictions = write_folders(tmp_path, films, layout)
    names = sorted(path.name for path in gt.iterdir())
    files = [gt / name for name in names], [predictions / name for name in names]
    expected = evaluate(*files)
    parsed = [[json.loads(path.read_text()) for path in side] for side in files]
    for given in (
        (gt, predictions),
        (str(gt), f"{predictions}/"),
        (files[0], files[1][::-1]),
        (parsed[0], parsed[1]),
    ):
        scores = evaluate(*given)
        for metric in ("ap", "precision", "recall", "mota", "motp"):
            assert scores[metric] == pytest.approx(expected[metric], abs=1e-9, nan_ok=True)


def test_a_file_with_several_videos_scores_like_one_file_per_video() -> None:
    films = random_films(5, films=2)
    sides = [both_sides(f, "18", name=f"clip{v}", video=v) for v, f in enumerate(films)]
    apart = evaluate([gt for gt, _ in sides], [pred for _, pred in sides])
    merged = [
        {
            **sides[0][side],
            "images": sides[0][side]["images"] + sides[1][side]["images"],
            "annotations": sides[0][side]["annotations"] + sides[1][side]["annotations"],
        }
        for side in (0, 1)
    ]
    for gt, predictions in ((merged[0], merged[1]), (merged[0], [sides[1][1], sides[0][1]])):
        together = evaluate(gt, predictions)
        for metric in ("ap", "mota", "motp"):
            np.testing.assert_allclose(
                list(together[metric].values()), list(apart[metric].values()), atol=1e-9
            )


@pytest.mark.parametrize(
    "name", ["my cat video", "日本/вид", "a", "000123_mpii_test", "MOT17-02.v2", "x" * 200]
)
@pytest.mark.parametrize("layout", ["17", "18"])
def test_any_sequence_name(name: str, layout: str) -> None:
    expected = evaluate(*both_sides(small_film(), layout))
    np.testing.assert_equal(evaluate(*both_sides(small_film(), layout, name=name)), expected)


@pytest.mark.parametrize("layout", ["17", "18"])
@pytest.mark.parametrize("sides", [("gt",), ("predictions",), ("gt", "predictions")])
def test_any_order_of_frames_and_annotations(layout: str, sides: tuple[str, ...]) -> None:
    made = random_films(11, films=1, frames=8)[0]
    gt, predictions = both_sides(made, layout)
    expected = evaluate(gt, predictions)
    for seed in range(3):
        turned = {"gt": copy.deepcopy(gt), "predictions": copy.deepcopy(predictions)}
        for side in sides:
            for key in ("annolist", "images"):
                if key in turned[side]:
                    random.Random(seed).shuffle(turned[side][key])
        np.testing.assert_equal(evaluate(turned["gt"], turned["predictions"]), expected)


@pytest.mark.parametrize(
    "rename",
    [
        lambda t: f"/data/frames/clip7/{t:08d}.jpg",
        lambda t: f"clip7\\{t:08d}.jpg",
        lambda t: f"{t}.png",
        lambda t: f"./{t:08d}.jpg",
    ],
)
def test_frames_find_each_other_by_the_end_of_their_names(rename: Callable[[int], str]) -> None:
    gt, predictions = both_sides(small_film())
    for t, frame in enumerate(predictions["annolist"]):
        frame["image"] = [{"name": rename(t)}]
    np.testing.assert_equal(evaluate(gt, predictions)["ap"], evaluate(*both_sides(small_film()))["ap"])


def test_frames_find_each_other_by_image_id() -> None:
    gt, predictions = both_sides(small_film(), "18")
    for t, image in enumerate(predictions["images"]):
        image["file_name"] = f"frame-{'abc'[t]}.jpg"
    predictions["images"].reverse()
    np.testing.assert_equal(evaluate(gt, predictions)["ap"], evaluate(*both_sides(small_film()))["ap"])


def test_frames_without_names_are_taken_in_their_order() -> None:
    gt, predictions = both_sides(small_film())
    for frame in predictions["annolist"]:
        del frame["image"]
    np.testing.assert_equal(evaluate(gt, predictions)["ap"], evaluate(*both_sides(small_film()))["ap"])


def test_scalars_need_not_be_wrapped_in_lists() -> None:
    gt, predictions = both_sides(small_film())

    def unwrap(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: unwrap(entry) for key, entry in value.items()}
        if isinstance(value, list):
            if len(value) == 1 and not isinstance(value[0], dict | list):
                return value[0]
            return [unwrap(entry) for entry in value]
        return value

    np.testing.assert_equal(evaluate(unwrap(gt), unwrap(predictions)), evaluate(gt, predictions))


def test_keypoints_are_read_by_the_names_that_the_category_gives() -> None:
    """The 15 joints in another order, as PoseTrack21's tools and others write them."""
    gt, predictions = both_sides(small_film(), "18")
    order = [POSETRACK15.joints.index(name) for name in NAMES]
    for annotation in predictions["annotations"]:
        by_joint = np.array(annotation["keypoints"]).reshape(17, 3)[[0, 1, 2, *range(5, 17)]]
        annotation["keypoints"] = by_joint[order].ravel().tolist()
        annotation["scores"] = np.array(annotation["scores"])[[0, 1, 2, *range(5, 17)]][order].tolist()
    predictions["categories"][0]["keypoints"] = list(NAMES)
    np.testing.assert_equal(evaluate(gt, predictions), evaluate(*both_sides(small_film(), "18")))


def test_categories_may_be_missing() -> None:
    gt, predictions = both_sides(small_film(), "18")
    del gt["categories"], predictions["categories"]
    np.testing.assert_equal(evaluate(gt, predictions), evaluate(*both_sides(small_film(), "18")))


def test_a_result_is_scored_as_it_is_and_as_the_file_that_it_saves(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    gt = layout18(random_films(1, films=1, frames=6, people=2)[0], "truth")
    frames = []
    for t in range(6):
        truth = [a for a in gt["annotations"] if a["image_id"] == gt["images"][t]["id"]]
        xy = (
            np.array([a["keypoints"] for a in truth]).reshape(-1, 17, 3)[:, [0, 1, 2, *range(5, 17)], :2]
            + 1.0
        )
        size = len(truth)
        frames.append(
            FramePoses(
                t, t / 25, xy, rng.uniform(0.1, 1, (size, 15)), np.ones((size, 4)), np.ones(size),
                np.arange(size), frame_name("000001_mpii_test", t),
            )
        )  # fmt: skip
    result = VideoPoses(frames, POSETRACK15, "clip.mp4", 640, 360, 25.0)
    direct = vidpose.evaluate(gt, result)
    assert direct["ap"]["Mean"] > 50
    for layout in ("posetrack17", "posetrack18"):
        result.save(tmp_path / "poses.json", layout)
        saved = vidpose.evaluate(gt, tmp_path / "poses.json")
        for metric in ("ap", "mota", "motp"):
            np.testing.assert_allclose(list(saved[metric].values()), list(direct[metric].values()), atol=0.01)


# -------------------- parts that do not fit are said, not hidden


def test_annotated_frames_without_prediction_are_counted_and_said() -> None:
    gt, predictions = both_sides(small_film())
    del predictions["annolist"][1]
    scores = evaluate(gt, predictions)
    assert scores["recall"]["Mean"] == pytest.approx(100 * 2 / 6)
    [note] = scores["summary"]["notes"]
    assert "lacks 1 annotated frames" in note


def test_predicted_frames_without_truth_are_passed_over_and_said() -> None:
    gt, predictions = both_sides(small_film())
    del gt["annolist"][1]
    scores = evaluate(gt, predictions)
    assert scores["summary"]["predicted_people"] == 2
    assert "1 frames are not in" in scores["summary"]["notes"][0]


def test_prediction_files_without_truth_are_passed_over_and_said(tmp_path: Path) -> None:
    gt, predictions = write_folders(tmp_path, random_films(3))
    write(predictions / "other.json", layout17(small_film(), "found"))
    assert "other.json" in evaluate(gt, predictions)["summary"]["notes"][0]


def test_predictions_that_look_like_another_video_are_said() -> None:
    gt, _ = both_sides(small_film(), name="000001_mpii_test")
    _, predictions = both_sides(small_film(), name="000002_mpii_test")
    scores = evaluate(gt, predictions)
    assert scores["ap"] == evaluate(*both_sides(small_film()))["ap"]
    [note] = scores["summary"]["notes"]
    assert "000002_mpii_test/00000000.jpg was taken for images/val/000001_mpii_test/00000000.jpg" in note


def test_annotations_of_unknown_images_are_passed_over_and_said() -> None:
    gt, predictions = both_sides(small_film(), "18")
    predictions["annotations"].append({**predictions["annotations"][0], "image_id": 5})
    scores = evaluate(gt, predictions)
    assert scores["summary"]["predicted_people"] == 3
    assert "1 annotations name an image" in scores["summary"]["notes"][0]


# -------------------- what is refused: one line that says what and where

Damage = Callable[[dict[str, Any]], Any]


def rect(data: dict[str, Any]) -> dict[str, Any]:
    return data["annolist"][1]["annorect"][0]


def region(data: dict[str, Any], regions: list[Any]) -> None:
    data["annolist"][1]["ignore_regions"] = regions


def point(data: dict[str, Any]) -> dict[str, Any]:
    return rect(data)["annopoints"][0]["point"][4]


DAMAGE: list[tuple[str, str, Damage, str]] = [
    ("17", "gt", lambda d: d.pop("annolist"), "neither 'annolist'"),
    ("17", "gt", lambda d: d.update(annolist={"a": 1}), "'annolist' is of type object, a list is needed"),
    ("17", "gt", lambda d: d["annolist"].__setitem__(1, 7), "frame 1 is of type number"),
    ("17", "gt", lambda d: [f.update(annorect=[]) for f in d["annolist"]], "no annotated person"),
    ("17", "gt", lambda d: d["annolist"].clear(), "has 3 frames"),
    ("17", "gt", lambda d: [rect(d).pop(k) for k in ("x1", "y1", "x2", "y2")], "no head box"),
    ("17", "gt", lambda d: rect(d).update(x1=["left"]), "head box x1 is 'left'"),
    ("17", "gt", lambda d: region(d, [{"point": [{"x": [1]}]}]), "corner 0: y is None"),
    ("17", "gt", lambda d: region(d, [3]), "ignore region 0 is of type number"),
    ("17", "pred", lambda d: point(d).pop("x"), "person 0: point 4: has no 'x'"),
    ("17", "pred", lambda d: point(d).pop("id"), "person 0: point 4: has no 'id'"),
    ("17", "pred", lambda d: point(d).update(y=["low"]), "person 0: point 4: y is 'low', a finite number"),
    ("17", "pred", lambda d: point(d).update(x=[float("nan")]), "person 0: point 4: x is nan"),
    ("17", "pred", lambda d: point(d).update(score=[None]), "person 0: point 4: score is None"),
    ("17", "pred", lambda d: point(d).update(x=[10**400]), "point 4: x is a number of too many digits"),
    ("17", "pred", lambda d: rect(d).update(annopoints=[{"point": 3}]), "'point' is of type number"),
    ("17", "pred", lambda d: rect(d).update(track_id=["a"]), "person 0: track_id is 'a', a whole number"),
    ("17", "pred", lambda d: d["annolist"][1].update(annorect="none"), "'annorect' is of type string"),
    ("17", "pred", lambda d: [f.update(image=[{"name": "z.jpg"}]) for f in d["annolist"]], "shares no frame"),
    ("17", "pred", lambda d: [f.pop("image") for f in d["annolist"]] and d["annolist"].pop(), "has 2 frames"),
    ("18", "gt", lambda d: d.pop("images"), "neither 'annolist'"),
    ("18", "gt", lambda d: d["annotations"][2].pop("bbox_head"), "no head box"),
    ("18", "gt", lambda d: d["annotations"][2].update(bbox_head=[1, 2, 3]), "bbox_head is not four"),
    ("18", "gt", lambda d: d["images"][1].update(ignore_regions_x=[[1, 2, 3]]), "1 polygons"),
    ("18", "gt", lambda d: d["images"][1].update(ignore_regions_x=[[1]], ignore_regions_y=[[]]), "1 x and 0"),
    ("18", "gt", lambda d: d["images"][1].update(id=d["images"][0]["id"]), "another image's too"),
    ("18", "pred", lambda d: d.pop("annotations"), "neither 'annolist'"),
    ("18", "pred", lambda d: d["images"][1].pop("id"), "image id is None"),
    ("18", "pred", lambda d: d["annotations"][1].pop("image_id"), "annotation 1: has no image_id"),
    ("18", "pred", lambda d: d["annotations"][1].pop("keypoints"), "annotation 1: has no keypoints"),
    ("18", "pred", lambda d: d["annotations"][1]["keypoints"].pop(), "has 50 numbers, 17 joints need 51"),
    ("18", "pred", lambda d: d["annotations"][1].update(scores=[0.5] * 15), "scores has 15 numbers, 17"),
    ("18", "pred", lambda d: d["annotations"][1]["keypoints"].__setitem__(4, None), "keypoints[4] is None"),
    ("18", "pred", lambda d: d["annotations"][1].update(track_id=1.5), "track_id is 1.5, a whole number"),
    ("18", "pred", lambda d: d["categories"][0].update(keypoints=list(COCO17.joints)), "lack head_bottom"),
    ("18", "pred", lambda d: d.update(categories=2 * [{"keypoints": list(NAMES)}]), "several categories"),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "side", "damage", "message"), DAMAGE, ids=[entry[3] for entry in DAMAGE])
def test_damaged_input_is_one_line(
    layout: str, side: str, damage: Damage, message: str, tmp_path: Path
) -> None:
    gt, predictions = copy.deepcopy(both_sides(small_film(), layout))
    damage(gt if side == "gt" else predictions)
    files = write(tmp_path / "gt.json", gt), write(tmp_path / "pred.json", predictions)
    with pytest.raises(InputError) as error:
        evaluate(*files)
    text = str(error.value)
    assert message in text and "\n" not in text
    assert f"{side}.json" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("{", "not valid JSON"),
        ('{"annolist": [}', "pred.json:1: is not valid JSON"),
        ("[]", "holds a list"),
        ("3", "holds a number"),
        ("{}", "neither 'annolist'"),
        ("[" * 100_000, "nested too deeply"),
        ('{"annolist": [{"annorect": [{"track_id": ' + "9" * 5000 + "}]}]}", "cannot be read"),
    ],
    ids=lambda value: value[:20],
)
def test_a_file_that_is_no_such_json(text: str, message: str, tmp_path: Path) -> None:
    gt = write(tmp_path / "gt.json", layout17(small_film(), "truth"))
    with pytest.raises(InputError, match=r"pred\.json") as error:
        evaluate(gt, write(tmp_path / "pred.json", text))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_files_and_folders_that_are_not_there(tmp_path: Path) -> None:
    gt, predictions = write_folders(tmp_path, random_films(3))
    (predictions / "000002_mpii_test.json").unlink()
    (tmp_path / "empty").mkdir()
    for given, message in (
        ((gt, tmp_path / "nothing"), "nothing: no such file"),
        ((tmp_path / "empty", predictions), "empty: has no .json file"),
        ((gt, predictions), "pred: has no 000002_mpii_test.json"),
        ((gt, []), "an empty list"),
        ((gt, [3]), "a list of files holds a int"),
        ((gt / "a\0b", predictions), "cannot be read"),
    ):
        with pytest.raises(InputError) as error:
            evaluate(*given)
        assert message in str(error.value)


def test_an_unknown_protocol_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="'pascal'; known: posetrack"):
        evaluate({}, {}, protocol="pascal")


@pytest.mark.parametrize("first", ["import vidpose", "import vidpose, vidpose.evaluate.table"])
def test_the_public_name_is_a_function_whatever_was_imported_before(first: str, tmp_path: Path) -> None:
    gt, predictions = (
        write(tmp_path / f"{side}.json", data)
        for side, data in zip("gp", both_sides(small_film()), strict=True)
    )
    call = f"vidpose.evaluate({str(gt)!r}, {str(predictions)!r}, protocol='posetrack')"
    program = f"{first}; print({call}['ap']['Mean'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) == evaluate(gt, predictions)["ap"]["Mean"]


def test_results_that_cannot_be_scored() -> None:
    gt = layout17(small_film(), "truth")
    coco = VideoPoses([FramePoses(0, 0.0, np.zeros((0, 17, 2)), np.zeros((0, 17)))], COCO17, "a.mp4")
    with pytest.raises(InputError, match=r"a\.mp4: .*lack head_bottom, head_top"):
        evaluate(gt, coco)
    with pytest.raises(InputError, match="no head boxes"):
        evaluate(VideoPoses([], source="a.mp4"), gt)
