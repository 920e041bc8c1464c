"""Correcting labels: edits on disk, undo, propagation around them, and the server before them."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vidpose.errors import InputError
from vidpose.review.journal import Journal
from vidpose.review.session import Conflict, ReviewSession, read_edits
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


def written(path: Path, *entries: Any) -> None:
    """A journal with these entries."""
    with closing(Journal(path)) as journal:
        for entry in entries:
            journal.append(entry)


def entries_of(path: Path) -> list[Any]:
    with closing(Journal(path)) as journal:
        return journal.entries


def test_a_line_that_a_crash_cut_off_is_dropped_and_what_follows_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "edits"
    written(path, {"set": [1]})
    with path.open("ab") as file:
        file.write(b'{"set": [2')
    written(path, {"undo": True})
    assert entries_of(path) == [{"set": [1]}, {"undo": True}]
    assert (tmp_path / "edits.damaged").read_bytes() == b'{"set": [2'


@pytest.mark.parametrize("text", ["[1]\n", "mine", "\n", '{"text": "mine"}\n', "\xff\n", "{}"])
def test_a_file_of_something_else_is_told_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "edits"
    path.write_bytes(text.encode("latin-1"))

    def none(entry: dict[str, Any]) -> dict[str, Any]:
        raise InputError("it is no edit")

    with pytest.raises(InputError, match=r"edits:1: is no entry .*--output"):
        Journal(path, check=none)
    assert path.read_bytes() == text.encode("latin-1") and len(list(tmp_path.iterdir())) == 1


def test_damage_in_the_middle_is_recovered_up_to_there_and_kept_beside(tmp_path: Path) -> None:
    path = tmp_path / "edits"
    written(path, {"set": [1]}, {"set": [2]}, {"undo": True})
    good = path.read_bytes()
    rest = [b'{"se{"set":[3]}\n{"set":[4]}\n', b"\0\0\0", b"[" * 100_000 + b"\n"]
    for damage in rest:
        path.write_bytes(good + damage)
        with closing(Journal(path)) as journal:
            assert len(journal.entries) == 3
            (remark,) = journal.remarks
            assert "line 5 is damaged" in remark and "3 edits" in remark and ".damaged" in remark
        assert path.read_bytes() == good
    kept = [tmp_path / f"edits.damaged{n}" for n in ("", 2, 3)]
    assert [file.read_bytes() for file in kept] == rest


def test_a_journal_that_damage_cannot_be_moved_from_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "edits"
    written(path, {"set": [1]})
    with path.open("ab") as file:
        file.write(b"damage\n")
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("vidpose.review.journal.os.fsync", full)
    with pytest.raises(InputError, match=r"edits\.damaged: cannot be written: No space"):
        Journal(path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("broken", ["write", "fsync"])
@pytest.mark.parametrize("truncates", [True, False])
def test_an_entry_that_could_not_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, truncates: bool
) -> None:
    path = tmp_path / "edits"
    journal = Journal(path)
    journal.append({"set": [1]})
    before = path.read_bytes()
    write = os.write

    def full(number: int, data: Any = b"") -> int:
        if data:
            write(number, data[:4])
        raise OSError(errno.ENOSPC, "No space left on device")

    def stuck(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(f"vidpose.review.journal.os.{broken}", full)
        if not truncates:
            patch.setattr("vidpose.review.journal.os.ftruncate", stuck)
        for _ in range(2):
            with pytest.raises(InputError, match="No space left" if truncates else "No space|Input/output"):
                journal.append({"set": [2]})
    assert (path.read_bytes() == before) is truncates
    journal.append({"set": [3]})
    journal.close()
    assert entries_of(path) == journal.entries == [{"set": [1]}, {"set": [3]}]
    assert not (tmp_path / "edits.damaged").exists()


FILLS_THE_DISK = """
import json, resource, sys
from pathlib import Path
from vidpose.errors import InputError
from vidpose.review.journal import Journal

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

