"""Pseudo-labels: a data set with few labels becomes one with many, and says which is which."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tiny_posetrack import make_posetrack
from vidpose.data.clips import ClipDataset, ground_truth_samples
from vidpose.data.readers import read_dataset
from vidpose.errors import InputError
from vidpose.infer.propagation import dataset as module
from vidpose.infer.propagation.dataset import (
    fill_labels,
    propagate_dataset,
    thin_labels,
    trusted_labels,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dotted people who move in straight lines."""
    return make_posetrack(tmp_path_factory.mktemp("data"), splits=("train",), videos=2, frames=9)


@pytest.mark.parametrize(("interval", "kept"), [(1, range(9)), (2, [1, 3, 5, 7]), (4, [2, 6]), (30, [4])])
def test_every_so_many_th_label_is_kept(root: Path, interval: int, kept: Any) -> None:
    for video in thin_labels(read_dataset(root, "train"), interval).videos:
        assert [k for k, frame in enumerate(video.frames) if frame.is_labeled] == list(kept)
        assert all(bool(frame.people) == frame.is_labeled for frame in video.frames)


def test_a_filled_data_set_is_read_like_any_other(root: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in sorted(root.glob("annotations/*/*"))}
    out = tmp_path / "out"
    report = propagate_dataset(root, out, "interpolate", interval=4)
    assert (report.videos, report.given, report.propagated) == (2, 8, 28)
    assert before == {path: path.read_bytes() for path in sorted(root.glob("annotations/*/*"))}
    truth, found = read_dataset(root, "train"), read_dataset(out, "train")
    for (_, frame), (_, true) in zip(found.frames(), truth.frames(), strict=True):
        assert frame.is_labeled and frame.image_id == true.image_id
        assert frame.path.is_symlink() and frame.path.samefile(true.path)
        for mine, person in zip(frame.people, true.people, strict=True):
            by_hand = frame.index in (2, 6)
            assert mine.extra["provenance"] == ("human" if by_hand else "propagated")
            assert mine.track_id == person.track_id
            if 2 <= frame.index <= 6:
                np.testing.assert_allclose(mine.keypoints, person.keypoints, atol=0.01)
            if not by_hand:
                assert mine.joint_scores is not None and 0 < mine.joint_scores[0] <= 1
    with pytest.raises(InputError, match="new or empty"):
        propagate_dataset(root, out, "interpolate")
    with pytest.raises(InputError, match=r"nothing to fill in split 'train': .*--interval N"):
        propagate_dataset(root, tmp_path / "whole", "interpolate")
    assert not (tmp_path / "whole").exists()


def test_labels_of_a_video_file_are_filled_too(tmp_path: Path) -> None:
    """Several entries name frames of one video file by their number."""
    source = make_posetrack(tmp_path / "a", splits=("train",), videos=1, frames=9)
    data = thin_labels(read_dataset(source, "train"), 4)
    film = tmp_path / "film.avi"
    frames = data.videos[0].frames
    images = [cv2.imread(str(frame.path)) for frame in frames]
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 25, images[0].shape[1::-1])
    for image in images:
        writer.write(image)
    writer.release()
    entries = [replace(f, path=film, video_frame=k) for k, f in enumerate(frames) if k != 5]
    inside = replace(data, videos=[replace(data.videos[0], frames=entries)])
    filled = fill_labels(inside, "interpolate").videos[0].frames
    assert [frame.video_frame for frame in filled] == [0, 1, 2, 3, 4, 6, 7, 8]
    other = fill_labels(data, "interpolate").videos[0].frames
    for frame in filled:
        same = other[frame.video_frame or 0]
        for mine, person in zip(frame.people, same.people, strict=True):
            np.testing.assert_array_equal(mine.keypoints, person.keypoints)


