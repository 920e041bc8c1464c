"""Results of long videos: on disk, the same bytes as from a list; and folders checked early."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from vidpose.errors import InputError
from vidpose.io.files import check_writable, read_json, write_json_parts
from vidpose.io.formats import FORMATS, save_poses
from vidpose.io.spool import FrameSpool
from vidpose.results import FramePoses, VideoPoses
from vidpose.skeletons import POSETRACK15


def poses(index: int, people: int = 2) -> FramePoses:
    rng = np.random.default_rng(index)
    return FramePoses(
        index,
        index / 25,
        rng.uniform(0, 99, (people, 15, 2)),
        rng.uniform(0.1, 1, (people, 15)),
        np.tile([5, 6, 80, 90], (people, 1)),
        np.full(people, 0.75),
        np.arange(people),
    )


def test_a_spool_is_a_sequence_of_the_same_frames():
    with FrameSpool() as spool:
        for i in range(20):
            spool.append(poses(i, people=i % 3))
        assert len(spool) == 20 and [frame.index for frame in spool] == list(range(20))
        assert [frame.index for frame in spool[3:6]] == [3, 4, 5]
        spool.append(poses(20))  # also after it has been read
        assert spool[-1].index == 20
        for i in (20, 4, 11):
            assert np.array_equal(spool[i].keypoints, poses(i, people=2 if i == 20 else i % 3).keypoints)
        with pytest.raises(IndexError):
            spool[21]


@pytest.mark.parametrize("format", FORMATS)
def test_files_are_the_same_from_a_spool_and_from_a_list(tmp_path, format):
    frames = [poses(i, people=i % 3) for i in range(12)]
    with FrameSpool() as spool:
        for frame in frames:
            spool.append(frame)
        for name, given in (("list", frames), ("spool", spool)):
            save_poses(VideoPoses(given, POSETRACK15, "walk.mp4", 100, 120, 25.0), tmp_path / name, format)
    assert (tmp_path / "list").read_bytes() == (tmp_path / "spool").read_bytes()


@pytest.mark.parametrize("format", ["posetrack18", "posetrack17", "coco", "csv"])
def test_writing_takes_no_more_memory_for_a_longer_video(tmp_path, format):
    def peak(count: int) -> int:
        with FrameSpool() as spool:
            for i in range(count):
                spool.append(poses(i, people=1))
            tracemalloc.start()
            save_poses(VideoPoses(spool, POSETRACK15, "walk.mp4", 100, 120, 25.0), tmp_path / "a", format)
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return most

    short = 100 if format == "csv" else 60  # tables are written a hundred frames at a time
    peak(5)  # whatever is made once
    assert peak(3 * short) < 1.15 * peak(short) + 20_000


def test_json_parts_are_plain_json(tmp_path):
    value = {"a": [1, {"b": None}], "none": [], "text": "x\n"}
    write_json_parts(
        tmp_path / "a.json", {k: iter(v) if isinstance(v, list) else v for k, v in value.items()}
    )
    assert read_json(tmp_path / "a.json") == value
    write_json_parts(tmp_path / "b.json", {})
    assert read_json(tmp_path / "b.json") == {}

    def broken():
        yield 1
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_json_parts(tmp_path / "c.json", {"a": broken()})
    with pytest.raises(ValueError, match="JSON"):
        write_json_parts(tmp_path / "c.json", {"a": iter([float("nan")])})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_a_folder_is_checked_before_it_is_needed(tmp_path):
    (tmp_path / "file").write_text("")
    check_writable(tmp_path)
    check_writable(tmp_path / "new" / "deep")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    for folder, said in ((tmp_path / "file", "is a file"), (tmp_path / "file" / "sub", "cannot be made")):
        with pytest.raises(InputError, match=said):
            check_writable(folder)
