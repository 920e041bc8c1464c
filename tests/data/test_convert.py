"""Conversion: every pair of formats there and back, files of other tools, and what is refused."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from label_samples import CVAT, MOT_GT, STUDIO, STUDIO_VIDEO, coco_file, datasets, write_images, write_mot

import tiny_datasets
from tiny_posetrack import make_posetrack
from vidpose.data.convert import FORMATS, convert, write_labels
from vidpose.data.dataset import PoseDataset
from vidpose.data.layouts.fields import HOLDS, NATIVE
from vidpose.data.layouts.recognise import read_labels
from vidpose.data.layouts.shared import side
from vidpose.errors import InputError
from vidpose.results import FramePoses, VideoPoses
from vidpose.skeletons import COCO17, POSETRACK15

PAIRS = [(a, b) for a in FORMATS for b in FORMATS if a != b]
SIZELESS = {"posetrack17", "deeplabcut"}
"""They do not tell the pictures' sizes, which Label Studio needs."""
COLUMNS = {"deeplabcut", "sleap"}
"""A track has its columns there, so people come back in the order of their tracks."""
PHASES = [Phase.explicit, Phase.generate]
_EARS = {"left_ear", "right_ear"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_posetrack(tmp_path_factory.mktemp("pt"), splits=("val",), unlabeled=(1, 4))


# --- there and back ----------------------------------------------------------------------------------------


def only(source: Path) -> PoseDataset:
    (data,) = read_labels(source).splits
    return data


def common_joints(one: PoseDataset, two: PoseDataset, formats: tuple[str, ...]) -> list[str]:
    names = set(one.skeleton.joints) & set(two.skeleton.joints)
    for name in formats:
        names &= set(NATIVE[name].joints) if name in NATIVE else names
        names -= _EARS if name.startswith("posetrack") else set()
    return sorted(names)


def shown(data: PoseDataset, formats: tuple[str, ...], joints: list[str]) -> list[Any]:
    """What all of the formats know, as plain values; numbers as arrays."""
    known = frozenset.intersection(*(HOLDS[name] for name in formats))
    out: list[Any] = []
    for video in sorted(data.videos, key=lambda video: video.name):
        out.append(("video", video.name, len(video.frames)))
        out.append({"fps": video.fps if "fps" in known else None})
        for frame in video.frames:
            row: dict[str, Any] = {"index": frame.index}
            for key in known & {"file_name", "image_id", "size", "is_labeled", "ignore_regions"}:
                row[key] = getattr(frame, key)
            out.append(row)
            in_order = sorted(frame.people, key=lambda person: person.track_id)
            for person in in_order if COLUMNS & set(formats) else frame.people:
                if person.is_crowd and "is_crowd" not in known:
                    continue
                if not person.box_is_given and "mot" in formats:
                    continue
                order = [data.skeleton.index[name] for name in joints]
                if "box" not in known and not person.keypoints[order, 2].any():
                    continue
                out.append(known_of(person, data, joints, known))
    return out


def known_of(person: Any, data: PoseDataset, joints: list[str], known: frozenset[str]) -> dict[str, Any]:
    row = {"track_id": person.track_id, "crowd": person.is_crowd}
    if "score" in known:
        row["score"] = person.score
    if "box" in known:
        row["box"] = person.box_xyxy if person.box_is_given else None
    for key in known & {"person_id", "head_box_xyxy"}:
        row[key] = getattr(person, key)
    if "head_box" in known:
        row["head"] = person.head_box_xyxy
    if "keypoints" in known:
        order = [data.skeleton.index[name] for name in joints]
        row["joints"] = person.keypoints[order]
        if "visible" in known:
            row["visible"] = person.visible[order].tolist()
        labelled = person.keypoints[order, 2] > 0
        if person.joint_scores is not None:
            row["joint_scores"] = np.where(labelled, person.joint_scores[order], 0)
        else:
            row["joint_scores"] = np.zeros(len(order))
    return row


def assert_same(one: PoseDataset, two: PoseDataset, formats: tuple[str, ...], tolerance: float) -> None:
    joints = common_joints(one, two, formats)
    a, b = shown(one, formats, joints), shown(two, formats, joints)
    assert len(a) == len(b), (a, b)
    for one, two in zip(a, b, strict=True):
        if not isinstance(one, dict):
            assert one == two
            continue
        assert one.keys() == two.keys()
        for key in one:
            x, y = one[key], two[key]
            if key in ("fps", "person_id") and x is None:
                continue  # a format on the way demanded one
            if isinstance(x, list):
                assert len(x) == len(y)
                for part, other in zip(x, y, strict=True):
                    np.testing.assert_allclose(part, other, rtol=0, atol=tolerance, err_msg=key)
            elif isinstance(x, np.ndarray):
                np.testing.assert_allclose(x, y, rtol=0, atol=tolerance, err_msg=key)
            else:
                assert x == y, key


@pytest.mark.parametrize(("a", "b"), PAIRS, ids=lambda name: name)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(data=datasets())
def test_there_and_back(a: str, b: str, data: PoseDataset) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_labels([data], root / "a", a)
        if "labelstudio" in (a, b) and {a, b} & SIZELESS:
            write_images(data, root)
        convert(root / "a", root / "b", b)
        convert(root / "b", root / "back", a)
        first, last = only(root / "a"), only(root / "back")
        assert read_labels(root / "b").format == b
        # Sums of x and width may round; percents of Label Studio do.
        tolerance = 1e-6 if "labelstudio" in (a, b) else 1e-9
        assert_same(first, last, (a, b), tolerance)


@pytest.mark.parametrize("target", FORMATS)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(data=datasets())
def test_what_is_written_is_read(target: str, data: PoseDataset) -> None:
    with tempfile.TemporaryDirectory() as folder:
        written, _ = write_labels([data], Path(folder) / "out", target)
        read = only(Path(folder) / "out")
        tolerance = 1e-6 if target == "labelstudio" else 1e-9
        assert_same(written[0], read, (target,), tolerance)


@settings(max_examples=100, deadline=None)
@given(st.integers(-(10**7), 10**7), st.integers(0, 10**7), st.integers(0, 4))
def test_sides_of_decimal_boxes_bring_the_corner_back(start: int, length: int, digits: int) -> None:
    low, high = start / 10**digits, (start + length) / 10**digits
    assert abs(low + side(low, high) - high) <= np.spacing(abs(low) + abs(high))


def test_real_files_there_and_back(shared_dir: Path | None, tiny: Path, tmp_path: Path) -> None:
    source = tiny if shared_dir is None else shared_dir / "fixtures" / "posetrack18"
    original = only(source)
    for target in FORMATS:
        convert(source, tmp_path / target, target)
        convert(tmp_path / target, tmp_path / f"{target}_back", "posetrack18")
        back, formats = only(tmp_path / f"{target}_back"), ("posetrack18", target)
        tolerance = 1e-6 if target == "labelstudio" else 0
        assert_same(original, back, formats, tolerance)


def test_posetrack_family_is_equal_as_json(shared_dir: Path | None, tiny: Path, tmp_path: Path) -> None:
    source = tiny if shared_dir is None else shared_dir / "fixtures" / "posetrack18"
    convert(source, tmp_path / "21", "posetrack21")
    convert(tmp_path / "21", tmp_path / "18", "posetrack18")
    for file in sorted((source / "annotations" / "val").glob("*.json")):
        back = json.loads((tmp_path / "18" / "annotations" / "val" / file.name).read_text())
        for key, entries in json.loads(file.read_text()).items():
            if key in ("images", "annotations"):
                for entry, other in zip(entries, back[key], strict=True):
                    assert entry == {k: other.get(k, []) for k in entry}  # no regions: [] or nothing


def test_layout_of_posetrack_files(tiny: Path, tmp_path: Path) -> None:
    convert(tiny, tmp_path / "21", "posetrack21")
    document = json.loads((tmp_path / "21/annotations/val/000001_mpii_test.json").read_text())
    image, person = document["images"][1], document["annotations"][0]
    assert image["id"] == image["frame_id"] and str(image["id"])[0] == "1" and len(str(image["id"])) == 11
    assert image["vid_id"] == str(image["id"])[1:7] and image["nframes"] == 6
    assert image["is_labeled"] is image["has_labeled_person"] is False
    assert image["ignore_regions_x"] == image["ignore_regions_y"] == [] and "person_id" in person
    assert len(person["keypoints"]) == 51 and person["keypoints"][9:15] == [0] * 6
    convert(tiny, tmp_path / "17", "posetrack17")
    frame = json.loads((tmp_path / "17/annotations/val/000001_mpii_test.json").read_text())["annolist"][0]
    assert frame["imgnum"] == [1] and frame["is_labeled"] == [1]
    rect = frame["annorect"][0]
    assert all(len(rect[key]) == 1 for key in ("x1", "y1", "x2", "y2", "track_id"))
    point = next(p for p in rect["annopoints"][0]["point"] if p["id"] == [13])  # the nose
    assert person["keypoints"][:2] == [point["x"][0], point["y"][0]]


# --- files of other tools ----------------------------------------------------------------------------------


def test_cvat_with_keyframes_only(tmp_path: Path) -> None:
    file = tmp_path / "annotations.xml"
    file.write_text(CVAT)
    (video,) = only(file).videos
    assert video.name == "street" and len(video.frames) == 8 and video.frames[0].size == (480, 640)
    assert [len(frame.people) for frame in video.frames] == [0, 1, 1, 1, 1, 1, 1, 1]
    person = video.frames[2].people[0]
    skeleton = only(file).skeleton
    shoulder, elbow = skeleton.index["left_shoulder"], skeleton.index["left_elbow"]
    assert person.box_xyxy.tolist() == [12, 20, 52, 102] and person.track_id == 0
    assert person.keypoints[shoulder].tolist() == [22, 30, 1] and person.visible[shoulder]
    assert person.keypoints[elbow].tolist() == [24, 50, 1] and not person.visible[elbow]
    later = video.frames[5].people[0]
    assert later.keypoints[shoulder].tolist() == [24, 30, 1] and not later.keypoints[elbow].any()
    # The second person's only keyframe stays to the end.
    assert (
        video.frames[7].people[0].box_xyxy.tolist() == [0, 0, 5, 6]
        and video.frames[7].people[0].track_id == 2
    )


def test_label_studio_image_tasks(tmp_path: Path) -> None:
    file = tmp_path / "export.json"
    file.write_text(json.dumps(STUDIO))
    data = only(file)
    first, second = (video.frames[0] for video in data.videos)
    assert first.file_name == "street/0001.jpg" and first.size == (100, 200) and first.is_labeled
    assert second.file_name == "a b/0002.png" and not second.is_labeled
    (person,) = first.people
    assert person.box_xyxy.tolist() == [20, 20, 80, 60] and data.skeleton == COCO17
    assert person.keypoints[COCO17.index["nose"]].tolist() == [25, 25, 1]
    assert person.keypoints[COCO17.index["left_eye"]].tolist() == [180, 90, 1]


def test_label_studio_video_tasks(tmp_path: Path) -> None:
    file = tmp_path / "export.json"
    file.write_text(json.dumps(STUDIO_VIDEO))
    (video,) = only(file).videos
    shown_on = [frame.index + 1 for frame in video.frames if frame.people]
    assert shown_on == [1, 2, 3, 4, 5, 11, 12]
    np.testing.assert_allclose(video.frames[2].people[0].box_xyxy, [78, 43.5, 160, 65.5])


def test_mot_sequence(tmp_path: Path) -> None:
    labels = read_labels(write_mot(tmp_path / "MOT16-02"))
    (video,) = labels.splits[0].videos
    assert (video.name, video.fps, len(video.frames), video.frames[0].size) == (
        "MOT16-02",
        30,
        4,
        (1080, 1920),
    )
    (person,) = video.frames[0].people
    assert person.box_xyxy.tolist() == [911, 483, 1008, 592] and person.track_id == 1 and not person.is_crowd
    assert [p.is_crowd for p in video.frames[1].people] == [False, True]  # flag 0: not to be counted
    assert [p.is_crowd for p in video.frames[2].people] == [True]
    assert len(labels.remarks) == 1 and "1 boxes of class 3" in labels.remarks[0]
    assert video.frames[0].path == tmp_path / "MOT16-02" / "img1" / "000001.jpg"


def test_mot_lines_come_back(tmp_path: Path) -> None:
    convert(write_mot(tmp_path / "MOT16-02"), tmp_path / "18", "posetrack18")
    convert(tmp_path / "18", tmp_path / "mot", "mot")
    lines = (tmp_path / "mot/train/MOT16-02/gt/gt.txt").read_text().splitlines()
    assert lines[:2] == MOT_GT.splitlines()[:2]


def test_coco_file(tmp_path: Path) -> None:
    file = tmp_path / "person_keypoints_val2017.json"
    file.write_text(json.dumps(coco_file()))
    data = only(file)
    assert [video.name for video in data.videos] == ["000000000139", "000000000285"] and data.split == "val"
    person, crowd = data.videos[0].frames[0].people
    assert person.keypoints[:3].tolist() == [[10, 20.5, 1], [12, 18, 1], [0, 0, 0]] and crowd.is_crowd
    assert person.visible[:3].tolist() == [True, False, False]
    convert(file, tmp_path / "again.json", "coco")
    again = json.loads((tmp_path / "again.json").read_text())
    for key in ("images", "annotations"):
        for entry, other in zip(coco_file()[key], again[key], strict=True):
            assert entry == {name: other[name] for name in entry}


@pytest.mark.parametrize("format", ["posetrack18", "posetrack17", "coco", "csv"])
def test_results_of_estimate(format: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [
        FramePoses(
            index=i,
            time=i / 25,
            keypoints=rng.uniform(0, 300, (n, 15, 2)),
            scores=rng.uniform(0.1, 1, (n, 15)),
            boxes=np.sort(rng.uniform(0, 300, (n, 2, 2)), axis=1).reshape(n, 4),
            box_scores=rng.uniform(0.1, 1, n),
            track_ids=np.arange(n),
        )
        for i, n in enumerate([2, 0, 1])
    ]
    suffix = ".csv" if format == "csv" else ".json"
    poses = VideoPoses(frames, POSETRACK15, source="clip.mp4", width=320, height=240, fps=25)
    poses.save(tmp_path / f"clip{suffix}", format=format)
    (video,) = only(tmp_path / f"clip{suffix}").videos
    assert [len(frame.people) for frame in video.frames] == [2, 0, 1]
    person = video.frames[0].people[1]
    skeleton = only(tmp_path / f"clip{suffix}").skeleton
    wrist = skeleton.index["left_wrist"]
    ours = POSETRACK15.index["left_wrist"]
    np.testing.assert_allclose(person.keypoints[wrist, :2], frames[0].keypoints[1, ours], atol=1e-4)
    np.testing.assert_allclose(person.joint_scores[wrist], frames[0].scores[1, ours], atol=1e-6)
    assert person.visible[wrist] and person.score == pytest.approx(float(frames[0].box_scores[1]))
    convert(tmp_path / f"clip{suffix}", tmp_path / "out", "mot")
    assert len((tmp_path / "out/train").joinpath(video.name, "det/det.txt").read_text().splitlines()) == 3


def test_our_table_is_read_as_poses(tiny: Path, tmp_path: Path) -> None:
    source = tiny / "annotations" / "val" / "000001_mpii_test.json"
    convert(source, tmp_path / "labels.csv", "csv")
    poses = VideoPoses.load(tmp_path / "labels.csv")
    assert [len(frame) for frame in poses.frames] == [2, 0, 2, 2, 0, 2]


@pytest.mark.parametrize("name", ["hieve", "jhmdb", "lsp", "coco", "posetrack17_mat"])
def test_other_data_sets_go_to_cvat(name: str, tmp_path: Path) -> None:
    getattr(tiny_datasets, f"make_{name}")(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "out", "cvat")
    before, after = (read_labels(tmp_path / folder).splits for folder in ("in", "out"))
    for one in before:
        two = next(data for data in after if data.split == one.split)
        people = [sum(len(frame.people) for _, frame in data.frames()) for data in (one, two)]
        joints = [
            sum(float(p.keypoints.sum()) for _, f in data.frames() for p in f.people) for data in (one, two)
        ]
        assert people[0] == people[1] > 0 and joints[0] == pytest.approx(joints[1])


# --- what is lost and made ---------------------------------------------------------------------------------


def test_lost_joints_are_counted_once(tmp_path: Path) -> None:
    content = coco_file()
    content["annotations"][0]["keypoints"][9:15] = [5, 6, 2, 7, 8, 2]  # ears
    (tmp_path / "coco.json").write_text(json.dumps(content))
    report = convert(tmp_path / "coco.json", tmp_path / "18", "posetrack18")
    assert report.dropped == {"eyes": 1, "ears": 2}
    assert str(report).count("dropped: 2 ears") == 1


def test_approximate_head_joints_are_told(tmp_path: Path) -> None:
    content = coco_file()
    nose, left, right = (COCO17.index[name] for name in ("nose", "left_shoulder", "right_shoulder"))
    keypoints = content["annotations"][0]["keypoints"]
    for j, (x, y) in {nose: (10, 10), left: (16, 40), right: (4, 40)}.items():
        keypoints[3 * j : 3 * j + 3] = [x, y, 2]
    (tmp_path / "coco.json").write_text(json.dumps(content))
    report = convert(tmp_path / "coco.json", tmp_path / "18", "posetrack18", approximate=True)
    assert report.made["head_bottom joints approximated"] == report.made["head_top joints approximated"] == 1
    data = only(tmp_path / "18")
    person = data.videos[0].frames[0].people[0]
    np.testing.assert_allclose(person.keypoints[data.skeleton.index["head_bottom"]], [10, 30, 1])
    plain = convert(tmp_path / "coco.json", tmp_path / "plain", "posetrack18")
    assert not any("approximated" in name for name in plain.made)


def test_mot_tells_that_joints_are_lost(tiny: Path, tmp_path: Path) -> None:
    report = convert(tiny, tmp_path / "mot", "mot")
    assert report.dropped["joints"] == 2 * 4 * 2 * 15 and report.dropped["head boxes"] == 16


# --- images and files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["copy", "link"])
@pytest.mark.parametrize("target", ["coco", "mot"])
def test_images_go_along(tiny: Path, tmp_path: Path, how: str, target: str) -> None:
    convert(tiny, tmp_path / "out", target, images=how)
    for (_, frame), (_, other) in zip(only(tiny).frames(), only(tmp_path / "out").frames(), strict=True):
        assert other.path.is_relative_to(tmp_path / "out") and other.path.is_symlink() == (how == "link")
        assert other.path.read_bytes() == frame.path.read_bytes()


def test_a_missing_image_leaves_nothing(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny / "annotations", tmp_path / "pt" / "annotations")
    with pytest.raises(InputError, match="no such image; --images keep"):
        convert(tmp_path / "pt", tmp_path / "out", "coco", images="copy")
    assert [entry.name for entry in tmp_path.iterdir()] == ["pt"]


def test_sizes_come_from_the_images(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "pt")
    for file in (tmp_path / "pt" / "annotations" / "val").glob("*.json"):
        content = json.loads(file.read_text())
        for image in content["images"]:
            del image["height"], image["width"]
        file.write_text(json.dumps(content))
    convert(tmp_path / "pt", tmp_path / "ls", "labelstudio")
    assert only(tmp_path / "ls").videos[0].frames[0].size == (64, 96)
    shutil.rmtree(tmp_path / "pt" / "images")
    with pytest.raises(InputError, match="the picture's size is needed"):
        convert(tmp_path / "pt", tmp_path / "none", "labelstudio")


def test_single_images_of_one_name_do_not_collide(tmp_path: Path) -> None:
    content = coco_file()
    for folder, image in zip("ab", content["images"], strict=True):
        image["file_name"] = f"{folder}/../../0001.jpg"
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "0001.jpg"), np.zeros((8, 8, 3), dtype=np.uint8))
    (tmp_path / "in" / "coco.json").write_text(json.dumps(content))
    report = convert(tmp_path / "in" / "coco.json", tmp_path / "out" / "deep", "posetrack18")
    files = list((tmp_path / "out" / "deep" / "annotations" / "train").glob("*.json"))
    assert len(files) == 2 and report.videos == 2