def test_a_killed_job_continues(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was finished before the end is not computed again, and the result is the same."""
    data = thin_labels(read_dataset(root, "train"), 4)
    whole = fill_labels(data, "dis")
    calls: list[Any] = []
    real = module.propagate_labels

    def dying(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(module, "propagate_labels", dying)
    with pytest.raises(KeyboardInterrupt):
        fill_labels(data, "dis", work=tmp_path)
    monkeypatch.setattr(module, "propagate_labels", real)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    assert kept
    again = fill_labels(data, "dis", work=tmp_path)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    for (_, mine), (_, other) in zip(whole.frames(), again.frames(), strict=True):
        for a, b in zip(mine.people, other.people, strict=True):
            np.testing.assert_array_equal(a.keypoints, b.keypoints)
    # Other labels are another job.
    moved = json.loads(json.dumps([p.keypoints.tolist() for p in data.videos[0].frames[2].people]))
    for person, points in zip(data.videos[0].frames[2].people, moved, strict=True):
        person.keypoints = np.array(points) + [3, 0, 0]
    shifted = fill_labels(data, "dis", work=tmp_path).videos[0].frames[3].people[0].keypoints
    assert (shifted[:, 0] > again.videos[0].frames[3].people[0].keypoints[:, 0] + 1).any()


def test_videos_without_labels_stay_as_they_are(root: Path) -> None:
    data = read_dataset(root, "train")
    empty = replace(
        data.videos[0], frames=[replace(f, is_labeled=False, people=[]) for f in data.videos[0].frames]
    )
    filled = fill_labels(replace(data, videos=[empty, data.videos[1]]), "interpolate")
    assert filled.videos[0] is empty


def test_what_was_propagated_before_is_made_anew(root: Path) -> None:
    once = fill_labels(thin_labels(read_dataset(root, "train"), 4), "copy")
    twice = fill_labels(once, "interpolate")
    straight = fill_labels(thin_labels(read_dataset(root, "train"), 4), "interpolate")
    for (_, mine), (_, other) in zip(twice.frames(), straight.frames(), strict=True):
        for a, b in zip(mine.people, other.people, strict=True):
            np.testing.assert_array_equal(a.keypoints, b.keypoints)
    # In frames 1, 3, 5 and 7 there are propagated poses alone: nothing to go by, and nothing is lost.
    alone = fill_labels(thin_labels(once, 2), "interpolate")
    assert [f.is_labeled for f in alone.videos[0].frames] == [k % 2 == 1 for k in range(9)]


def test_unsure_joints_are_not_trained_on_and_labels_by_hand_are(root: Path) -> None:
    data = fill_labels(thin_labels(read_dataset(root, "train"), 4), "interpolate")
    people = [person for _, frame in data.frames() for person in frame.people]
    made = next(p for p in people if p.extra["provenance"] == "propagated")
    assert made.joint_scores is not None
    made.joint_scores = np.linspace(0, 1, len(made.joint_scores))
    made.extra = {"provenance": "mixed", "human_joints": [0, 99]}
    kept = trusted_labels(data, 0.5)
    after = [person for _, frame in kept.frames() for person in frame.people]
    for before, now in zip(people, after, strict=True):
        expected = before.keypoints[:, 2].copy()
        if before.extra["provenance"] != "human":
            assert before.joint_scores is not None
            expected[before.joint_scores < 0.5] = 0
        if before is made:
            expected[0] = 1
        np.testing.assert_array_equal(now.keypoints[:, 2], expected)
    assert made.keypoints[:, 2].all()  # the original is not changed


def test_confidence_is_how_much_a_joint_counts(root: Path) -> None:
    data = fill_labels(thin_labels(read_dataset(root, "train"), 4), "interpolate")
    samples = ground_truth_samples(data)
    sizes: dict[str, Any] = {"num_frames": 3, "input_size": (64, 48), "heatmap_size": (16, 12)}
    plain = ClipDataset(data, samples, **sizes)
    weighed = ClipDataset(data, samples, confidence_weights=True, **sizes)
    for k, sample in enumerate(samples):
        assert sample.person is not None
        one, two = plain[k]["weights"][1], weighed[k]["weights"][1]
        scores = sample.person.joint_scores
        np.testing.assert_allclose(two, one if scores is None else one * scores, atol=1e-6)
