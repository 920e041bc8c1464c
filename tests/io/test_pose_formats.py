"""Result files: nothing lost on the way, layouts that official tools read, errors that name the entry."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vidpose.errors import InputError, MissingExtraError
from vidpose.io.formats import FORMATS, format_suffix, load_poses, save_poses, to_supervision
from vidpose.results import FramePoses, VideoPoses
from vidpose.skeletons import COCO17, POSETRACK15, POSETRACK17, POSETRACK18, convert_keypoints

LOSSLESS = ("posetrack18", "posetrack17", "csv", "parquet")
POSITION = st.floats(-500, 5000, width=32)
SCORE = st.floats(0, 1, width=32)


@st.composite
def frames(draw, index, joints=15):
    people = draw(st.integers(0, 3))
    keypoints = draw(hnp.arrays(np.float32, (people, joints, 2), elements=POSITION))
    scores = draw(hnp.arrays(np.float32, (people, joints), elements=SCORE))
    keypoints[scores == 0] = 0  # a joint that is not there
    corners = draw(hnp.arrays(np.float32, (people, 2, 2), elements=POSITION))
    return FramePoses(
        index=index,
        time=draw(st.floats(0, 1e5)),
        keypoints=keypoints,
        scores=scores,
        boxes=np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1),
        box_scores=draw(hnp.arrays(np.float32, people, elements=SCORE)),
        track_ids=draw(st.permutations(range(9)))[:people],
        file_name=draw(
            st.sampled_from([None, f"images/val/000123_mpii_test/{index:06d}.jpg", f"f{index}.png"])
        ),
    )


@st.composite
def videos(draw):
    indices = sorted(draw(st.sets(st.integers(0, 30_000), max_size=4)))
    return VideoPoses(
        [draw(frames(index)) for index in indices],
        source="clips/walk.mp4",
        width=draw(st.integers(1, 4000)),
        height=draw(st.integers(1, 4000)),
        fps=draw(st.none() | st.floats(1, 240)),
        info={"model": "tdmi", "flip_test": True, "skipped": 3, "size": [384, 288]},
    )


def assert_same_frames(a: VideoPoses, b: VideoPoses) -> None:
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert (one.index, one.time, one.file_name) == (other.index, other.time, other.file_name)
        for name in ("keypoints", "scores", "box_scores", "track_ids"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name
        assert np.allclose(one.boxes, other.boxes, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("format", LOSSLESS)
@settings(max_examples=25, deadline=None)
@given(video=videos())
def test_every_frame_and_number_survives(tmp_path_factory, format, video):
    path = tmp_path_factory.mktemp("poses") / f"a{format_suffix(format)}"
    save_poses(video, path, format)
    back = load_poses(path)
    assert_same_frames(video, back)
    assert back.skeleton == POSETRACK15
    if format != "csv":
        for name in ("source", "width", "height", "fps", "info"):
            assert getattr(video, name) == getattr(back, name), name


def one_person(skeleton=POSETRACK15, seed=0, **fields) -> VideoPoses:
    rng = np.random.default_rng(seed)
    joints = skeleton.num_joints
    frame = FramePoses(
        0,
        0.0,
        rng.uniform(0, 99, (1, joints, 2)),
        rng.uniform(0.1, 1, (1, joints)),
        [[5, 6, 80, 90]],
        [0.75],
        [7],
    )
    nobody = FramePoses(1, 0.04, np.zeros((0, joints, 2)), np.zeros((0, joints)))
    return VideoPoses([frame, nobody], skeleton, "walk.mp4", 100, 120, 25.0, **fields)


def test_posetrack18_layout(tmp_path):
    video = one_person()
    video.save(tmp_path / "a.json")
    data = json.loads((tmp_path / "a.json").read_text())
    assert [image["file_name"] for image in data["images"]] == ["walk/000000.jpg", "walk/000001.jpg"]
    assert {(image["width"], image["height"], image["nframes"]) for image in data["images"]} == {
        (100, 120, 2)
    }
    (person,) = data["annotations"]
    assert person["image_id"] == data["images"][0]["id"] and person["track_id"] == 7
    assert person["bbox"] == [5, 6, 75, 84]
    assert len(person["keypoints"]) == 51 and len(person["scores"]) == 17
    keypoints = np.reshape(person["keypoints"], (17, 3))
    (category,) = data["categories"]
    assert category["keypoints"] == list(POSETRACK18.joints)
    ears = [category["keypoints"].index(name) for name in ("left_ear", "right_ear")]
    assert np.all(keypoints[ears] == 0) and np.all(np.array(person["scores"])[ears] == 0)
    for j, name in enumerate(POSETRACK15.joints):
        assert np.allclose(keypoints[POSETRACK18.index[name], :2], video.frames[0].keypoints[0, j])
    limbs = {frozenset(category["keypoints"][i - 1] for i in limb) for limb in category["skeleton"]}
    assert frozenset(("left_knee", "left_ankle")) in limbs and frozenset(("nose", "head_top")) in limbs


def test_posetrack_images_get_the_data_sets_ids(tmp_path):
    video = one_person()
    for i, frame in enumerate(video.frames):
        frame.file_name = f"images/val/012834_mpii_test/{i + 40:06d}.jpg"
    video.save(tmp_path / "a.json")
    images = json.loads((tmp_path / "a.json").read_text())["images"]
    assert [image["id"] for image in images] == [10128340040, 10128340041]


def test_posetrack17_layout(tmp_path):
    video = one_person()
    save_poses(video, tmp_path / "a.json", "posetrack17")
    first, second = json.loads((tmp_path / "a.json").read_text())["annolist"]
    assert first["image"] == [{"name": "walk/000000.jpg"}] and second["annorect"] == []
    (rect,) = first["annorect"]
    assert rect["track_id"] == [7] and rect["score"] == [0.75]
    points = {p["id"][0]: (p["x"][0], p["y"][0]) for p in rect["annopoints"][0]["point"]}
    assert sorted(points) == list(range(15))
    for j, name in enumerate(POSETRACK15.joints):
        assert points[POSETRACK17.index[name]] == pytest.approx(tuple(video.frames[0].keypoints[0, j]))
    head = np.array([points[12], points[13], points[14]])
    corners = [rect[key][0] for key in ("x1", "y1", "x2", "y2")]
    assert corners == pytest.approx([*head.min(axis=0), *head.max(axis=0)])


def test_coco_layout_is_read_by_pycocotools(tmp_path, capsys):
    coco_api = pytest.importorskip("pycocotools.coco")
    video = one_person()
    save_poses(video, tmp_path / "a.json", "coco")
    coco = coco_api.COCO(str(tmp_path / "a.json"))
    capsys.readouterr()
    assert len(coco.getImgIds()) == 2
    (person,) = coco.loadAnns(coco.getAnnIds(catIds=coco.getCatIds(["person"])))
    keypoints = np.reshape(person["keypoints"], (17, 3))
    joints = np.concatenate([video.frames[0].keypoints, video.frames[0].scores[..., None]], axis=-1)
    expected = convert_keypoints(joints, POSETRACK15, COCO17)[0]
    assert np.allclose(keypoints[:, :2], expected[:, :2]) and person["score"] == 0.75
    assert person["num_keypoints"] == 13 and set(keypoints[:, 2]) == {0, 2}


def test_coco_joints_survive_coco_and_posetrack18_layouts(tmp_path):
    video = one_person(COCO17)
    for format in ("coco", "posetrack18"):
        save_poses(video, tmp_path / "a.json", format)
        back = load_poses(tmp_path / "a.json")
        assert back.skeleton == COCO17
        assert_same_frames(video, back)


def test_csv_has_one_row_for_each_joint_and_one_for_an_empty_frame(tmp_path):
    video = one_person()
    save_poses(video, tmp_path / "a.csv")
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert len(rows) == 16
    assert rows[0]["joint"] == "nose" and float(rows[0]["x"]) == video.frames[0].keypoints[0, 0, 0]
    assert (rows[0]["frame"], rows[0]["track_id"], float(rows[0]["x2"])) == ("0", "7", 80)
    assert rows[15]["frame"] == "1" and rows[15]["time_s"] == "0.04" and rows[15]["joint"] == ""


def test_numbers_that_are_not_finite_never_reach_a_file(tmp_path):
    video = one_person(
        info={"loss": float("nan"), "path": Path("a/b"), "array": np.arange(3), "best": np.float32(2)}
    )
    frame = video.frames[0]
    frame.keypoints[0, 3], frame.scores[0, 4], frame.boxes[0, 2] = np.nan, np.inf, np.nan
    for format in FORMATS:
        path = tmp_path / f"{format}{format_suffix(format)}"
        save_poses(video, path, format)
        back = load_poses(path)
        for name in ("keypoints", "scores", "boxes"):
            assert np.isfinite(getattr(back.frames[0], name)).all()
    back = load_poses(tmp_path / "posetrack18.json")
    assert back.info == {"loss": None, "path": "a/b", "array": [0, 1, 2], "best": 2.0}
    assert np.all(back.frames[0].keypoints[0, 3:5] == 0)


def test_real_annotations(shared_dir):
    if shared_dir is None:
        pytest.skip("no real annotations here")
    folder = shared_dir / "fixtures" / "posetrack18" / "annotations"
    video = load_poses(folder / "val" / "012834_mpii_test.json")
    assert (len(video), len(video.frames[0]), video.frames[0].index) == (1, 11, 0)
    assert video.frames[0].keypoints.shape == (11, 15, 2) and set(np.unique(video.frames[0].scores)) == {0, 1}
    with pytest.raises(InputError, match="holds 3 videos"):
        load_poses(folder / "test_posetrack18_val.json")


@pytest.mark.parametrize(("layout", "format"), [("pt18_a", "posetrack18"), ("pt17_a", "posetrack17")])
def test_reference_predictions_keep_their_points(shared_dir, tmp_path, layout, format):
    """Points and scores of somebody else's prediction file, read by its own layout, before and after."""
    if shared_dir is None:
        pytest.skip("no reference predictions here")
    source = shared_dir / "fixtures" / "poseval" / layout / "pred" / "000001_mpii_test.json"
    save_poses(load_poses(source), tmp_path / "a.json", format)

    def points(path):
        data = json.loads(path.read_text())
        if format == "posetrack18":
            names = {image["id"]: image["file_name"] for image in data["images"]}
            rows = []
            for a in data["annotations"]:
                keypoints = np.reshape(a["keypoints"], (17, 3))
                # A score without a joint means nothing.
                scores = np.array(a["scores"]) * keypoints.any(axis=1)
                rows.append((names[a["image_id"]], a["track_id"], [*keypoints.ravel(), *scores]))
            return rows
        return [
            (
                image["image"][0]["name"],
                rect["track_id"],
                p["id"],
                [p["x"], p["y"], p["score"]],
            )
            for image in data["annolist"]
            for rect in image["annorect"]
            for p in rect["annopoints"][0]["point"]
        ]

    before, after = points(source), points(tmp_path / "a.json")
    assert len(before) > 40
    assert [row[:-1] for row in before] == [row[:-1] for row in after]
    assert np.allclose([np.ravel(row[-1]) for row in before], [np.ravel(row[-1]) for row in after], atol=2e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["annotations"][0].update(keypoints=[1.0] * 42),
            r"annotations\[0\]: keypoints has 42 numbers",
        ),
        (lambda d: d["annotations"][0].update(scores=[1.0]), r"annotations\[0\]: scores has 1 numbers, 17"),
        (lambda d: d["annotations"][0].update(image_id=5), r"annotations\[0\]: image_id 5 is not among"),
        (lambda d: d["annotations"][0].update(keypoints=["x"] * 51), r"annotations\[0\].*not a number"),
        (lambda d: d["annotations"][0].update(track_id="a"), r"annotations\[0\]: track_id 'a'"),
        (lambda d: d["images"][1].update(id=d["images"][0]["id"]), r"images\[1\]"),
        (lambda d: d["images"][1].update(vid_id="000007"), "holds 2 videos"),
        (lambda d: d.update(categories=[]), "names no keypoints"),
        (lambda d: d.update(annotations="none"), "'annotations' is not a list"),
        (lambda d: d.pop("images"), "holds no poses"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, change, message):
    one_person().save(tmp_path / "a.json")
    data = json.loads((tmp_path / "a.json").read_text())
    change(data)
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=message):
        VideoPoses.load(tmp_path / "a.json")


