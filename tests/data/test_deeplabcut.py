"""DeepLabCut's CSV: files as DeepLabCut writes them, what is written, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tiny_posetrack import make_posetrack
from vidpose.data.convert import convert, write_labels
from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.faults import Faults
from vidpose.data.layouts import deeplabcut
from vidpose.data.layouts.recognise import read_labels
from vidpose.data.layouts.shared import made_box
from vidpose.errors import InputError
from vidpose.io.video import VideoWriter
from vidpose.skeletons import COCO17, Skeleton

SINGLE = """scorer,Ann,Ann,Ann,Ann
bodyparts,snout,snout,Tail Base,Tail Base
coords,x,y,x,y
labeled-data/m4s1/img0000.png,21.521,265.428,,
labeled-data/m4s1/img0007.png,,,,
labeled-data/m4s1/img0012.png,10,288.487,95.821,-3
"""
SEVERAL = """scorer,,,Ann,Ann,Ann,Ann,Ann,Ann
individuals,,,mouse1,mouse1,mouse2,mouse2,single,single
bodyparts,,,nose,nose,nose,nose,corner,corner
coords,,,x,y,x,y,x,y
labeled-data,pair,img01.png,1,2,3,4,5,6
labeled-data,pair,img02.png,,,7,8,5,6
"""
PREDICTED = """scorer,DLC_net,DLC_net,DLC_net
bodyparts,nose,nose,nose
coords,x,y,likelihood
0,1.5,2.5,0.75
1,,,
2,3.5,4.5,0.25
"""


def project(root: Path) -> Path:
    """Two videos, of one animal and of two."""
    for name, text in (("m4s1", SINGLE), ("pair", SEVERAL)):
        folder = root / "labeled-data" / name
        folder.mkdir(parents=True)
        (folder / "CollectedData_Ann.csv").write_text(text)
    return root


def film(path: Path, count: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, 25, (48, 64)) as writer:
        for _ in range(count):
            writer.write(np.zeros((48, 64, 3), dtype=np.uint8))
    return path


def only(source: Path, *, skeleton: Skeleton | None = None) -> PoseDataset:
    labels = read_labels(source)
    assert labels.format == "deeplabcut"
    (data,) = labels.splits
    assert skeleton is None or data.skeleton == skeleton
    return data


def points(person: Person) -> list[list[float]]:
    return person.keypoints.tolist()


# --- reading -----------------------------------------------------------------------------------------------


def test_labels_of_one_animal(tmp_path: Path) -> None:
    (tmp_path / "CollectedData_Ann.csv").write_text(SINGLE)
    data = only(tmp_path / "CollectedData_Ann.csv")
    (video,) = data.videos
    assert data.skeleton.joints == ("snout", "tail_base") and video.name == "m4s1"
    assert [frame.file_name for frame in video.frames] == [
        f"labeled-data/m4s1/img{n}.png" for n in ("0000", "0007", "0012")
    ]
    assert [frame.is_labeled for frame in video.frames] == [True, False, True]
    (first,), (last,) = video.frames[0].people, video.frames[2].people
    assert points(first) == [[21.521, 265.428, 1], [0, 0, 0]] and first.track_id == 0
    assert points(last) == [[10, 288.487, 1], [95.821, -3, 1]]
    assert first.joint_scores is None and not first.box_is_given


def test_labels_of_several_animals(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(SEVERAL)
    labels = read_labels(tmp_path / "a.csv")
    (video,) = labels.splits[0].videos
    assert video.name == "pair" and video.frames[1].file_name == "labeled-data/pair/img02.png"
    assert [[p.track_id for p in frame.people] for frame in video.frames] == [[1, 2], [2]]
    assert labels.splits[0].skeleton.joints[0] == "nose"
    assert points(video.frames[0].people[1])[0] == [3, 4, 1]
    (remark,) = labels.remarks
    assert "a.csv:2: corner of 'single'" in remark and "are left out" in remark


def test_windows_paths(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(SINGLE.replace("labeled-data/m4s1/", "labeled-data\\m4s1\\"))
    (video,) = only(tmp_path / "a.csv").videos
    assert video.name == "m4s1" and video.frames[0].file_name == "labeled-data/m4s1/img0000.png"


def test_predictions_belong_to_the_video_beside_them(tmp_path: Path) -> None:
    path = film(tmp_path / "videos" / "clip.mp4")
    (tmp_path / "videos" / "clipDLC_net.csv").write_text(PREDICTED)
    for source in (tmp_path / "videos" / "clipDLC_net.csv", tmp_path / "videos", tmp_path):
        (video,) = only(source).videos
        assert video.name == "clip" and [frame.video_frame for frame in video.frames] == [0, 1, 2]
        assert video.frames[0].path == path and video.frames[0].size == (48, 64)
        assert [frame.is_labeled for frame in video.frames] == [True, False, True]
        (person,) = video.frames[2].people
        assert points(person)[0] == [3.5, 4.5, 1] and person.joint_scores[0] == 0.25


def test_frames_of_predictions_are_in_order(tmp_path: Path) -> None:
    lines = PREDICTED.splitlines()
    (tmp_path / "a.csv").write_text("\n".join([*lines[:3], lines[5], lines[3]]))
    (video,) = only(tmp_path / "a.csv").videos
    assert [(frame.index, frame.video_frame) for frame in video.frames] == [(0, 0), (1, 2)]


def test_a_project_and_its_folders(tmp_path: Path) -> None:
    root = project(tmp_path / "project")
    for source, names in (
        (root, ["m4s1", "pair"]),
        (root / "labeled-data", ["m4s1", "pair"]),
        (root / "labeled-data" / "pair", ["pair"]),
    ):
        data = only(source)
        assert [video.name for video in data.videos] == names
        assert data.videos[-1].frames[0].path == root / "labeled-data" / "pair" / "img01.png"
    assert set(only(root).skeleton.joints) == {"snout", "tail_base", "nose"}


def test_labels_go_before_predictions(tmp_path: Path) -> None:
    root = project(tmp_path / "project")
    (root / "videos").mkdir()
    (root / "videos" / "m4s1DLC_net.csv").write_text(PREDICTED)
    labels = read_labels(root)
    assert len(labels.splits[0].videos) == 2
    assert any("1 files of predictions are left out" in remark for remark in labels.remarks)


def test_pandas_and_we_agree(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    columns = pandas.MultiIndex.from_product(
        [["DLC_x"], ["individual3", "individual1"], ["nose", "left_eye"], ["x", "y", "likelihood"]],
        names=["scorer", "individuals", "bodyparts", "coords"],
    )
    values = np.random.default_rng(0).uniform(0, 100, (5, 12))
    values[2, :6] = np.nan
    pandas.DataFrame(values, columns=columns).to_csv(tmp_path / "clipDLC_x.csv")
    (video,) = only(tmp_path / "clipDLC_x.csv", skeleton=COCO17).videos
    both = [3, 1]
    assert [[p.track_id for p in frame.people] for frame in video.frames] == [both, both, [1], both, both]
    person = video.frames[4].people[0]
    np.testing.assert_array_equal(person.keypoints[0], [*values[4, :2], 1])
    np.testing.assert_array_equal(person.joint_scores[:2], values[4, [2, 5]])
    labels = read_labels(tmp_path / "clipDLC_x.csv")
    write_labels(labels.splits, tmp_path / "again.csv", "deeplabcut")
    frame = pandas.read_csv(tmp_path / "again.csv", header=[0, 1, 2, 3], index_col=0)
    ours = frame["DLC_vidpose"]["individual1"]["left_eye"]
    np.testing.assert_array_equal(ours.to_numpy(), values[:, 9:])


# --- writing -----------------------------------------------------------------------------------------------


def person(track: int, *, scored: bool = False, **more: object) -> Person:
    keypoints = np.zeros((17, 3))
    keypoints[:2] = [[1.25 + track, 2, 1], [3, 4.5, 1]]
    scores = np.where(keypoints[:, 2] > 0, 0.5, 0.0) if scored else None
    return Person(
        keypoints, made_box(keypoints), None, track, keypoints[:, 2] > 0, box_is_given=False,
        joint_scores=scores, **more,
    )  # fmt: skip


def dataset(people: list[list[Person]], names: list[str] | None = None) -> PoseDataset:
    names = names or [f"street/{i}.png" for i in range(len(people))]
    frames = [
        Frame(Path(name), name, i, i, (0, 0), bool(mine), mine)
        for i, (name, mine) in enumerate(zip(names, people, strict=True))
    ]
    return PoseDataset([Video("street", frames, Path("x"))], COCO17, Path("."), "train", "random")


def test_one_track_is_written_as_one_animal(tmp_path: Path) -> None:
    write_labels([dataset([[person(0)], []])], tmp_path / "out.csv", "deeplabcut")
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "scorer", "bodyparts", "coords", "street/0.png", "street/1.png",
    ]  # fmt: skip
    assert lines[0].split(",")[1:] == ["vidpose"] * 34 and lines[2].startswith("coords,x,y,x,y,")
    assert lines[3].startswith("street/0.png,1.25,2,3,4.5,,,") and set(lines[4][12:]) == {","}


def test_scores_make_predictions(tmp_path: Path) -> None:
    write_labels([dataset([[person(0, scored=True), person(4)]])], tmp_path / "out", "deeplabcut")
    lines = (tmp_path / "out/train/videos/streetDLC_vidpose.csv").read_text().splitlines()
    assert lines[1].split(",")[1] == "individual0" and lines[1].split(",")[-1] == "individual4"
    assert lines[4].startswith("street/0.png,1.25,2,0.5,3,4.5,0.5,,,,")
    (video,) = only(tmp_path / "out").videos
    assert [p.joint_scores is None for p in video.frames[0].people] == [False, True]


def test_predictions_of_a_video_file_go_by_number(tmp_path: Path) -> None:
    film(tmp_path / "clip.mp4")
    (tmp_path / "clipDLC_net.csv").write_text(PREDICTED)
    convert(tmp_path / "clipDLC_net.csv", tmp_path / "out.csv", "deeplabcut")
    assert (tmp_path / "out.csv").read_text().splitlines()[3].startswith("0,1.5,2.5,0.75,")


def test_names_of_individuals_come_back(tmp_path: Path) -> None:
    root = project(tmp_path / "project")
    for middle in ("coco", "posetrack21", "sleap"):
        convert(root, tmp_path / middle, middle)
        convert(tmp_path / middle, tmp_path / f"{middle}_back", "deeplabcut")
        file = next((tmp_path / f"{middle}_back").glob("*/labeled-data/pair/*.csv"))
        header = file.read_text().splitlines()[1].split(",")
        assert list(dict.fromkeys(header[1:])) == ["mouse1", "mouse2"]


def test_what_it_cannot_hold_is_told(tmp_path: Path) -> None:
    root = make_posetrack(tmp_path / "pt", splits=("val",), videos=1)
    report = convert(root, tmp_path / "out", "deeplabcut")
    assert report.dropped["person boxes"] == report.dropped["head boxes"] == 12
    assert report.dropped["image ids"] == 6


def test_images_lie_where_deeplabcut_has_them(tmp_path: Path) -> None:
    root = make_posetrack(tmp_path / "pt", splits=("val",), videos=1)
    report = convert(root, tmp_path / "out", "deeplabcut", images="copy")
    video = "000001_mpii_test"
    folder = tmp_path / "out" / "val" / "labeled-data" / video
    assert sorted(file.name for file in folder.iterdir()) == [
        *(f"{i:06d}.jpg" for i in range(6)), "CollectedData_vidpose.csv",
    ]  # fmt: skip
    assert report.made["image names"] == 6
    (read,) = only(tmp_path / "out").videos
    assert read.name == video and all(frame.path.is_file() for frame in read.frames)
    assert read.frames[2].file_name == f"labeled-data/{video}/000002.jpg"


def test_splits_are_projects(tmp_path: Path) -> None:
    root = make_posetrack(tmp_path / "pt", videos=1, unlabeled=(1,))
    convert(root, tmp_path / "out", "deeplabcut")
    assert {data.split for data in read_labels(tmp_path / "out").splits} == {"train", "val"}


def test_one_file_of_several_videos(tmp_path: Path) -> None:
    root = make_posetrack(tmp_path / "pt", splits=("val",))
    report = convert(root, tmp_path / "out.csv", "deeplabcut")
    assert [v.name for v in only(tmp_path / "out.csv").videos] == ["000001_mpii_test", "000002_mpii_test"]
    assert "videos' bounds" not in report.dropped
    two = dataset([[person(0)], [person(1)]])
    (video,) = two.videos
    videos = [Video(f"v{i}", [frame], Path("x")) for i, frame in enumerate(video.frames)]
    two.videos = videos
    _, ledger = write_labels([two], tmp_path / "b.csv", "deeplabcut")
    assert ledger.dropped["videos' bounds"] == 2 and len(only(tmp_path / "b.csv").videos) == 1


def test_nobody_keeps_frames_and_joints(tmp_path: Path) -> None:
    write_labels([dataset([[], []])], tmp_path / "out.csv", "deeplabcut")
    data = only(tmp_path / "out.csv", skeleton=COCO17)
    assert [frame.is_labeled for frame in data.videos[0].frames] == [False, False]


def test_a_track_twice_in_a_frame_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"street: street/0.png: track_id 2 is used twice"):
        write_labels([dataset([[person(2), person(2)]])], tmp_path / "out", "deeplabcut")
    assert not list(tmp_path.iterdir())


# --- faults ------------------------------------------------------------------------------------------------

BROKEN = [
    (SINGLE.replace("265.428", "nan"), r"a\.csv:4: column 3: y is NaN or infinite"),
    (SINGLE.replace("265.428", "1e999"), r"a\.csv:4: column 3: y is NaN or infinite"),
    (SINGLE.replace("265.428", "ten"), r"a\.csv:4: column 3: y 'ten' is not a number"),
    (SINGLE.replace("265.428", "1e7"), r"a\.csv:4: column 3: y 1e\+07; pixels of at most"),
    (SINGLE.replace("265.428", ""), r"a\.csv:4: snout has only one of x and y"),
    (SINGLE.replace("img0007.png,,,,", "img0007.png,,,"), r"a\.csv:5: has 4 cells, the header has 5"),
    (SINGLE.replace("snout,snout,Tail Base,Tail Base", "snout,snout,Snout,Snout"),
     r"a\.csv:2: column 4: x of snout is there twice"),
    (SINGLE.replace("snout,snout", ",snout"), r"a\.csv:2: column 2: has no bodypart"),
    (SINGLE.replace("img0007", "img0000"), r"a\.csv:5: the image labeled-data/m4s1/img0000\.png is there"),
    (SINGLE.replace("labeled-data/m4s1/img0007.png", "somewhere"), r"a\.csv:5: 'somewhere' is not the path"),
    (SINGLE.replace("labeled-data/m4s1/img0007.png", "7"), r"a\.csv:5: '7' is not the path of an image"),
    (SINGLE.replace("coords,x,y,x,y", "coords,x,y,x,z"), r"a\.csv:3: column 5: the coordinate 'z' is none"),
    (SINGLE.replace("coords,x,y,x,y", "coords,x,y,x"), r"a\.csv:3: has 4 cells, the first row has 5"),
    (SINGLE.replace("bodyparts", "parts"), r"a\.csv:1: the header's rows are scorer, parts, coords; needed"),
    (SINGLE.replace("Ann,Ann,Ann,Ann", "Ann,Ann,Bob,Bob"), r"a\.csv:1: has the scorers Ann, Bob"),
    ("scorer\n", r"a\.csv:1: the header's rows are scorer; needed"),
    ("scorer\nbodyparts\ncoords\n", r"a\.csv:1: has no column"),
    (PREDICTED.replace("\n2,", "\n1,"), r"a\.csv:6: frame 1 is there twice"),
    (PREDICTED.replace("\n2,", "\n-2,"), r"a\.csv:6: frame -2: a video has 0 to 1,000,000 frames"),
    (PREDICTED.replace("\n2,", "\n2.5,"), r"a\.csv:6: frame '2.5' is not a whole number"),
    (PREDICTED.replace("\n2,", "\nb/2.png,"), r"a\.csv:6: frame 'b/2.png' is not a number"),
    (PREDICTED.replace("0.25", "inf"), r"a\.csv:6: column 4: likelihood is NaN or infinite"),
    (PREDICTED.replace("nose,nose,nose", "nose,nose,eye"), r"a\.csv:3: eye has no column x"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_broken_files_are_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        convert(tmp_path / "a.csv", tmp_path / "out", "coco")
    assert "\n" not in str(error.value) and [entry.name for entry in tmp_path.iterdir()] == ["a.csv"]


def test_every_fault_is_gathered_and_the_rest_is_read(tmp_path: Path) -> None:
    text = SINGLE.replace("265.428", "nan").replace("img0007.png,", "img0007.png")
    (tmp_path / "a.csv").write_text(text)
    faults = Faults(strict=False)
    data = deeplabcut.read_source(tmp_path / "a.csv", "train", faults)
    assert sorted(fault.line or 0 for fault in faults.found) == [4, 5]
    assert [len(frame.people) for frame in data.videos[0].frames] == [0, 1]


def test_two_scorers_in_a_folder(tmp_path: Path) -> None:
    root = project(tmp_path / "project")
    (root / "labeled-data" / "m4s1" / "CollectedData_Bob.csv").write_text(SINGLE)
    with pytest.raises(InputError, match=r"m4s1: has the labels of two scorers; name CollectedData_Ann\.csv"):
        read_labels(root)


def test_other_encodings(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(SINGLE.replace("snout", "museau é").encode("latin-1"))
    with pytest.raises(InputError, match=r"a\.csv: is not UTF-8 text"):
        read_labels(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_bytes(SINGLE.encode("utf-8-sig").replace(b"\n", b"\r\n"))
    assert len(only(tmp_path / "a.csv").videos[0].frames) == 3


def test_our_own_table_stays_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("frame,joint,x,y\n0,nose,1,2\n")
    assert read_labels(tmp_path / "a.csv").format == "csv"
    (tmp_path / "a.csv").write_text(SINGLE)
    assert read_labels(tmp_path / "a.csv").format == "deeplabcut"
