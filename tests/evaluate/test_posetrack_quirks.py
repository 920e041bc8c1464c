"""The protocol's rules and oddities, one test each, on films small enough to count by hand.

A ``person()`` has its joints 40 pixels apart and a head size of 30: the threshold is 15 pixels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pose_files import both_sides, film, layout17, layout18, person
from slow_posetrack import Film, Picture, Someone

from vidpose.errors import InputError
from vidpose.evaluate import evaluate

FAR = 5000.0
HEAD_TOP = 14


def score(pictures: Film, layout: str = "17") -> dict[str, Any]:
    return evaluate(*both_sides(pictures, layout))


# -------------------- average precision


def test_perfect_predictions_score_100() -> None:
    scores = score(film(*[([person()], [person(score=0.5)])] * 3))
    assert all(
        value == 100
        for metric in ("ap", "precision", "recall", "mota", "motp")
        for value in scores[metric].values()
    )


@pytest.mark.parametrize(("offset", "ap"), [(15.0, 100), (15.001, 0)])
def test_the_threshold_is_half_the_head_size_and_belongs_to_it(offset: float, ap: float) -> None:
    assert score(film(([person(0, 0)], [person(0, offset, score=1)])))["ap"]["Mean"] == ap


def test_a_predicted_joint_whose_truth_is_unannotated_is_wrong() -> None:
    whole, topless = person(0, 100), person(0, 900, joints=range(14))
    predictions = [person(0, 100, score=0.5), person(0, 900, score=0.9, track=1)]
    scores = score(film(([whole, topless], predictions)))
    assert scores["ap"]["head_top"] == 50
    assert scores["precision"]["head_top"] == 50
    assert scores["ap"]["nose"] == 100


def test_the_score_of_the_whole_person_plays_no_part() -> None:
    gt, predictions = both_sides(film(([person()], [person(score=0.9), person(FAR, score=0.1, track=1)])))
    rects = predictions["annolist"][0]["annorect"]
    rects[0]["score"], rects[1]["score"] = [0.0], [1.0]
    assert evaluate(gt, predictions)["ap"]["Mean"] == 100


@pytest.mark.parametrize(("right", "wrong", "ap"), [(None, -5.0, 50), (-5.0, None, 100)])
@pytest.mark.parametrize("layout", ["17", "18"])
def test_a_joint_without_score_ranks_last(
    right: float | None, wrong: float | None, ap: float, layout: str
) -> None:
    found = [person(score=right), person(FAR, score=wrong, track=1)]
    assert score(film(([person()], found)), layout)["ap"]["Mean"] == ap


def test_scores_play_no_part_in_who_belongs_to_whom() -> None:
    close, closer = person(score=0.9, joints=range(7)), person(score=0.1, track=1)
    scores = score(film(([person()], [close, closer])))
    assert scores["ap"]["head_top"] == 100
    assert scores["ap"]["right_ankle"] == 50  # the unassigned prediction's, which is surer, counts as wrong


def test_of_equal_partners_the_first_is_taken() -> None:
    scores = score(film(([person()], [person(score=0.1), person(score=0.9, track=1)])))
    assert scores["ap"]["Mean"] == 50


def test_a_frame_without_annotated_people_does_not_count() -> None:
    """Labelled or not: ``is_labeled`` is not read."""
    pictures = film(([person()], [person(score=0.5)]), ([], [person(FAR, score=0.9)]))
    gt, predictions = both_sides(pictures)
    gt["annolist"][0]["is_labeled"], gt["annolist"][1]["is_labeled"] = [0], [1]
    scores = evaluate(gt, predictions)
    assert scores["ap"]["Mean"] == 100
    assert scores["summary"]["frames"] == 1


def test_in_a_frame_emptied_by_ignore_regions_predictions_are_wrong() -> None:
    pictures = film(([person()], [person(score=0.5)]), ([person()], [person(FAR, score=0.9)]))
    pictures[1].boxes = [(0, 0, 1000, 1000)]
    scores = score(pictures)
    assert scores["ap"]["Mean"] == 50
    assert scores["summary"]["frames"] == 2


def test_a_person_annotated_without_joints_makes_its_frame_count() -> None:
    pictures = film(([person()], [person(score=0.5)]), ([Someone({}, head=None)], [person(FAR, score=0.9)]))
    for layout in ("17", "18"):
        assert score(pictures, layout)["ap"]["Mean"] == 50


def test_invisible_joints_with_coordinates_count_in_posetrack18() -> None:
    gt, predictions = both_sides(film(([person()], [person(score=0.5)])), "18")
    keypoints = gt["annotations"][0]["keypoints"]
    keypoints[2] = 0  # the nose: coordinates, but not visible
    keypoints[6:9] = [0, 0, 0]  # the head's top: nothing at all
    scores = evaluate(gt, predictions)
    assert scores["ap"]["nose"] == 100
    assert math.isnan(scores["ap"]["head_top"])


def test_a_joint_that_nobody_annotated_is_undefined_and_left_out_of_the_mean() -> None:
    scores = score(film(([person(joints=range(14))], [person(score=0.5)])))
    assert math.isnan(scores["ap"]["head_top"]) and math.isnan(scores["ap"]["Head"])
    assert math.isnan(scores["recall"]["head_top"]) and scores["precision"]["head_top"] == 0
    assert scores["ap"]["Mean"] == 100


def test_without_predictions_everything_is_0() -> None:
    scores = score(film(([person()], []), ([person()], [])))
    assert scores["ap"]["Mean"] == scores["precision"]["Mean"] == scores["recall"]["Mean"] == 0


def test_where_equal_scores_decide_the_table_says_how_much() -> None:
    people = [person(0, 100.0 * k) for k in range(6)]
    found = [person(0 if k % 2 else FAR, 100.0 * k, score=0.5, track=k) for k in range(6)]
    summary = score(film((people, found)))["summary"]
    lowest, highest = summary["ap_range"]
    assert (lowest, highest) == (pytest.approx(100 * 3 / 6 / 2), pytest.approx(100 * 3 / 6))
    assert any("scores are equal" in note for note in summary["notes"])


# -------------------- ignore regions


def test_joints_strictly_inside_a_region_are_taken_from_both_sides() -> None:
    pictures = film(([person(0, 0)], [person(0, 0, score=0.5)]))
    pictures[0].boxes = [(-5.0, -5.0, 45.0, 5.0)]  # holds joints 0 and 1
    for layout in ("17", "18"):
        scores = score(pictures, layout)
        assert (
            scores["ap"]["right_ankle"] == scores["ap"]["right_knee"] == 0
        )  # neither annotated nor predicted
        assert scores["ap"]["right_hip"] == 100


def test_a_region_takes_joints_not_people() -> None:
    pictures = film(
        ([person(0, 0)], [person(0, 10, score=0.5), person(0, 0, score=0.9, track=1, joints=(0, 1))])
    )
    pictures[0].boxes = [(-5.0, -5.0, 45.0, 5.0)]  # all of the second prediction, two joints of the person
    scores = score(pictures)
    assert scores["summary"]["predicted_people"] == 1
    assert scores["ap"]["right_hip"] == 100
    assert math.isnan(scores["ap"]["right_ankle"])  # predicted outside, annotated inside


def test_a_joint_on_the_border_of_a_region_counts() -> None:
    pictures = film(([person(0, 0)], [person(0, 0, score=0.5)]))
    pictures[0].boxes = [(0.0, -5.0, 40.0, 5.0), (70.0, 0.0, 90.0, 5.0)]
    assert score(pictures)["ap"]["Mean"] == 100


def test_a_region_that_is_not_convex_and_one_of_two_corners() -> None:
    u_shape = [(0, 0), (100, 0), (100, 100), (90, 100), (90, 10), (10, 10), (10, 100), (0, 100)]
    regions = [[{"x": [x], "y": [y]} for x, y in corners] for corners in (u_shape, [(-9, 55), (200, 55)])]
    inside, between = Someone({0: (5.0, 50.0), 1: (95.0, 50.0)}), Someone({2: (50.0, 50.0), 3: (50.0, 55.0)})
    gt, predictions = both_sides(film(([inside, between], [])))
    gt["annolist"][0]["ignore_regions"] = [{"point": corners} for corners in regions]
    predictions["annolist"][0]["annorect"] = layout17(
        film(([], [Someone(between.joints, scores={2: 1, 3: 1})])), "found"
    )["annolist"][0]["annorect"]
    scores = evaluate(gt, predictions)
    assert scores["summary"]["people"] == 1
    assert scores["ap"]["right_hip"] == scores["ap"]["left_hip"] == 100


# -------------------- tracking


def test_a_change_of_identity_is_an_error() -> None:
    ids = [0, 0, 1, 1, 1]
    scores = score(film(*[([person()], [person(score=0.5, track=i)]) for i in ids]))
    assert scores["mota"]["Mean"] == 100 * (1 - 1 / 4)


def test_the_last_annotated_frame_of_a_video_does_not_count_for_tracking() -> None:
    ids = [0, 0, 1]
    assert score(film(*[([person()], [person(score=0.5, track=i)]) for i in ids]))["mota"]["Mean"] == 100
    lone = score(film(([person()], [person(score=0.5)])))
    assert math.isnan(lone["mota"]["Mean"]) and lone["motp"]["Mean"] == 0


def test_a_frame_without_predictions_counts_as_one_miss_and_one_false_positive() -> None:
    pair = [person(), person(0, 900, track=1)]
    pictures = film((pair, []), ([person()], [person(score=0.5)]), ([person()], [person(score=0.5)]))
    assert score(pictures)["mota"]["Mean"] == 100 * (1 - 2 / 2)


def test_motp_counts_the_distance_of_a_pair_twice() -> None:
    """Once as a pair within reach, once as a match; it is in head sizes."""
    pictures = film(*[([person(0, 0)], [person(0, 6, score=0.5)])] * 2)
    assert score(pictures)["motp"]["Mean"] == pytest.approx(100 * (1 - 2 * 6 / 30))


@pytest.mark.parametrize("side", ["truth", "found"])
def test_without_track_ids_ap_is_scored_and_tracking_is_not(side: str) -> None:
    pictures = film(*[([person()], [person(score=0.5)]) for _ in range(2)])
    getattr(pictures[1], side)[0].track = None
    scores = score(pictures)
    assert scores["ap"]["Mean"] == 100
    assert math.isnan(scores["mota"]["Mean"]) and math.isnan(scores["motp"]["Mean"])
    [note] = scores["summary"]["notes"]
    assert "track_id" in note and "00000001.jpg" in note


def test_any_whole_number_is_a_track_id() -> None:
    pictures = film(*[([person(track=-3)], [person(score=0.5, track=10**15)])] * 3)
    assert score(pictures)["mota"]["Mean"] == 100


def test_the_same_id_in_two_videos_is_two_people() -> None:
    sides = [
        both_sides(film(*[([person()], [person(score=0.5, track=v)])] * 3), name=f"clip{v}") for v in range(2)
    ]
    assert evaluate([a for a, _ in sides], [b for _, b in sides])["mota"]["Mean"] == 100


def test_one_id_twice_in_a_predicted_frame_is_refused() -> None:
    with pytest.raises(InputError, match=r"00000000\.jpg: person 1: .*same track_id"):
        score(film(([person()], [person(score=0.5), person(FAR, score=0.5)])))


# -------------------- layouts


def test_both_layouts_score_alike_in_any_mixture() -> None:
    pictures = film(
        ([person(), person(0, 900, track=1)], [person(score=0.5), person(7, 900, score=0.7, track=1)]),
        ([person(3, joints=range(12))], [person(score=0.4, track=2), person(FAR, score=0.9)]),
        ([person()], [person(score=0.3)]),
    )
    pictures[0].boxes = [(0.0, 0.0, 210.0, 150.0)]
    expected = score(pictures)
    for gt in (layout17(pictures, "truth"), layout18(pictures, "truth")):
        for predictions in (layout17(pictures, "found"), layout18(pictures, "found")):
            np.testing.assert_equal(evaluate(gt, predictions), expected)


def test_of_a_joint_given_twice_the_first_counts_and_unknown_ids_do_not() -> None:
    gt, predictions = both_sides(film(([person()], [person(score=0.5)])))
    points = predictions["annolist"][0]["annorect"][0]["annopoints"][0]["point"]
    points += [
        {"id": [0], "x": [FAR], "y": [0.0], "score": [1.0]},
        {"id": [15], "x": [1.0], "y": [1.0], "score": [1.0]},
    ]
    assert evaluate(gt, predictions)["ap"]["Mean"] == 100


def test_a_prediction_without_annopoints_is_no_prediction() -> None:
    gt, predictions = both_sides(film(([person()], [person(score=0.5)])))
    predictions["annolist"][0]["annorect"] += [{"track_id": [7]}, {"track_id": [8], "annopoints": []}]
    assert evaluate(gt, predictions)["summary"]["predicted_people"] == 1


def test_an_empty_picture_is_read() -> None:
    assert score([Picture([person()], [person(score=0.5)]), Picture()])["ap"]["Mean"] == 100
