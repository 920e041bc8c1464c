"""Correcting labels: edits on disk, undo, propagation around them, and the server before them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vidpose.errors import InputError
from vidpose.review.journal import Journal
from vidpose.review.session import Conflict, ReviewSession
from vidpose.skeletons import POSETRACK18

COUNT, LABELLED = 12, (2, 9)
STEP = np.array([3.0, -1.0])
WRIST = POSETRACK18.index["left_wrist"]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of a texture that moves by ``STEP``."""
    folder = tmp_path_factory.mktemp("film")
    noise = np.random.default_rng(0).integers(0, 255, (50, 50, 3), dtype=np.uint8)
    world = cv2.resize(noise, (400, 400), interpolation=cv2.INTER_CUBIC)
    for t in range(COUNT):
        x, y = (80 - STEP * t).astype(int)
        cv2.imwrite(str(folder / f"{t:06d}.png"), world[y : y + 160, x : x + 200])
    return folder


def truth(t: int) -> np.ndarray:
    """[17, 2] joints of the one person."""
    points = np.random.default_rng(1).uniform([60, 70], [110, 120], (17, 2)) + STEP * t
    points[3:5] = 0  # PoseTrack's ears
    return points


@pytest.fixture()
def labels(tmp_path: Path) -> Path:
    images, annotations = [], []
    for t in LABELLED:
        image_id = 10_001_230_000 + t
        name = f"{t:06d}.png"
        images.append({"id": image_id, "file_name": name, "is_labeled": True, "height": 160, "width": 200})
        flat = [v for x, y in truth(t) for v in (float(x), float(y), float(x > 0))]
        annotations.append(
            {"id": t, "image_id": image_id, "category_id": 1, "track_id": 7, "bbox": [50, 60, 70, 70],
             "keypoints": flat}
        )  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(POSETRACK18.joints), "skeleton": []}
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path


@pytest.fixture()
def session(film: Path, labels: Path) -> Iterator[ReviewSession]:
    made = ReviewSession(film, labels, labels.with_name("out.json"))
    yield made
    made.close()


def entry(frame: int, x: float, y: float, state: str = "visible", joint: int = WRIST) -> dict[str, Any]:
    return {"frame": frame, "track": 7, "joint": joint, "state": state, "x": x, "y": y}


# --- journal -----------------------------------------------------------------------------------------------


def test_a_line_that_a_crash_cut_off_is_dropped_and_what_follows_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "edits"
    journal = Journal(path)
    journal.append({"set": [1]})
    with path.open("ab") as file:
        file.write(b'{"set": [2')
    again = Journal(path)
    again.append({"undo": True})
    assert Journal(path).entries == [{"set": [1]}, {"undo": True}]


def test_a_journal_of_something_else_is_told(tmp_path: Path) -> None:
    (tmp_path / "edits").write_text("[1]\n")
    with pytest.raises(InputError, match="edits:1: is no entry"):
        Journal(tmp_path / "edits")


# --- session -----------------------------------------------------------------------------------------------


def test_the_page_begins_with_what_propagation_makes(session: ReviewSession) -> None:
    assert session.human[LABELLED, 0].sum() == 2 * 15 and session.human.sum() == 2 * 15
    assert np.abs(session.points[5, 0] - truth(5)).max() < 2.5
    assert (session.state[:, 0, WRIST] == 1).all()
    assert 0 < session.confidence[5, 0, WRIST] <= 1


def test_a_joint_set_by_hand_pulls_its_neighbours_and_nobody_else(session: ReviewSession) -> None:
    before = session.points.copy()
    x, y = truth(5)[WRIST] + [8, 6]
    session.edit([entry(5, x, y)], 0)
    assert session.points[5, 0, WRIST] == pytest.approx([x, y])
    np.testing.assert_array_equal(session.points[4], before[4])  # not before it is asked for
    session.propagate()
    assert session.points[5, 0, WRIST] == pytest.approx([x, y], abs=1e-3)
    moved = np.linalg.norm(session.points - before, axis=-1)[:, 0]
    assert moved[4, WRIST] > 2 and moved[6, WRIST] > 2
    assert np.delete(moved, WRIST, axis=1).max() < 1e-3
    assert (session.state[4:7, 0, WRIST + 1] == 1).all()  # others are seen as before
    assert session.human[5, 0].sum() == 1