def test_wrong_tables_and_formats_are_refused(tmp_path):
    video = one_person()
    with pytest.raises(InputError, match="unknown format 'xml'"):
        save_poses(video, tmp_path / "a", "xml")
    save_poses(video, tmp_path / "a.csv")
    lines = (tmp_path / "a.csv").read_text().splitlines()
    for text, message in (
        ("\n".join(lines[:5]), "4 joints are not those of a person"),
        ("\n".join([*lines, *lines[1:3]]), "not 15 joints"),
        ("\n".join([*lines[:3], lines[3].replace("left", "l").replace(",", ";")]), r"a\.csv:4"),
        ("\n".join(["frame,x", "0,1"]), "no column 'time_s'"),
        (
            "\n".join([lines[0], lines[1].replace("0,0.0,7", "zero,0.0,7")]),
            r"a\.csv:2",
        ),
    ):
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(InputError, match=message):
            load_poses(tmp_path / "a.csv")
    (tmp_path / "a.parquet").write_bytes(b"no")
    with pytest.raises(InputError, match="not a Parquet file"):
        load_poses(tmp_path / "a.parquet")


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"vidpose\[parquet\]"):
        save_poses(one_person(), tmp_path / "a.parquet")


def test_supervision_draws_and_carries_the_people():
    supervision = pytest.importorskip("supervision")
    video = one_person()
    video.frames[0].scores[0, 2] = 0
    points = video.to_supervision(0)
    with pytest.raises(InputError, match="no frame 9"):
        video.to_supervision(9)
    assert len(points) == 1
    assert np.array_equal(points.data["track_id"], [7]) and np.array_equal(
        points.data["xyxy"], [[5, 6, 80, 90]]
    )
    assert np.all(points.xy[0, 2] == 0) and np.allclose(points.xy[0, 0], video.frames[0].keypoints[0, 0])
    canvas = np.zeros((120, 100, 3), np.uint8)
    assert supervision.VertexAnnotator(radius=2).annotate(canvas.copy(), points).any()
    assert len(to_supervision(video.frames[1])) == 0