journal, told, saved = Journal(Path(sys.argv[1])), [], []
limit(1000)
for k in range(100):
    if k == 60:
        limit(resource.RLIM_INFINITY)
    try:
        journal.append({"set": [k] * 10})
        saved.append(k)
    except InputError as error:
        told.append(str(error))
print(json.dumps([saved, told]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of file sizes")
def test_what_was_saved_before_and_after_the_disk_was_full_is_there(tmp_path: Path) -> None:
    path = tmp_path / "edits"
    done = subprocess.run(
        [sys.executable, "-c", FILLS_THE_DISK, str(path)], capture_output=True, text=True, check=True
    )
    saved, told = json.loads(done.stdout)
    assert 20 < len(saved) < 100 and saved[-40:] == list(range(60, 100))
    assert told and all("edits: cannot be written: " in line for line in told)
    assert [entry["set"][0] for entry in entries_of(path)] == saved
    assert [file.name for file in tmp_path.iterdir()] == ["edits"]


def test_a_journal_that_was_removed_meanwhile_is_told(tmp_path: Path) -> None:
    path = tmp_path / "edits"
    with closing(Journal(path)) as journal:
        journal.append({"set": [1]})
        path.rename(tmp_path / "moved")
        with pytest.raises(InputError, match="removed by another program"):
            journal.append({"set": [2]})
        path.write_text("of another program")
        with pytest.raises(InputError, match="removed by another program"):
            journal.append({"set": [2]})
    assert path.read_text() == "of another program" and len(entries_of(tmp_path / "moved")) == 1


HOLDS = """
import sys, time
from pathlib import Path
from vidpose.review.journal import Journal
journal = Journal(Path(sys.argv[1]))
journal.append({"set": [1]})
print("held", flush=True)
time.sleep(600)
"""


def test_one_process_at_a_time_has_a_journal_and_a_dead_one_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "edits"
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=r"in use by another review; .*--output"):
            Journal(path)
    finally:
        holder.kill()
        holder.wait()
    written(path, {"set": [2]})
    assert entries_of(path) == [{"set": [1]}, {"set": [2]}]


def test_a_journal_without_entries_leaves_no_file(tmp_path: Path) -> None:
    Journal(tmp_path / "new" / "edits").close()
    assert list((tmp_path / "new").iterdir()) == []


def test_a_place_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(file: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("vidpose.review.journal._lock", none)
    with closing(Journal(tmp_path / "edits")) as journal:
        journal.append({"set": [1]})
        assert ["cannot be locked" in remark for remark in journal.remarks] == [True]


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
    shutil.copy(session.journal.path, labels.with_name("again.json.edits"))
    again = ReviewSession(film, labels, labels.with_name("again.json"))
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
    session.close()
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


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"frame": True}, "whole number"), ({"frame": 1.5}, "whole number"), ({"frame": "1"}, "whole number"),
        ({"x": "1"}, "is not a number"), ({"x": 1e300}, "finite"), ({"y": 10**400}, "finite"),
        ({"state": ["visible"]}, "known: visible"),
        ({"joint": -1, "state": "removed", "track": 8}, "person 8"),
    ],
)  # fmt: skip
def test_edits_of_a_wrong_kind_are_told(changed: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        read_edits([entry(5, 1, 1), {**entry(5, 1, 1), **changed}], COUNT, [7], 17)


@pytest.mark.parametrize("entries", [None, 3, {}, [], "edit", [3], [None], ["edit"]])
def test_what_is_no_list_of_edits_is_told(entries: Any) -> None:
    with pytest.raises(InputError, match="an edit"):
        read_edits(entries, COUNT, [7], 17)


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_journal_of_other_labels_or_of_another_video_is_refused(
    session: ReviewSession, film: Path, labels: Path, tmp_path: Path
) -> None:
    session.edit([entry(5, 100, 90)], 0)
    session.close()
    journal = session.journal.path
    before = journal.read_bytes()
    shorter = tmp_path / "shorter"
    shutil.copytree(film, shorter)
    (shorter / f"{COUNT - 1:06d}.png").unlink()
    labels_before = labels.read_text()
    for video, text, said in (
        (film, labels_before.replace("50,", "51,", 1), "content of the labels"),
        (shorter, labels_before, "name of the video and number of frames"),
    ):
        labels.write_text(text)
        with pytest.raises(
            InputError, match=rf"out\.json\.edits: holds edits of other .*\({said}\); move .*-o"
        ):
            ReviewSession(video, labels, session.output)
        assert journal.read_bytes() == before
    labels.write_text(labels_before)
    with closing(ReviewSession(film, labels, session.output)) as again:
        assert again.revision == 1 and again.journal.remarks == []


def test_a_journal_of_version_0_1_is_taken_if_it_fits_and_bound_by_the_next_edit(
    film: Path, labels: Path
) -> None:
    output = labels.with_name("out.json")
    journal = labels.with_name("out.json.edits")
    old = [{"set": [entry(5, 100, 90)]}, {"undo": True}, {"redo": True}]
    journal.write_text("".join(f"{json.dumps(line)}\n" for line in old))
    with closing(ReviewSession(film, labels, output)) as session:
        assert session.revision == 3 and session.points[5, 0, WRIST].tolist() == [100, 90]
        assert len(lines_of(journal)) == 3
        session.edit([entry(6, 100, 90)], 3)
    assert [set(line) for line in lines_of(journal)[::4]] == [{"set"}, {"set"}] and len(
        lines_of(journal)
    ) == 5
    with closing(ReviewSession(film, labels, output)) as session:
        assert session.revision == 4
    labels.write_text(labels.read_text().replace("50,", "51,", 1))
    with pytest.raises(InputError, match="content of the labels"):
        ReviewSession(film, labels, output)


def test_a_journal_of_version_0_1_that_does_not_fit_is_refused(session: ReviewSession, labels: Path) -> None:
    journal = labels.with_name("old.edits")
    for changed in ({"frame": 99}, {"joint": 17}, {"track": 3}):
        lines = {"set": [entry(5, 1, 1)]}, {"set": [{**entry(5, 1, 1), **changed}]}
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        journal.write_text(text)
        with pytest.raises(
            InputError, match=r"edits:2: is not an edit of these labels \(no joint .*--output"
        ):
            Journal(journal, session._fingerprint(labels), session._checker())
        assert journal.read_text() == text and not labels.with_name("old.edits.damaged").exists()


DAMAGED: list[Any] = [
    {"set": [{**entry(5, 1, 1), "frame": 99}]}, {"set": [{**entry(5, 1, 1), "frame": "5"}]},
    {"set": [{**entry(5, 1, 1), "x": float("nan")}]}, {"set": [{**entry(5, 1, 1), "state": "gone"}]},
    {"set": [{"frame": 5}]}, {"set": []}, {"set": 3}, {"set": [3]}, {"undo": False}, {}, [], 7,
    {"set": [entry(5, 1, 1)], "undo": True}, {"other": 1},
]  # fmt: skip


def test_a_damaged_entry_is_recovered_up_to_there(session: ReviewSession, film: Path, labels: Path) -> None:
    session.edit([entry(5, 100, 90)], 0)
    session.close()
    path, damaged = session.journal.path, labels.with_name("out.json.edits.damaged")
    good = path.read_bytes()
    for line in DAMAGED:
        rest = f"{json.dumps(line)}\n{json.dumps({'undo': True})}\n".encode()
        path.write_bytes(good + rest)
        with closing(Journal(path, session._fingerprint(labels), session._checker())) as journal:
            assert len(journal.entries) == 1
            assert ["line 3 is damaged" in remark for remark in journal.remarks] == [True], line
        assert (path.read_bytes(), damaged.read_bytes()) == (good, rest)
        damaged.unlink()
    with closing(ReviewSession(film, labels, session.output)) as again:
        assert again.revision == 1 and again.points[5, 0, WRIST].tolist() == [100, 90]


def test_an_edit_that_is_not_saved_is_not_made(
    session: ReviewSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.edit([entry(5, 100, 90)], 0)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("vidpose.review.journal.os.write", full)
        with pytest.raises(InputError, match="No space"):
            session.edit([entry(5, 1, 1)], 1)
    assert session.revision == 1 and session.points[5, 0, WRIST].tolist() == [100, 90]
    session.edit([entry(5, 2, 2)], 1)


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
    session.close()
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


@pytest.mark.parametrize(
    ("number", "status"), [(errno.ENOSPC, 507), (errno.EDQUOT, 507), (errno.EACCES, 400), (errno.EIO, 400)]
)
def test_what_the_disk_refuses_is_told_to_the_page(
    session: ReviewSession, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), "out.json")

    monkeypatch.setattr(session, "least_certain", fails)
    assert call(session, ("GET", "api/uncertain", None)) == [
        (status, {"error": f"out.json: {os.strerror(number)}"})
    ]
    monkeypatch.setattr("vidpose.infer.propagation.run.write_labels", fails)
    [(status, told)] = call(session, ("POST", "api/save", {"revision": 0}))
    assert status == 400 and told["error"].endswith(f"out.json: cannot be written: {os.strerror(number)}")
    assert not session.output.exists()


def test_a_save_on_a_full_disk_is_told_and_the_edits_stay(
    session: ReviewSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.save()
    before = session.output.read_bytes()
    session.edit([entry(5, 100, 90)], 0)
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = session.journal.path.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
    try:
        answers = call(
            session,
            ("POST", "api/save", {"revision": 1}),
            ("POST", "api/edit", {"revision": 1, "set": [entry(6, 1, 1)]}),
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    for (status, told), name in zip(answers, (session.output, session.journal.path), strict=True):
        assert status == 400 and told["error"].startswith(f"{name}: cannot be written: "), told
    assert session.output.read_bytes() == before and session.journal.path.stat().st_size == size
    assert [status for status, _ in call(session, ("POST", "api/save", {"revision": 1}))] == [200]
    assert session.output.read_bytes() != before


def reviewed(*arguments: object) -> tuple[int, str]:
    """Exit status and last line of ``vidpose review`` that ends before it serves."""
    command = [sys.executable, "-m", "vidpose.cli", "review", *map(str, arguments), "--no-browser"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.returncode, done.stderr


def test_a_second_review_of_the_same_labels_is_told(session: ReviewSession, film: Path, labels: Path) -> None:
    session.edit([entry(5, 100, 90)], 0)
    status, said = reviewed(film, labels, "-o", session.output)
    assert status == 2 and "out.json.edits: is in use by another review" in said


def test_review_replaces_no_file_that_it_has_not_written(film: Path, labels: Path) -> None:
    output = labels.with_name("out.json")
    output.write_text("mine")
    status, said = reviewed(film, labels, "-o", output)
    assert status == 2 and "out.json: is there already" in said and "--overwrite" in said
    assert output.read_text() == "mine" and len(list(labels.parent.iterdir())) == 2


def test_review_knows_the_output_that_it_has_saved(session: ReviewSession, film: Path, labels: Path) -> None:
    from vidpose.review.server import _objection

    assert _objection(session.output) is not None
    session.save()
    session.close()
    assert _objection(session.output) is None
    with closing(ReviewSession(film, labels, session.output)) as again:
        assert again.revision == 0


def test_without_the_token_nothing_is_told(session: ReviewSession) -> None:
    for token in ("other", "key2", "x/key"):
        [(status, told)] = call(session, ("GET", "api/state", None), token=token)
        assert status == 403 and b"left_wrist" not in told
