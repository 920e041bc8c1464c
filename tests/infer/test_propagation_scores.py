"""What benchmarks/propagation.py counts in frames without labels, against a slow count."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tiny_posetrack import make_posetrack
from vidpose.data.dataset import PoseDataset
from vidpose.data.readers import read_dataset

INTERVAL, KEPT = 4, (2, 6)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    return importlib.import_module("propagation")


@pytest.fixture
def truth(tmp_path: Path) -> PoseDataset:
    return read_dataset(make_posetrack(tmp_path, splits=("val",), videos=2, frames=9), "val")


def slow_count(truth: PoseDataset, found: PoseDataset, share: float) -> tuple[int, int]:
    """Joints in frames without labels, and how many of them are within a share of the box's larger side."""
    total = right = 0
    for video, other in zip(truth.videos, found.videos, strict=True):
        for k, frame in enumerate(video.frames):
            if k in KEPT:
                continue
            for person in frame.people:
                poses = [p.keypoints for p in other.frames[k].people if p.track_id == person.track_id]
                x1, y1, x2, y2 = person.box_xyxy
                for j, (x, y, known) in enumerate(person.keypoints):
                    total += int(known)
                    if known and poses and poses[0][j, 2]:
                        distance = np.hypot(poses[0][j, 0] - x, poses[0][j, 1] - y)
                        right += int(distance <= share * max(x2 - x1, y2 - y1))
    return total, right


def test_joints_without_labels_are_counted_by_the_larger_side_of_the_box(
    bench: ModuleType, truth: PoseDataset
) -> None:
    copies = bench.propagated(truth, INTERVAL, "copy")
    people = bench.unlabelled_people(truth, copies, INTERVAL)
    rng = np.random.default_rng(0)
    for _, frame in copies.frames():
        for person in frame.people:
            person.keypoints[:, :2] += rng.normal(scale=3, size=(len(person.keypoints), 2))
    done = bench.tallies(people, copies)
    for share in bench.BOX_SHARES:
        total, right = slow_count(truth, copies, share)
        assert (done[share].counts.sum(), done[share].right.sum()) == (total, right)
    assert 0.2 * total < done[0.05].right.sum() < done[0.1].right.sum() < 0.9 * total


def test_a_joint_that_a_method_leaves_out_is_wrong_and_one_nobody_can_fill_does_not_count(
    bench: ModuleType, truth: PoseDataset
) -> None:
    for frame in (truth.videos[0].frames[k] for k in KEPT):
        frame.people[0].keypoints[5] = 0  # no label in any frame that keeps its labels
    copies = bench.propagated(truth, INTERVAL, "copy")
    people = bench.unlabelled_people(truth, copies, INTERVAL)
    total = len(people.keys) * truth.skeleton.num_joints - (9 - len(KEPT))
    done = bench.tallies(people, truth)[0.05]
    assert done.counts.sum() == done.right.sum() == total
    truth.videos[1].frames[4].people[1].keypoints[3] = 0
    done = bench.tallies(people, truth)[0.05]
    assert (done.counts.sum(), done.right.sum()) == (total, total - 1)


def test_map_is_for_people_with_head_boxes(bench: ModuleType, truth: PoseDataset) -> None:
    assert bench.has_head_boxes(truth)
    truth.videos[0].frames[1].people[0].head_box_xyxy = None
    assert not bench.has_head_boxes(truth)


def test_rows_tell_what_auto_gains(bench: ModuleType, truth: PoseDataset) -> None:
    copies = bench.propagated(truth, INTERVAL, "copy")
    people = bench.unlabelled_people(truth, copies, INTERVAL)
    done = {"copy": bench.tallies(people, copies), "auto": bench.tallies(people, truth)}
    rows = bench.compared(done, people, truth)
    copy, auto = (next(r for r in rows if r["method"] == m and r["box_share"] == 0.05) for m in done)
    assert auto["all"] == 100 and "auto_minus" not in auto
    gain, low, high = copy["auto_minus"]
    assert gain == pytest.approx(100 - copy["all"]) and low <= gain <= high


def test_a_limit_takes_videos_from_the_whole_set(bench: ModuleType, truth: PoseDataset) -> None:
    names = [video.name for video in truth.videos]
    assert [v.name for v in bench.evenly_chosen(truth, 1).videos] == names[:1]
    assert [v.name for v in bench.evenly_chosen(truth, 5).videos] == names
