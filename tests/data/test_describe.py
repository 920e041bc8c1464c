"""A data set's numbers, against a slow obvious version and against cases worked out by hand."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from tiny_datasets import MAKERS
from tiny_posetrack import make_posetrack
from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.describe import describe_dataset, measure, quantiles, sample_frames
from vidpose.data.readers import read_dataset
from vidpose.errors import InputError
from vidpose.skeletons import POSETRACK15, Skeleton

FIVE = Skeleton("five", ("nose", "left_hip", "right_hip", "left_knee", "right_knee"), (("nose", "left_hip"),))


def person(box, points=(), track: int = 0, hidden=(), head=None, given: bool = True) -> Person:
    """Joints by number: {j: (x, y)}."""
    keypoints = np.zeros((5, 3))
    for j, place in dict(points).items():
        keypoints[j] = (*place, 1)
    visible = keypoints[:, 2] > 0
    visible[list(hidden)] = False
    head = None if head is None else np.array(head, dtype=float)
    return Person(keypoints, np.array(box, dtype=float), head, track, visible, box_is_given=given)


def frame(index: int, people=(), size=(100, 200), is_labeled: bool = True) -> Frame:
    return Frame(Path(f"{index}.jpg"), f"{index}.jpg", index, index, size, is_labeled, list(people))


def dataset(*videos) -> PoseDataset:
    named = [Video(f"v{k}", list(frames), Path("a.json")) for k, frames in enumerate(videos)]
    return PoseDataset(named, FIVE, Path(), "train")


def random_dataset(seed: int) -> PoseDataset:
    """Overlapping people who come and go, on frames of which some are not labelled."""
    rng = np.random.default_rng(seed)
    videos = []
    for _ in range(4):
        frames = []
        for index in range(9):
            people = []
            for track in np.flatnonzero(rng.random(5) < 0.7 if index % 3 else np.zeros(5)):
                corner, extent = rng.uniform(0, 60, 2), rng.uniform(10, 60, 2)
                joints = {j: rng.uniform(0, 100, 2) for j in np.flatnonzero(rng.random(5) < 0.7)}
                hidden = [j for j in joints if rng.random() < 0.3]
                box = [*corner, *(corner + extent)]
                people.append(person(box, joints, int(track), hidden, [0, 0, *rng.uniform(1, 9, 2)]))
            frames.append(frame(index, people, is_labeled=bool(index % 3)))
        videos.append(frames)
    return dataset(*videos)


@pytest.fixture(params=[0, 1, "tiny"])
def data(request, tmp_path) -> PoseDataset:
    if request.param == "tiny":
        return read_dataset(make_posetrack(tmp_path, splits=("train",), unlabeled=(1, 2)), "train")
    return random_dataset(request.param)


# --- against the slow version ------------------------------------------------------------------------------


def everyone(data: PoseDataset) -> list[Person]:
    return [one for _, frame in data.frames() for one in frame.people]


def test_overlaps_are_those_of_a_loop(data):
    def iou(a, b):
        width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
        height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
        area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
        return width * height / (area - width * height)

    expected = [
        max((iou(one.box_xyxy, other.box_xyxy) for other in frame.people if other is not one), default=0)
        for _, frame in data.frames()
        for one in frame.people
    ]
    np.testing.assert_allclose(measure(data).overlaps, expected, atol=1e-9)


def test_motion_is_that_of_a_loop(data):
    expected = []
    for video in data.videos:
        tracks = defaultdict(list)
        for one in video.frames:
            for someone in one.people:
                tracks[someone.track_id].append((one.index, someone))
        for _, track in sorted(tracks.items()):
            for (i, a), (k, b) in zip(track[:-1], track[1:], strict=True):
                height = a.box_xyxy[3] - a.box_xyxy[1]
                both = (a.keypoints[:, 2] > 0) & (b.keypoints[:, 2] > 0)
                way = np.hypot(*(a.keypoints - b.keypoints)[:, :2].T) / height / (k - i)
                expected.append((np.where(both, way, np.nan), k - i))
    values = measure(data)
    np.testing.assert_allclose(values.motion, [motion for motion, _ in expected])
    assert values.steps.tolist() == [step for _, step in expected]
    medians = [np.median(motion[~np.isnan(motion)]) for motion, _ in expected if not np.isnan(motion).all()]
    np.testing.assert_allclose(values.speeds, medians)


def test_lengths_and_counts_are_those_of_a_loop(data):
    values = measure(data)
    lengths = Counter(
        (k, one.track_id) for k, v in enumerate(data.videos) for frame in v.frames for one in frame.people
    )
    assert sorted(values.track_lengths.tolist()) == sorted(lengths.values())
    assert values.people_per_frame.tolist() == [len(f.people) for _, f in data.frames() if f.is_labeled]
    assert values.labeled_per_video.tolist() == [sum(f.is_labeled for f in v.frames) for v in data.videos]


def test_joints_and_boxes_are_those_of_a_loop(data):
    values, people = measure(data), everyone(data)
    assert values.labeled.tolist() == [[point[2] > 0 for point in one.keypoints] for one in people]
    assert values.visible.tolist() == [one.visible.tolist() for one in people]
    for k, (x1, y1, x2, y2) in enumerate(one.box_xyxy for one in people):
        assert values.box_heights[k] == y2 - y1
        assert values.box_aspects[k] == pytest.approx((y2 - y1) / (x2 - x1))


# --- worked out by hand ------------------------------------------------------------------------------------


def test_two_people_who_share_a_third():
    """10 x 10 each, 5 x 10 shared: 50 / 150; a person of the next frame at the same place is no neighbour."""
    here = [person([0, 0, 10, 10]), person([5, 0, 15, 10], track=1)]
    values = measure(dataset([frame(0, here), frame(1, [person([0, 0, 10, 10])])]))
    np.testing.assert_allclose(values.overlaps, [1 / 3, 1 / 3, 0])
    assert values.crowded == pytest.approx(2 / 3)


def test_a_step_of_four_frames():
    """The nose goes 8 pixels, the hip 16, in 4 frames; the box is 40 high: 0.05 and 0.1 per frame."""
    first = person([0, 0, 20, 40], {0: (10, 10), 1: (10, 30), 2: (5, 30)})
    second = person([0, 0, 20, 80], {0: (18, 10), 1: (10, 46)})
    values = measure(dataset([frame(0, [first]), frame(2, is_labeled=False), frame(4, [second])]))
    np.testing.assert_allclose(values.motion, [[0.05, 0.1, np.nan, np.nan, np.nan]])
    np.testing.assert_allclose(values.speeds, [0.075])
    np.testing.assert_allclose(values.joint_speeds, [0.05, 0.1, np.nan, np.nan, np.nan])
    assert values.steps.tolist() == [4]


def test_one_track_id_in_two_videos_is_two_tracks():
    values = measure(dataset([frame(0, [person([0, 0, 9, 9])])], [frame(1, [person([0, 0, 9, 9])])]))
    assert values.track_lengths.tolist() == [1, 1] and len(values.motion) == 0 and values.single_images


def test_heads_centres_and_made_boxes():
    """A head box of 30 x 40 has a diagonal of 50: head size 30."""
    people = [
        person([0, 0, 100, 100], head=[10, 10, 40, 50]),
        person([0, 0, 100, 100], track=1, given=False),
    ]
    values = measure(dataset([frame(0, people)]))
    assert values.head_sizes.tolist() == [30]
    assert values.box_centres[0].tolist() == [0.25, 0.5]
    assert values.boxes_given.tolist() == [True, False]


def test_occluded_is_labelled_and_not_visible():
    people = [person([0, 0, 9, 9], {0: (1, 1), 1: (2, 2)}, hidden=[1]), person([9, 9, 18, 18], track=1)]
    joints = measure(dataset([frame(0, people)])).to_dict()["joints"]
    assert joints["nose"] == {"labeled": 0.5, "visible": 0.5, "occluded": 0.0, "speed": None}
    assert joints["left_hip"] == {"labeled": 0.5, "visible": 0.0, "occluded": 0.5, "speed": None}


def test_unknown_picture_sizes_leave_centres_unknown():
    values = measure(dataset([frame(0, [person([0, 0, 9, 9])], size=(0, 0))]))
    assert np.isnan(values.box_centres).all() and values.image_sizes == {(0, 0): 1}


@pytest.mark.parametrize("data", [dataset(), dataset([frame(0)]), dataset([frame(0, is_labeled=False)])])
def test_nobody_is_described(data):
    values = measure(data)
    summary = values.to_dict()
    assert summary["box_height_px"] is None and summary["joints"]["nose"]["labeled"] == 0
    json.dumps(summary, allow_nan=False)
    assert len(values.speeds) == 0 and quantiles(values.box_heights) == []


# --- frames to look at -------------------------------------------------------------------------------------


def numbered(videos: int, frames: int) -> PoseDataset:
    return dataset(*([frame(i, [person([0, 0, 9, 9])]) for i in range(frames)] for _ in range(videos)))


def test_samples_are_spread_over_many_videos():
    samples = sample_frames(numbered(40, 10), 4)
    assert [name for name, _ in samples] == ["v5", "v15", "v25", "v35"]
    assert {one.index for _, one in samples} == {5}


def test_samples_of_one_video_are_spread_over_time():
    assert [one.index for _, one in sample_frames(numbered(1, 40), 4)] == [5, 15, 25, 35]


def test_no_frame_is_shown_twice_and_none_without_people():
    data = numbered(2, 2)
    data.videos[0].frames[1].people.clear()
    assert [(name, one.index) for name, one in sample_frames(data, 8)] == [("v0", 0), ("v1", 0), ("v1", 1)]
    assert sample_frames(dataset([frame(0)]), 8) == [] and sample_frames(data, 0) == []


# --- whole data sets ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return make_posetrack(tmp_path_factory.mktemp("tiny"), frames=4)


def test_splits_are_chosen_in_their_order(tiny):
    assert list(describe_dataset(tiny).splits) == ["train", "val"]
    assert list(describe_dataset(tiny, splits=["val", "val"]).measures) == ["val"]
    with pytest.raises(InputError, match="no split 'test'; it has train, val"):
        describe_dataset(tiny, splits=["val", "test"])


def test_crowds_and_people_without_a_box_are_left_out(tiny, tmp_path):
    file = sorted((tiny / "annotations" / "val").glob("*.json"))[0]
    content = json.loads(file.read_text())
    content["annotations"][0]["iscrowd"] = True
    content["annotations"][1]["bbox"] = [5, 5, 0, 0]
    (tmp_path / "annotations" / "val").mkdir(parents=True)
    (tmp_path / "annotations" / "val" / file.name).write_text(json.dumps(content))
    description = describe_dataset(tmp_path)
    assert description.measures["val"].left_out == 2
    assert description.splits["val"].people == len(content["annotations"]) - 2
    assert "left out: 2" in str(description)


def test_text_and_json_hold_the_same_counts(tiny):
    description = describe_dataset(tiny, splits=["train"])
    text, values = str(description), json.loads(json.dumps(description.to_dict(), allow_nan=False))
    assert "PoseTrack18" in text and "box heights (5, 25, 50, 75, 95 %): 48, 48, 48, 48, 48 px" in text
    assert values["splits"]["train"]["people"] == 16 and values["joints"]["train"]["nose"] == 16
    assert values["statistics"]["train"]["track_length_labeled_frames"]["max"] == 4
    assert values["statistics"]["train"]["joints"]["nose"]["labeled"] == 1


def test_many_image_sizes_are_a_short_line():
    from vidpose.data.describe import DatasetDescription, count_content

    data = dataset(*([frame(0, size=(k + 1, 9))] for k in range(30)))
    description = DatasetDescription("d", "x", {"a": count_content(data.videos)}, {"a": measure(data)})
    assert "5x9 (1 video), 25 more" in str(description) and len(description.image_sizes["a"]) == 30


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_every_layout_is_described(name, tmp_path):
    make, layout, split, _ = MAKERS[name]
    root = make(tmp_path)
    description = describe_dataset(root, layout, splits=[split])
    people = everyone(read_dataset(root, split))
    values = description.measures[split]
    assert len(values.labeled) == len(people) == description.splits[split].people
    assert values.labeled.sum() == description.splits[split].labeled_joints
    json.dumps(description.to_dict(), allow_nan=False)


def test_real_annotations(shared_dir):
    assert POSETRACK15.num_joints == 15
    if shared_dir is None:
        return
    values = describe_dataset(shared_dir / "fixtures" / "posetrack18").measures["val"]
    assert values.labeled.shape == (14, 15) and values.labeled.sum() == 182
    assert sorted(values.people_per_frame.tolist()) == [1, 2, 11]
