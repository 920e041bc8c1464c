"""Data sets in their own layouts: what is read is what was written, whatever the folders are called."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from tiny_datasets import (
    MAKERS,
    make_coco,
    make_hieve,
    make_jhmdb,
    make_lsp,
    make_posetrack17_json,
    make_posetrack17_mat,
    make_posetrack18,
    make_posetrack21,
    write_annolist,
)
from vidpose.data.check import check_dataset
from vidpose.data.dataset import PoseDataset
from vidpose.data.faults import Faults
from vidpose.data.frames import read_frame
from vidpose.data.layouts import LAYOUTS, find_layout
from vidpose.data.layouts.disk import image_size
from vidpose.data.readers import list_splits, read_dataset, read_whole
from vidpose.errors import InputError
from vidpose.skeletons import COCO17, HIEVE14, LSP14, POSETRACK15


@pytest.fixture(scope="module", params=MAKERS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    name = request.param
    return name, MAKERS[name][0](tmp_path_factory.mktemp(name) / "data")


def labelled(data: PoseDataset) -> list[tuple]:
    """Everything of the people, to compare."""
    return [
        (frame.index, p.track_id, p.keypoints.tolist(), p.visible.tolist(), np.round(p.box_xyxy, 6).tolist())
        for _, frame in data.frames()
        for p in frame.people
    ]


def test_the_layout_is_found_and_nothing_is_wrong(made: tuple[str, Path]) -> None:
    name, root = made
    _, layout, train_split, val_split = MAKERS[name]
    whole, found = read_whole(root, val_split)
    assert found.name == layout == whole.layout
    assert {train_split, val_split} <= set(list_splits(root))
    report = check_dataset(root)
    assert not report.problems and report.layout == LAYOUTS[layout].title
    assert report.splits[val_split].images_missing == 0


def test_joints_lie_on_the_dots_of_the_pictures(made: tuple[str, Path]) -> None:
    """The dot of a shoulder, brighter than the dark background, is under the shoulder that was read."""
    name, root = made
    data = read_dataset(root, MAKERS[name][3])
    joint = data.skeleton.index["left_shoulder"]
    checked = 0
    for _, frame in data.frames():
        if not frame.is_labeled:
            continue
        picture = read_frame(frame)
        assert picture.shape[:2] == frame.size
        for person in frame.people:
            x, y = person.keypoints[joint, :2].round().astype(int)
            assert picture[y, x].max() > 150
            checked += 1
    assert checked >= 8


def test_the_mat_files_tell_what_the_json_files_tell(tmp_path: Path) -> None:
    one, two = make_posetrack17_json(tmp_path / "json"), make_posetrack17_mat(tmp_path / "mat")
    assert labelled(read_dataset(one, "train")) == labelled(read_dataset(two, "train"))


def test_a_mat_file_of_lone_people_regions_and_gaps(tmp_path: Path) -> None:
    root = make_posetrack17_json(tmp_path)
    file = min((root / "annotations" / "val").glob("*.json"))
    content = json.loads(file.read_text())
    frames = content["annolist"]
    frames[0]["annorect"] = frames[0]["annorect"][:1]
    frames[1]["annorect"] = []
    frames[2]["annorect"][0]["annopoints"] = []
    frames[3]["ignore_regions"] = [{"point": [{"x": [v], "y": [2 * v]} for v in (1, 5, 9)]}]
    frames[3]["is_labeled"] = [0]
    file.write_text(json.dumps(content))
    wanted = read_whole(root, "val")[0]
    write_annolist(content, file.with_suffix(".mat"))
    file.unlink()
    found = read_whole(root, "val")[0]
    assert labelled(found) == labelled(wanted)
    one, two = ([frame for _, frame in data.frames()] for data in (wanted, found))
    assert [frame.is_labeled for frame in one] == [frame.is_labeled for frame in two]
    assert [r.tolist() for r in two[3].ignore_regions] == [[[1, 2], [5, 10], [9, 18]]]


@pytest.mark.parametrize("content", [b"", b"not MATLAB", None])
def test_a_file_that_is_no_annolist_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    root = make_posetrack17_mat(tmp_path)
    file = min((root / "annotations" / "val").glob("*.mat"))
    if content is None:
        savemat(str(file), {"other": np.ones(3)})
    else:
        file.write_bytes(content)
    with pytest.raises(InputError, match=file.name) as error:
        read_dataset(root, "val")
    assert "\n" not in str(error.value)
    assert sum(file.name in problem for problem in check_dataset(root).problems) == 1


# --- images wherever they are ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "folder", ["images", "posetrack_data/images", "frames", "PoseTrack18/all_frames", "data/images_renamed"]
)
def test_images_are_found_whatever_the_folder_is_called(tmp_path: Path, folder: str) -> None:
    root = make_posetrack18(tmp_path / "data")
    shutil.move(root / "images", root / "elsewhere")
    (root / folder).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(root / "elsewhere", root / folder)
    report = check_dataset(root)
    assert not report.problems
    if folder == "frames":
        assert any(str(root / "frames" / "train") in line for line in report.assumed)
        assert "note: " in str(report)


def test_images_of_another_kind_are_found(tmp_path: Path) -> None:
    root = make_posetrack18(tmp_path)
    for path in list((root / "images").glob("*/*/*.jpg")):
        cv2.imwrite(str(path.with_suffix(".png")), cv2.imread(str(path)))
        path.unlink()
    report = check_dataset(root)
    assert not report.problems and any("another suffix" in line for line in report.assumed)


def test_frames_that_were_renamed_are_found_in_order(tmp_path: Path) -> None:
    root = make_posetrack18(tmp_path)
    before = {str(f.path): f.path.read_bytes() for _, f in read_dataset(root, "val").frames()}
    for folder in (root / "images" / "val").iterdir():
        for f, path in enumerate(sorted(folder.iterdir(), reverse=True)):
            path.rename(path.with_name(f"{4 - f:08d}.jpg"))
    shutil.move(root / "images", root / "images_renamed")
    frames = [frame for _, frame in read_dataset(root, "val").frames()]
    assert [f.path.name for f in frames[:4]] == [f"{n:08d}.jpg" for n in (1, 2, 3, 4)]
    assert [f.path.read_bytes() for f in frames] == list(before.values())
    assert any("renamed" in line for line in check_dataset(root).assumed)


def test_cropped_copies_are_left_out(tmp_path: Path) -> None:
    root = make_posetrack17_json(tmp_path)
    file = min((root / "annotations" / "val").glob("*.json"))
    content = json.loads(file.read_text())
    name = content["annolist"][1]["image"][0]["name"]
    copy = name.replace(".jpg", "_crop.jpg")
    shutil.copy(root / name, root / copy)
    content["annolist"].insert(
        2, {"image": [{"name": copy}], "imgnum": [9], "is_labeled": [0], "annorect": []}
    )
    file.write_text(json.dumps(content))
    video = read_dataset(root, "val").videos[0]
    assert [frame.file_name for frame in video.frames].count(copy) == 0 and len(video.frames) == 4
    assert any("*_crop.*" in line for line in check_dataset(root).assumed)


def test_image_sizes_are_read_from_headers(tmp_path: Path) -> None:
    picture = np.zeros((31, 57, 3), dtype=np.uint8)
    for suffix in (".jpg", ".png", ".bmp"):
        cv2.imwrite(str(tmp_path / f"a{suffix}"), picture)
        assert image_size(tmp_path / f"a{suffix}") == (31, 57)
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8nothing")
    assert image_size(tmp_path / "b.jpg") == image_size(tmp_path / "none.jpg") == (0, 0)


# --- what each data set says ------------------------------------------------------------------------------


def test_posetrack21_keeps_people_across_videos(tmp_path: Path) -> None:
    data = read_dataset(make_posetrack21(tmp_path), "val")
    assert data.layout == "posetrack21"
    assert {person.person_id for _, f in data.frames() for person in f.people} == {100, 101}
    assert all(frame.extra["has_labeled_person"] for _, frame in data.frames())


def test_coco_flags_crowds_and_areas(tmp_path: Path) -> None:
    root = make_coco(tmp_path)
    whole, _ = read_whole(root, "val2017")
    first = whole.videos[0].frames[0]
    person, crowd = first.people[0], first.people[-1]
    assert person.keypoints[:, 2].tolist() == [1] * 4 + [0] + [1] * 12
    assert person.visible.tolist() == [True] * 3 + [False] * 2 + [True] * 12
    assert person.extra["area"] == pytest.approx(0.6 * 30 * 48) and crowd.is_crowd
    assert [p.track_id for p in first.people[:2]] == [0, 1]
    used = read_dataset(root, "val2017")
    assert used.skeleton == COCO17 and len(used.videos[0].frames[0].people) == 2


def test_any_file_in_cocos_style(tmp_path: Path) -> None:
    """Joints in another order and with other spelling, things beside people, images/ as their folder."""
    root = make_coco(tmp_path)
    file = root / "annotations" / "person_keypoints_val2017.json"
    content = json.loads(file.read_text())
    wanted = labelled(read_dataset(root, "val2017"))
    order = list(reversed(range(17)))
    category = content["categories"][0]
    category["keypoints"] = [COCO17.joints[k].replace("_", " ").title() for k in order]
    content["categories"].append({"id": 2, "name": "dog"})
    for annotation in content["annotations"]:
        triples = np.array(annotation["keypoints"]).reshape(17, 3)
        annotation["keypoints"] = triples[order].reshape(-1).tolist()
    content["annotations"].insert(0, {"id": 1, "image_id": 1000, "category_id": 2, "bbox": [1, 1, 5, 5]})
    category["keypoints"][0] = "right_ankle"
    for old in (root / "annotations").iterdir():
        old.unlink()
    (root / "annotations" / "mine.json").write_text(json.dumps(content).replace("Left Eye", "left_eye"))
    shutil.move(root / "val2017", root / "images")
    assert list_splits(root) == ["mine"] and find_layout(root).name == "coco"
    assert labelled(read_dataset(root, "mine")) == wanted
    assert not check_dataset(root).problems


def test_hieve_flags_gaps_and_videos(tmp_path: Path) -> None:
    data = read_dataset(make_hieve(tmp_path), "train")
    video = data.videos[0]
    assert [frame.video_frame for frame in video.frames] == [0, 1, 2, 3]
    assert [frame.is_labeled for frame in video.frames] == [True, True, False, True]
    assert video.frames[0].path.name == "1.mp4" and video.frames[3].image_id == 1_000_003
    person = video.frames[0].people[0]
    elbow, wrist = HIEVE14.index["right_elbow"], HIEVE14.index["right_wrist"]
    assert (person.keypoints[elbow, 2], person.visible[elbow], person.keypoints[wrist].any()) == (
        1,
        False,
        False,
    )
    assert person.track_id == 1 and person.extra["action"] == "walking-alone" and person.box_is_given


def test_hieve_as_xml_says_the_same(tmp_path: Path) -> None:
    root = make_hieve(tmp_path)
    wanted = labelled(read_dataset(root, "val"))

    def xml(tag: str, value: object) -> str:
        if isinstance(value, list):
            return "".join(xml(tag, entry) for entry in value)
        inner = "".join(xml(k, v) for k, v in value.items()) if isinstance(value, dict) else str(value)
        return f"<{tag}>{inner}</{tag}>"

    for file in (root / "labels" / "val").glob("*/*.xml"):
        file.write_text(xml("annotation", json.loads(file.read_text())["annotation"]))
    assert labelled(read_dataset(root, "val")) == wanted


def test_jhmdb_boxes_are_those_of_the_masks(tmp_path: Path) -> None:
    root = make_jhmdb(tmp_path)
    masked, plain = (
        read_whole(root, split)[0].videos[0].frames[0].people[0] for split in ("train1", "test1")
    )
    mask = loadmat(str(next(root.glob("puppet_mask/*/*/puppet_mask.mat"))))["part_mask"][..., 0]
    rows, columns = mask.nonzero()
    box = [columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5]
    assert masked.box_is_given and masked.box_xyxy.tolist() == box
    assert not plain.box_is_given and plain.keypoints[:, 2].all()


def test_jhmdb_divisions_by_their_lists(tmp_path: Path) -> None:
    root = make_jhmdb(tmp_path)
    names = [video.name for video in read_dataset(root, "test1").videos]
    assert names == ["clap_1_u_nm_np1_ba_goo_0", "jump_1_u_nm_np1_ba_goo_0"]
    (root / "sub_splits").mkdir()
    (root / "sub_splits" / "clap_test_split2.txt").write_text("clap_0_u_nm_np1_ba_goo_0.avi 2\n")
    assert list_splits(root) == ["train1", "test1", "sub_train2", "sub_test2"]
    assert len(read_dataset(root, "sub_test2").videos) == 1
    lists = root / "splits" / "clap_test_split1.txt"
    lists.write_text(lists.read_text() + "gone.avi 1\nodd line here\n")
    problems = check_dataset(root).problems
    assert any(f"{lists}:3" in problem and "gone" in problem for problem in problems)
    assert any(f"{lists}:4" in problem for problem in problems)
    shutil.rmtree(root / "splits")
    shutil.rmtree(root / "sub_splits")
    assert list_splits(root) == ["all"] and len(read_dataset(root, "all").videos) == 4


def test_lsp_flags_mean_hidden_and_the_extended_sets_mean_labelled(tmp_path: Path) -> None:
    plain = read_dataset(make_lsp(tmp_path / "plain"), "test").videos[0].frames[0].people[0]
    assert plain.keypoints[:, 2].all() and plain.visible.tolist() == [False] + [True] * 13
    root = MAKERS["lsp_extended"][0](tmp_path / "extended")
    extended = read_dataset(root, "train").videos[0].frames[0].people[0]
    assert extended.keypoints[0].tolist() == [0, 0, 0] and extended.keypoints[1:, 2].all()
    assert list_splits(tmp_path) == ["train", "test", "extended"]
    assert read_dataset(tmp_path, "extended").skeleton == LSP14


def test_lsp_with_numbers_that_are_none(tmp_path: Path) -> None:
    root = make_lsp(tmp_path)
    joints = loadmat(str(root / "joints.mat"))["joints"]
    joints[0, 3, 2] = np.nan
    savemat(str(root / "joints.mat"), {"joints": joints})
    with pytest.raises(InputError, match=r"joints\.mat: image im0003\.jpg: the joints holds NaN"):
        read_dataset(root, "train")
    savemat(str(root / "joints.mat"), {"joints": joints[:, :13]})
    with pytest.raises(InputError, match="is 3x13x16, 3x14xN or 14x3xN is needed"):
        read_dataset(root, "train")


def test_reading_together_is_reading_one_by_one(tmp_path: Path) -> None:
    """One odd entry makes a file's annotations be read one by one; the others come out the same."""
    root = make_posetrack18(tmp_path)
    wanted = labelled(read_dataset(root, "val"))
    for file in (root / "annotations" / "val").glob("*.json"):
        content = json.loads(file.read_text())
        for annotation in content["annotations"]:
            annotation["score"] = 0.5
        file.write_text(json.dumps(content))
    assert labelled(read_dataset(root, "val")) == wanted
    assert read_dataset(root, "val").skeleton == POSETRACK15


def test_people_without_a_track_id_get_free_ones(tmp_path: Path) -> None:
    root = make_posetrack18(tmp_path)
    file = min((root / "annotations" / "val").glob("*.json"))
    content = json.loads(file.read_text())
    first = [a for a in content["annotations"] if a["image_id"] == content["images"][0]["id"]]
    del first[0]["track_id"]
    first[1]["track_id"] = 0
    file.write_text(json.dumps(content))
    people = read_dataset(root, "val").videos[0].frames[0].people
    assert [person.track_id for person in people] == [1, 0]


def test_a_named_layout_must_be_there(tmp_path: Path) -> None:
    root = make_posetrack18(tmp_path)
    for name in ("coco", "hieve", "jhmdb", "lsp"):
        with pytest.raises(InputError, match=f"no annotations of {LAYOUTS[name].title} found"):
            read_dataset(root, "val", name)
    with pytest.raises(InputError, match="there are train2017, val2017"):
        read_dataset(make_coco(tmp_path / "coco"), "val", "coco")
    assert Faults().strict
