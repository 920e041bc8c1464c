"""What is sent to HiEve's test server: our own reader finds the same people in it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vidpose.cli import main
from vidpose.data.convert import convert
from vidpose.data.faults import Faults
from vidpose.data.layouts import hieve
from vidpose.errors import InputError
from vidpose.results import FramePoses, VideoPoses
from vidpose.skeletons import HIEVE14, POSETRACK15


def poses(seed: int, skeleton=HIEVE14, frames: int = 4) -> VideoPoses:
    rng = np.random.default_rng(seed)
    found = []
    for k in range(frames):
        people = int(rng.integers(0, 3)) if k else 2
        corner = rng.uniform(0, 200, (people, 2))
        found.append(
            FramePoses(
                index=k,
                time=k / 25,
                keypoints=rng.uniform(1, 300, (people, skeleton.num_joints, 2)),
                scores=rng.uniform(0.1, 1, (people, skeleton.num_joints)),
                boxes=np.concatenate([corner, corner + rng.uniform(5, 90, (people, 2))], axis=1),
                box_scores=rng.uniform(0.1, 1, people),
                track_ids=np.arange(people),
            )
        )
    return VideoPoses(found, skeleton, source=f"{seed}.mp4", width=640, height=360, fps=25)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two videos as ``vidpose estimate`` leaves them."""
    for number in (20, 21):
        poses(number).save(tmp_path / "out" / f"{number}.json")
    return tmp_path / "out"


def test_the_zip_holds_every_video_as_the_reader_of_the_data_set_knows_it(
    results: Path, tmp_path: Path
) -> None:
    convert(results, tmp_path / "submission.zip", "hieve")
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        assert sorted(archive.namelist()) == ["20.json", "21.json"]  # in the archive's root
        archive.extractall(tmp_path / "again" / "test" / "track2")
    data = hieve.read(tmp_path / "again", "test", Faults())
    for video, number in zip(data.videos, (20, 21), strict=True):
        told = poses(number)
        assert [frame.file_name[-10:] for frame in video.frames] == [f"{k:06d}.jpg" for k in range(4)]
        for frame, ours in zip(video.frames, told.frames, strict=True):
            assert [person.track_id for person in frame.people] == ours.track_ids.tolist()
            for k, person in enumerate(frame.people):
                np.testing.assert_allclose(person.keypoints[:, :2], ours.keypoints[k], rtol=1e-6)
                np.testing.assert_allclose(person.box_xyxy, ours.boxes[k], rtol=1e-5)


def test_scores_of_joints_and_people_are_in_it(results: Path, tmp_path: Path) -> None:
    convert(results / "20.json", tmp_path / "one.zip", "hieve")
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        (rect, *_) = json.loads(archive.read("20.json"))["annolist"][0]["annorect"]
    told = poses(20).frames[0]
    assert rect["score"] == pytest.approx(told.box_scores[:1])
    points = rect["annopoints"][0]["point"]
    assert [point["id"] for point in points] == [[j] for j in range(14)]
    assert [point["score"][0] for point in points] == pytest.approx(told.scores[0])


def test_the_same_predictions_are_the_same_bytes(results: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.zip", tmp_path / "b.zip"
    convert(results, first, "hieve")
    convert(results, second, "hieve")
    assert first.read_bytes() == second.read_bytes()


def test_joints_of_another_set_are_made_only_where_asked(tmp_path: Path) -> None:
    poses(3, POSETRACK15).save(tmp_path / "20.json")
    plain = convert(tmp_path / "20.json", tmp_path / "plain.zip", "hieve")
    made = convert(tmp_path / "20.json", tmp_path / "made.zip", "hieve", approximate=True)
    assert "chest joints approximated" in made.made and not plain.made
    assert plain.dropped["head_top joints"] == plain.people


def test_wrong_targets_are_refused(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"ends in \.zip"):
        convert(results, tmp_path / "folder", "hieve")
    with pytest.raises(SystemExit) as stopped:
        main(["data", "convert", str(results), str(tmp_path / "x.json"), "--to", "hieve"])
    assert stopped.value.code == 2 and capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "x.json").exists()
