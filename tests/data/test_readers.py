"""Reading annotations: real files, hand-made ones, and every fault named by file and place."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiny_posetrack import as_posetrack17, make_posetrack
from vidpose.data.boxes import read_boxes
from vidpose.data.check import check_dataset
from vidpose.data.describe import describe_dataset
from vidpose.data.readers import list_splits, read_dataset
from vidpose.errors import InputError
from vidpose.skeletons import POSETRACK15


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_posetrack(tmp_path_factory.mktemp("pt"), unlabeled=(1, 4))


def edited(tiny: Path, tmp_path: Path, change) -> Path:
    """The first training file, changed, in a folder of its own."""
    file = tiny / "annotations" / "train" / "000001_mpii_test.json"
    content = copy.deepcopy(json.loads(file.read_text()))
    change(content)
    target = tmp_path / "annotations" / "train" / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(content))
    return tmp_path


def test_frames_in_order_of_time_with_unlabelled_ones(tiny: Path) -> None:
    data = read_dataset(tiny, "train")
    assert [video.name for video in data.videos] == ["000001_mpii_test", "000002_mpii_test"]
    for video in data.videos:
        assert [frame.index for frame in video.frames] == list(range(6))
        assert [frame.is_labeled for frame in video.frames] == [True, False, True, True, False, True]
        assert [len(frame.people) for frame in video.frames] == [2, 0, 2, 2, 0, 2]
        assert all(frame.path.is_file() and frame.size == (64, 96) for frame in video.frames)


def test_images_listed_out_of_order_are_sorted(tiny: Path, tmp_path: Path) -> None:
    root = edited(tiny, tmp_path, lambda content: content["images"].reverse())
    names = [frame.file_name[-10:] for frame in read_dataset(root, "train").videos[0].frames]
    assert names == [f"{k:06d}.jpg" for k in range(6)]


def test_real_files(shared_dir: Path | None, tiny: Path) -> None:
    if shared_dir is None:  # a machine without the fixtures: what the project makes itself
        assert len(read_dataset(tiny, "val").videos) == 2
        return
    root = shared_dir / "fixtures" / "posetrack18"
    data = read_dataset(root, "val")
    assert [len(video.frames[0].people) for video in data.videos] == [1, 2, 11]
    frame = data.videos[0].frames[0]
    assert frame.path.is_file() and frame.size == (1080, 1920) and len(frame.ignore_regions) == 9
    person = frame.people[0]
    # read off the file: nose 621, 471; left wrist absent; bbox 214.25, 15, 1358.5 x 1092, here cut to it
    nose, elbow = POSETRACK15.index["nose"], POSETRACK15.index["left_elbow"]
    assert person.keypoints[nose].tolist() == [621, 471, 1]
    assert person.keypoints[POSETRACK15.index["right_elbow"]].tolist() == [1023, 353, 1]
    assert person.keypoints[elbow].tolist() == [387, 981, 1]
    assert person.keypoints[POSETRACK15.index["left_wrist"]].tolist() == [0, 0, 0]
    assert person.box_xyxy.tolist() == [214.25, 15.0, 1572.75, 1080.0]
    assert person.head_box_xyxy is not None and person.head_box_xyxy.tolist() == [346, 337, 642, 574]
    merged = read_boxes(root / "annotations" / "test_posetrack18_human_detections.json", data, 0.0)
    assert sum(len(boxes) for boxes in merged.values()) <= 278 and len(merged) == 3


@pytest.mark.parametrize(
    "layout", ["posetrack_data/annotations/val", "annotations/val", "posetrack_data/val", "val"]
)
def test_layouts_are_found_by_looking(tiny: Path, tmp_path: Path, layout: str) -> None:
    target = tmp_path / layout
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(tiny / "annotations" / "val")
    (tmp_path / "images").symlink_to(tiny / "images")
    data = read_dataset(tmp_path, "val")
    assert len(data.videos) == 2 and data.videos[0].frames[0].path.is_file()
    assert "val" in list_splits(tmp_path)


def test_invisible_but_annotated_joints_are_labelled(tiny: Path, tmp_path: Path) -> None:
    def hide(content: dict) -> None:
        content["annotations"][0]["keypoints"][2] = 0  # the nose keeps its place

    person = read_dataset(edited(tiny, tmp_path, hide), "train").videos[0].frames[0].people[0]
    assert person.keypoints[0, 2] == 1 and not person.visible[0]
    assert person.visible[1:].all()


def test_boxes_are_cut_and_empty_ones_dropped(tiny: Path, tmp_path: Path) -> None:
    def move(content: dict) -> None:
        content["annotations"][0]["bbox"] = [-10, -10, 30, 40]
        content["annotations"][1]["bbox"] = [200, 10, 30, 40]

    people = read_dataset(edited(tiny, tmp_path, move), "train").videos[0].frames[0].people
    assert [person.box_xyxy.tolist() for person in people] == [[0, 0, 20, 30]]


def set_keypoint(value: object):
    def change(content: dict) -> None:
        content["annotations"][3]["keypoints"][4] = value

    return change


FAULTS = {
    "keypoints has 42 numbers": lambda c: c["annotations"][3].update(keypoints=[1.0] * 42),
    "holds NaN": set_keypoint(float("nan")),
    "not a number": set_keypoint("x"),
    "coordinates|pixels": set_keypoint(1e30),
    "is not among the images": lambda c: c["annotations"][3].update(image_id=5),
    "id .* is used twice": lambda c: c["images"][3].update(id=c["images"][2]["id"]),
    "track_id 0 is used twice": lambda c: c["annotations"][1].update(track_id=0),
    "file_name is missing": lambda c: c["images"][3].pop("file_name"),
    "bbox has 3 numbers": lambda c: c["annotations"][3].update(bbox=[1, 2, 3]),
    "no list 'images'": lambda c: c.pop("images"),
    "annolist": lambda c: c.update(annolist=[]),
    "ignore region": lambda c: c["images"][0].update(ignore_regions_x=[[1, 2]], ignore_regions_y=[[1]]),
}


@pytest.mark.parametrize("message", FAULTS)
def test_faults_name_file_and_place(tiny: Path, tmp_path: Path, message: str) -> None:
    root = edited(tiny, tmp_path, FAULTS[message])
    with pytest.raises(InputError, match=message) as error:
        read_dataset(root, "train")
    assert "000001_mpii_test.json" in str(error.value) and "\n" not in str(error.value)


def test_missing_folders_say_where_was_looked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_dataset(tmp_path / "nowhere", "train")
    with pytest.raises(InputError, match="no annotations found; PoseTrack, for one, has annotations/SPLIT"):
        read_dataset(tmp_path, "train")
    make_posetrack(tmp_path, splits=("val",), videos=1, frames=1)
    with pytest.raises(InputError, match="looked in posetrack_data/annotations/train"):
        read_dataset(tmp_path, "train")
    with pytest.raises(InputError, match=r"layout .19. is unknown; known: auto, jhmdb, .*posetrack18"):
        read_dataset(tmp_path, "train", "19")


def test_posetrack17_tells_the_same(tiny: Path, tmp_path: Path) -> None:
    def hide(content: dict) -> None:
        content["annotations"][0]["keypoints"][2] = 0
        content["annotations"][1]["keypoints"][:3] = [0, 0, 0]
        content["images"][0] |= {"ignore_regions_x": [[1, 9, 9]], "ignore_regions_y": [[2, 2, 8]]}

    new = edited(tiny, tmp_path / "18", hide)
    old = edited(tiny, tmp_path / "17", lambda content: None)
    for root in (new, old):
        (root / "images").symlink_to(tiny / "images")
    file = "annotations/train/000001_mpii_test.json"
    (old / file).write_text(json.dumps(as_posetrack17(json.loads((new / file).read_text()))))
    one, two = read_dataset(new, "train").videos[0], read_dataset(old, "train").videos[0]
    assert len(one.frames) == len(two.frames) and one.name == two.name
    for a, b in zip(one.frames, two.frames, strict=True):
        assert (a.path.name, a.size, a.is_labeled) == (b.path.name, b.size, b.is_labeled)
        assert [r.tolist() for r in a.ignore_regions] == [r.tolist() for r in b.ignore_regions]
        for p, q in zip(a.people, b.people, strict=True):
            np.testing.assert_array_equal(p.keypoints, q.keypoints)
            np.testing.assert_array_equal(p.visible, q.visible)
            np.testing.assert_allclose(p.head_box_xyxy, q.head_box_xyxy)
            assert p.track_id == q.track_id
            # the box, which the layout lacks: 1.3 times the joints' extent, cut to the picture
            points = p.keypoints[p.keypoints[:, 2] > 0, :2].astype(float)
            low, high = points.min(axis=0), points.max(axis=0)
            wanted = [*(low - 0.15 * (high - low)), *(high + 0.15 * (high - low))]
            np.testing.assert_allclose(q.box_xyxy, np.clip(wanted, 0, [96, 64, 96, 64]), atol=1.01)
    assert not check_dataset(old).problems


def test_detected_boxes(tiny: Path, tmp_path: Path) -> None:
    data = read_dataset(tiny, "val")
    name = data.videos[0].frames[0].file_name
    entries = [
        {"image_name": name, "bbox": [90, 10, 30, 20], "score": 0.9},
        {"image_name": "elsewhere/" + "/".join(name.split("/")[-2:]), "bbox": [0, 0, 5, 5], "score": 0.5},
        {"image_name": name, "bbox": [0, 0, 5, 5], "score": 0.1},
        {"image_name": name, "bbox": [0, 0, 5, 5], "score": 0.9, "category_id": 3},
        {"image_name": "unknown/000000.jpg", "bbox": [0, 0, 5, 5], "score": 0.9},
    ]
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(entries))
    found = read_boxes(file, data, 0.2)[data.videos[0].frames[0].image_id]
    assert [score for _, score in found] == [0.9, 0.5]
    assert np.array_equal(found[0][0], [90, 10, 96, 30])
    file.write_text(json.dumps([{"image_name": "unknown/0.jpg", "bbox": [0, 0, 5, 5], "score": 0.9}]))
    with pytest.raises(InputError, match="none of its 1 boxes"):
        read_boxes(file, data)


def test_check_lists_every_fault(tiny: Path, tmp_path: Path) -> None:
    def break_it(content: dict) -> None:
        annotations, images = content["annotations"], content["images"]
        annotations[2]["keypoints"] = [1.0] * 42
        annotations[5]["keypoints"][1] = float("nan")
        annotations[5]["bbox"] = [1, 2, 3]
        annotations[7]["track_id"] = annotations[6]["track_id"]
        annotations[1]["image_id"] = 5
        annotations[4]["id"] = annotations[3]["id"]
        images[2]["id"] = images[0]["id"]

    report = check_dataset(edited(tiny, tmp_path, break_it))
    wanted = (
        "images[2]: id",
        "42 numbers",
        "NaN",
        "bbox has 3",
        "track_id",
        "image_id 5 is not",
        "is used twice",
    )
    for words in wanted:
        assert any(words in problem for problem in report.problems), words
    file = str(tmp_path / "annotations" / "train" / "000001_mpii_test.json")
    assert all(problem.startswith(file) and "\n" not in problem for problem in report.problems)
    assert f"{len(report.problems)} problems" in str(report)


def test_check_of_a_whole_data_set(tiny: Path) -> None:
    whole = check_dataset(tiny)
    assert not whole.problems and whole.splits["train"].people == 16
    json.dumps(whole.to_dict(), allow_nan=False)
    assert "nothing wrong" in str(whole)


def test_check_tells_what_would_be_left_out(tiny: Path, tmp_path: Path) -> None:
    def odd(content: dict) -> None:
        content["annotations"][0]["bbox"] = [200, 10, 30, 40]
        content["annotations"][1]["bbox"] = [10, 10, 0, 40]
        content["images"][2]["is_labeled"] = False

    report = check_dataset(edited(tiny, tmp_path, odd))
    for words in ("lies outside the 96x64 picture", "bbox is empty", "2 people are annotated although"):
        assert sum(words in problem for problem in report.problems) == 1, words


def test_check_looks_at_the_images(tiny: Path, tmp_path: Path) -> None:
    root = edited(tiny, tmp_path, lambda content: None)
    report = check_dataset(root)
    assert report.splits["train"].images_missing == 6 and "6 of 6 images are missing" in report.problems[0]
    shutil.copytree(tiny / "images", root / "images")
    images = sorted((root / "images" / "train" / "000001_mpii_test").glob("*.jpg"))
    assert not check_dataset(root).problems
    images[3].write_bytes(b"")
    cv2.imwrite(str(images[0]), np.zeros((32, 48, 3), dtype=np.uint8))
    empty, size = check_dataset(root).problems
    assert "1 of 6 images are empty" in empty and "is 48x32" in size and "says 96x64" in size
    images[0].write_bytes(b"not an image")
    assert any("cannot be decoded" in problem for problem in check_dataset(root).problems)


@pytest.mark.parametrize("text", ["{broken", "[]", "3", "", "{}", '{"images": 3}', '{"annolist": []}'])
def test_check_goes_on_after_a_broken_file(tiny: Path, tmp_path: Path, text: str) -> None:
    root = edited(tiny, tmp_path, lambda content: None)
    (root / "images").symlink_to(tiny / "images")
    (root / "annotations" / "train" / "000000_bad.json").write_text(text)
    report = check_dataset(root)
    assert len(report.problems) == 1 and "000000_bad.json" in report.problems[0]
    assert report.splits["train"].videos == 1
    with pytest.raises(InputError, match=r"000000_bad\.json"):
        describe_dataset(root)


def test_folders_without_annotations_are_told(tmp_path: Path) -> None:
    for run in (check_dataset, describe_dataset):
        with pytest.raises(InputError, match="no annotations found"):
            run(tmp_path)
        with pytest.raises(InputError, match="no such folder"):
            run(tmp_path / "nowhere")


def test_a_merged_file_is_a_split(tiny: Path, tmp_path: Path) -> None:
    parts = [json.loads(file.read_text()) for file in sorted((tiny / "annotations" / "val").glob("*.json"))]
    merged = {key: [entry for part in parts for entry in part[key]] for key in ("images", "annotations")}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "val.json").write_text(json.dumps(merged))
    (tmp_path / "images").symlink_to(tiny / "images")
    report = check_dataset(tmp_path)
    assert not report.problems and report.splits["val"].videos == 2


json_values = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.floats(), st.text(max_size=5),
    st.lists(st.integers(-5, 5), max_size=3), st.just([[1, 2]]), st.just({}),
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), json_values)
def test_no_annotation_file_gives_a_traceback(tiny: Path, tmp_path: Path, draw: st.DataObject, value) -> None:
    def spoil(content: dict) -> None:
        place: dict | list = content
        while True:  # any value at any depth
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw.draw(st.sampled_from(keys))
            inner = place[key]
            if not isinstance(inner, (dict, list)) or not inner or draw.draw(st.booleans()):
                place[key] = value
                return
            place = inner

    def spoil_17(content: dict) -> None:
        old = as_posetrack17(content)
        content.clear()
        content |= old
        spoil(content)

    root = edited(tiny, tmp_path, draw.draw(st.sampled_from([spoil, spoil_17])))
    for run in (check_dataset, describe_dataset, lambda folder: read_dataset(folder, "train")):
        try:
            run(root)
        except InputError as error:
            assert "\n" not in str(error)


def test_description_counts(tiny: Path) -> None:
    description = describe_dataset(tiny)
    assert description.splits["val"].labeled_joints == 2 * 4 * 2 * 15
    assert description.image_sizes["val"] == {"64x96": 2}
    assert description.joints["val"]["nose"] == 16
    json.dumps(description.to_dict(), allow_nan=False)