def test_what_is_kept_in_pieces_is_made_anew_where_an_edit_reaches_it(
    film: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidpose.infer.propagation.columns.LONGEST", 3)
    session = ReviewSession(film, labels, labels.with_name("out.json"))
    session.edit([entry(2, 90, 95)], 0)  # a label, from which others are carried through all pieces
    session.propagate()
    again = ReviewSession(film, labels, session.output)
    np.testing.assert_array_equal(session.points, again.points)
    np.testing.assert_array_equal(session.confidence, again.confidence)
    session.undo(1)
    assert np.abs(session.points[8, 0, WRIST] - again.points[8, 0, WRIST]).max() > 0.1
    session.close(), again.close()


def test_edits_outlive_the_program_and_can_be_undone_after_it(
    session: ReviewSession, film: Path, labels: Path
) -> None:
    before = session.points[5, 0, WRIST].copy()
    session.edit([entry(5, 100, 90)], 0)
    session.edit([entry(5, 101, 91, "occluded")], 1)
    again = ReviewSession(film, labels, session.output)
    assert again.revision == 2
    assert again.points[5, 0, WRIST].tolist() == [101, 91] and again.state[5, 0, WRIST] == 2
    again.undo(2)
    assert again.points[5, 0, WRIST].tolist() == [100, 90] and again.state[5, 0, WRIST] == 1
    again.undo(3)
    assert again.points[5, 0, WRIST] == pytest.approx(before, abs=1e-3)
    assert not again.human[5].any()
    again.redo(4)
    assert again.points[5, 0, WRIST].tolist() == [100, 90]
    with pytest.raises(InputError, match="nothing to undo"):
        again.undo(5) or again.undo(6)
    again.close()


def test_a_second_window_does_not_write_over_the_first(session: ReviewSession) -> None:
    session.edit([entry(5, 100, 90)], 0)
    with pytest.raises(Conflict):
        session.edit([entry(5, 10, 10)], 0)
    assert session.points[5, 0, WRIST].tolist() == [100, 90]


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"frame": 99}, "no joint"), ({"joint": -2}, "no joint"), ({"track": 1}, "no joint"),
        ({"state": "gone"}, "known: visible"), ({"x": float("nan")}, "finite"), ({"frame": None}, "needs"),
        ({"joint": -1}, "known: gone"), ({"track": 8, "joint": -1, "state": "gone"}, "no person 8"),
    ],
)  # fmt: skip
def test_edits_that_mean_nothing_are_told_and_not_kept(
    session: ReviewSession, changed: dict[str, Any], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        session.edit([{**entry(5, 1, 1), **changed}], 0)
    assert session.revision == 0


def test_saved_labels_say_what_a_person_has_set(session: ReviewSession, film: Path, labels: Path) -> None:
    session.edit([entry(5, 100, 90, "occluded")], 0)
    session.edit([entry(2, 0, 0, "absent")], 1)
    out = session.save()
    written = json.loads(out.read_text())
    by_frame = {a["image_id"] % 10_000: a for a in written["annotations"]}
    assert len(by_frame) == COUNT
    mixed = by_frame[5]
    assert (mixed["provenance"], mixed["human_joints"]) == ("mixed", [WRIST])
    assert mixed["keypoints"][3 * WRIST : 3 * WRIST + 3] == [100, 90, 0]
    assert by_frame[2]["provenance"] == "human" and by_frame[2]["keypoints"][3 * WRIST : 3 * WRIST + 3] == [
        0,
        0,
        0,
    ]
    assert labels.read_text().count("provenance") == 0
    again = ReviewSession(film, out, labels.with_name("other.json"))  # what is not by hand is made anew
    assert again.human[5, 0].sum() == 1 and again.points[5, 0, WRIST].tolist() == [100, 90]
    again.close()


def person_entry(frame: int, state: str, track: int = 7) -> dict[str, Any]:
    return {"frame": frame, "track": track, "joint": -1, "state": state, "x": 0, "y": 0}


def shown(session: ReviewSession, p: int = 0) -> list[int]:
    """Frames in which a person has joints."""
    known = (session.state[:, p] == 1) | (session.state[:, p] == 2)
    return np.flatnonzero(known.any(axis=1)).tolist()


def test_a_person_who_is_gone_is_gone_in_the_saved_labels_too(session: ReviewSession, film: Path) -> None:
    session.edit([person_entry(5, "gone")], 0)
    assert shown(session) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    session.edit([person_entry(7, "gone")], 1)  # and so is what lies between the two
    assert shown(session) == [0, 1, 2, 3, 4, 8, 9, 10, 11]
    session.edit([entry(7, 100, 90)], 2)  # but is, where somebody sets a joint
    session.propagate()
    assert shown(session) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    session.undo(3)
    session.edit([person_entry(9, "gone")], 4)  # a frame that the labels call labelled
    assert shown(session) == [0, 1, 2, 3, 4]
    session.undo(5)
    out = session.save()
    told = {f["id"] % 10_000: f.get("absent_track_ids") for f in json.loads(out.read_text())["images"]}
    assert {k for k, v in told.items() if v} == {5, 7} and told[5] == [7]
    again = ReviewSession(film, out, out.with_name("other.json"))
    assert shown(again) == [0, 1, 2, 3, 4, 8, 9, 10, 11]
    again.close()


def test_a_person_is_added_where_nobody_was_and_can_be_taken_back(
    session: ReviewSession, film: Path, labels: Path
) -> None:
    points = truth(5)[[0, 1, 2, 5]] - 20
    new = [{**entry(5, *xy, joint=j), "track": 8} for j, xy in zip((0, 1, 2, 5), points, strict=True)]
    session.edit(new, 0)
    assert session.track_ids == [7, 8] and session.next_track == 9 and session.human[5, 1].sum() == 4
    assert set(shown(session, 1)) >= {4, 5, 6}
    np.testing.assert_allclose(session.points[6, 1, 0], points[0] + STEP, atol=1.0)
    on_label = [{**entry(9, 50, 60, joint=0), "track": 9}]
    session.edit(on_label, 1)
    assert session.track_ids == [7, 8, 9]
    saved = json.loads(session.save().read_text())["annotations"]
    boxes = {a["track_id"]: a.get("bbox") for a in saved if a["image_id"] % 10_000 == 5}
    assert set(boxes) >= {7, 8}
    again = ReviewSession(film, labels, labels.with_name("out.json"))  # from the journal
    assert again.track_ids == [7, 8, 9]
    np.testing.assert_array_equal(again.points, session.points)
    again.undo(2)
    again.undo(3)
    assert shown(again, 1) == shown(again, 2) == [] and shown(again) == list(range(COUNT))
    again.redo(4)
    assert 5 in shown(again, 1)
    again.close()


def test_everybody_can_be_removed_and_come_back(session: ReviewSession) -> None:
    session.edit([person_entry(4, "removed")], 0)
    assert shown(session) == [] and session.least_certain() == []
    assert json.loads(session.save().read_text())["annotations"] == []
    session.undo(1)
    assert shown(session) == list(range(COUNT))


def test_the_least_certain_frames_come_first(session: ReviewSession) -> None:
    session.confidence[:] = 0.9
    session.confidence[4, 0, WRIST], session.confidence[7, 0, WRIST] = 0.2, 0.1
    assert session.least_certain()[:2] == [7, 4]


# --- server ------------------------------------------------------------------------------------------------


def call(
    session: ReviewSession, *requests: tuple[str, str, Any], token: str = "key"
) -> list[tuple[int, Any]]:
    """Status and JSON (or bytes) of requests (method, path below the token, body)."""
    from aiohttp.test_utils import TestClient, TestServer

    from vidpose.review.server import make_app

    async def run() -> list[tuple[int, Any]]:
        out = []
        async with TestClient(TestServer(make_app(session, "key"))) as client:
            for method, path, body in requests:
                answer = await client.request(method, f"/{token}/{path}", json=body)
                is_json = "json" in answer.headers["Content-Type"]
                out.append((answer.status, await answer.json() if is_json else await answer.read()))
        return out

    return asyncio.run(run())


def test_the_server_shows_edits_and_saves(session: ReviewSession) -> None:
    answers = call(
        session,
        ("GET", "", None),
        ("GET", "review.js", None),
        ("GET", "api/state", None),
        ("GET", "frame/3.jpg", None),
        ("POST", "api/edit", {"revision": 0, "set": [entry(5, 100, 90)]}),
        ("POST", "api/edit", {"revision": 0, "set": [entry(5, 1, 1)]}),
        ("GET", "api/poses?start=0", None),
        ("POST", "api/undo", {"revision": 1}),
        ("POST", "api/save", {"revision": 2}),
    )
    assert [status for status, _ in answers] == [200, 200, 200, 200, 200, 409, 200, 200, 200]
    assert b"vidpose review" in answers[0][1]
    assert (answers[2][1]["frames"], answers[2][1]["tracks"]) == (COUNT, [7])
    assert len(answers[2][1]["standing"]) == 17 and answers[4][1]["next"] == 8
    picture = cv2.imdecode(np.frombuffer(answers[3][1], np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (160, 200, 3)
    assert answers[6][1]["points"][5][0][WRIST] == [100, 90]
    assert Path(answers[8][1]["output"]).is_file()


def test_wrong_requests_are_told_in_one_line(session: ReviewSession) -> None:
    answers = call(
        session,
        ("POST", "api/edit", {"set": []}),
        ("POST", "api/edit", {"revision": 0, "set": []}),
        ("POST", "api/undo", {"revision": 0}),
        ("GET", "frame/99.jpg", None),
        ("GET", "api/poses?start=x", None),
    )
    assert [status for status, _ in answers] == [400] * 5
    assert all("\n" not in told["error"] for _, told in answers)


def test_without_the_token_nothing_is_told(session: ReviewSession) -> None:
    for token in ("other", "key2", "x/key"):
        [(status, told)] = call(session, ("GET", "api/state", None), token=token)
        assert status == 403 and b"left_wrist" not in told
