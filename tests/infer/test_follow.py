"""Who is followed by poses, and when the detector is asked."""

from __future__ import annotations

import numpy as np
import pytest

from vidpose.infer.detect import Detection
from vidpose.infer.follow import LOST_S, MAX_MISSED, MIN_GAP_S, Follower

SIZE = (200, 400)


def found(*people: tuple[float, float, float]) -> Detection:
    """Boxes of 40 x 80 pixels at (x, y) with scores."""
    boxes = np.array([[x, y, x + 40, y + 80] for x, y, _ in people]).reshape(-1, 4)
    return Detection(boxes, np.array([score for _, _, score in people]))


def pose_at(x: float, y: float) -> np.ndarray:
    """[15, 2] joints whose extent is the box of a person at (x, y)."""
    corners = np.array([[0.0, 0.0], [40, 80], [40, 0], [0, 80]])
    return np.concatenate([corners, np.full((11, 2), (20.0, 40.0))]) + (x, y)


def posed(
    follower: Follower, places: list[tuple[float, float]], time_s: float, peak: float = 1.0
) -> list[int]:
    """The identities that are there after poses at these places, one for each person."""
    points = np.array([pose_at(x, y) for x, y in places]).reshape(-1, 15, 2)
    people = follower.people
    there, boxes = follower.posed(points, np.full(points.shape[:2], peak), SIZE, time_s)
    assert len(boxes) == len(there)
    return [people[k].track_id for k in there]


def begun(*places: tuple[float, float], **options: object) -> Follower:
    follower = Follower(margins=(0, 0, 0, 0), **options)  # type: ignore[arg-type]
    follower.asked(0.0)
    follower.detected(found(*((x, y, 0.9) for x, y in places)), 0.0)
    assert posed(follower, list(places), 0.0) == list(range(len(places)))
    return follower


def test_the_box_follows_the_pose() -> None:
    follower = begun((10, 10))
    for step in range(1, 60):
        assert posed(follower, [(10 + 5 * step, 10)], step / 30) == [0]
        np.testing.assert_allclose(follower.people[0].box_xyxy, [10 + 5 * step, 10, 50 + 5 * step, 90])


def test_the_detector_is_asked_after_a_time_and_at_once_where_somebody_is_unsure() -> None:
    follower = begun((10, 10), every_s=0.5)
    assert not follower.wants_detection(0.4) and follower.wants_detection(0.5)
    posed(follower, [(10, 10)], 0.3, peak=0.4)  # was 1
    assert follower.people[0].unsure and follower.wants_detection(0.3)
    assert not follower.wants_detection(MIN_GAP_S / 2)
    assert Follower().wants_detection(0.0)
    nobody = Follower(every_s=0.5)
    nobody.asked(0.0)
    assert not nobody.wants_detection(0.1) and nobody.wants_detection(MIN_GAP_S)


def test_the_detector_rests_while_as_many_as_wanted_are_sure() -> None:
    follower = begun((10, 10), max_people=1)
    assert not follower.wants_detection(60.0)
    posed(follower, [(10, 10)], 60.0, peak=0.3)
    assert follower.wants_detection(60.0)


def test_who_leaves_the_frame_is_followed_no_longer_and_the_detector_is_asked() -> None:
    follower = begun((10, 10), max_people=1)
    assert posed(follower, [(396, 10)], 1.0) == []
    assert follower.people == [] and follower.wants_detection(1.0)


def test_an_identity_comes_back_within_a_second() -> None:
    for pause, expected in ((LOST_S - 0.1, [0]), (LOST_S + 0.1, [1])):
        follower = begun((10, 10))
        posed(follower, [(10, 10)], 0.1, peak=0.0)
        follower.detected(found(), 0.1)  # unsure, and not found
        assert follower.people == []
        follower.detected(found((12, 10, 0.9)), 0.1 + pause)
        assert posed(follower, [(12, 10)], 0.1 + pause) == expected


def test_a_sure_pose_outlives_a_detector_that_misses_it_for_a_while() -> None:
    follower = begun((10, 10))
    for _ in range(MAX_MISSED):
        follower.detected(found(), 0.5)
        assert posed(follower, [(10, 10)], 0.5) == [0]
    assert follower.people[0].score == pytest.approx(0.9 * 0.5**MAX_MISSED)
    follower.detected(found(), 1.0)
    assert follower.people == []


def test_a_late_detection_is_of_the_frame_that_the_detector_saw() -> None:
    follower = begun((10, 10))
    then = follower.boxes()
    for step in range(1, 8):
        posed(follower, [(10 + 10 * step, 10)], step / 30)
    follower.detected(found((10, 10, 0.8), (200, 50, 0.9)), 8 / 30, then)  # nobody is at (10, 10) any more
    assert [person.score for person in follower.people] == [0.8, 0.9]
    np.testing.assert_allclose(follower.people[0].box_xyxy, [80, 10, 120, 90])
    assert posed(follower, [(90, 10), (200, 50)], 9 / 30) == [0, 1]


def test_a_weak_or_poseless_box_begins_nothing() -> None:
    follower = Follower(margins=(0, 0, 0, 0))
    follower.detected(found((10, 10, 0.6)), 0.0)
    assert follower.people == []
    follower.detected(found((10, 10, 0.9)), 0.0)
    assert posed(follower, [(10, 10)], 0.0, peak=0.05) == [] and follower.people == []
    follower.detected(found((10, 10, 0.9)), 0.2)
    assert posed(follower, [(10, 10)], 0.2) == [0]


def test_boxes_of_a_file_are_taken_as_they_are() -> None:
    follower = begun((10, 10), by_poses=False)
    assert follower.wants_detection(0.01)
    follower.detected(found((14, 10, 0.8)), 0.04)
    assert posed(follower, [(60, 10)], 0.04, peak=0.0) == [0]
    np.testing.assert_allclose(follower.people[0].box_xyxy, [14, 10, 54, 90])
    follower.detected(found(), 0.08)
    assert follower.people == []


def test_of_two_who_are_one_person_the_older_identity_stays() -> None:
    follower = begun((10, 10), (300, 10))
    follower.detected(found((10, 10, 0.9), (300, 10, 0.9), (35, 10, 0.9)), 0.5)
    assert posed(follower, [(10, 10), (300, 10), (11, 10)], 0.5) == [0, 1, 2]
    assert follower.join([0]) == {2: 0}
    assert [person.track_id for person in follower.people] == [1, 0]
    assert follower.join([1]) == {}  # nobody is near
