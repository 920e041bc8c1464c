"""SLEAP's analysis HDF5: files as SLEAP and sleap-io write them, what is written, and what is refused."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiny_posetrack import make_posetrack
from vidpose.data.convert import convert, write_labels
from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.faults import Faults
from vidpose.data.layouts import sleap
from vidpose.data.layouts.recognise import read_labels
from vidpose.data.layouts.shared import made_box
from vidpose.errors import InputError, MissingExtraError
from vidpose.io.video_writer import VideoWriter
from vidpose.skeletons import COCO17

h5py = pytest.importorskip("h5py")

FRAMES, TRACKS, NODES = 5, 2, 3
STANDARD, MATLAB = ("frame", "track", "node", "xy"), ("track", "xy", "node", "frame")


def arrays() -> dict[str, np.ndarray]:
    """By frame, track, node: the first track in all frames but the second, the other in the last."""
    rng = np.random.default_rng(0)
    points = np.full((FRAMES, TRACKS, NODES, 2), np.nan)
    points[[0, 2, 3, 4], 0] = rng.uniform(0, 60, (4, NODES, 2))
    points[4, 1] = rng.uniform(0, 60, (NODES, 2))
    points[3, 0, 1] = np.nan
    there = ~np.isnan(points[..., 0])
    occupied = there.any(axis=2)
    return {
        "tracks": points,
        "point_scores": np.where(there, rng.uniform(0.1, 1, there.shape), np.nan),
        "instance_scores": np.where(occupied, rng.uniform(0.1, 1, occupied.shape), np.nan),
        "tracking_scores": np.where(occupied, 0.0, np.nan),
        "track_occupancy": occupied.astype(np.uint8),
    }


def write(path: Path, order: tuple[str, ...] = MATLAB, *, dims: bool = False, **more: Any) -> Path:
    """A file with SLEAP's data sets; ``more`` replaces some, or leaves them out (``None``)."""
    data: dict[str, Any] = {
        "node_names": np.array([b"head", b"thorax", b"abdomen"]),
        "track_names": np.array([b"track_0", b"track_1"]),
        "edge_names": np.array([[b"head", b"thorax"], [b"thorax", b"abdomen"]]),
        "edge_inds": np.array([[0, 1], [1, 2]]),
        "video_path": "C:/lab/clip.mp4",
        "video_ind": 0,
        "labels_path": "C:/lab/labels.slp",
        "provenance": "{}",
    }
    noted = {}
    for name, values in arrays().items():
        mine = STANDARD[: values.ndim]
        axes = mine if name == "track_occupancy" and order == MATLAB else [a for a in order if a in mine]
        data[name] = values.transpose([mine.index(axis) for axis in axes])
        noted[name] = json.dumps(list(axes))
    with h5py.File(path, "w") as file:
        for name, values in {**data, **more}.items():
            if values is not None:
                file[name] = values
                if dims and name in noted:
                    file[name].attrs["dims"] = noted[name]
    return path


def only(source: Path) -> PoseDataset:
    labels = read_labels(source)
    assert labels.format == "sleap"
    (data,) = labels.splits
    return data


def check_content(data: PoseDataset) -> None:
    """All that :func:`write` put into a file."""
    wanted = arrays()
    (video,) = data.videos
    assert data.skeleton.joints == ("head", "thorax", "abdomen")
    assert data.skeleton.limb_names == (("head", "thorax"), ("thorax", "abdomen"))
    assert [frame.video_frame for frame in video.frames] == list(range(FRAMES))
    assert [frame.is_labeled for frame in video.frames] == [True, False, True, True, True]
    assert [[p.track_id for p in frame.people] for frame in video.frames] == [[0], [], [0], [0], [0, 1]]
    for f, frame in enumerate(video.frames):
        for person in frame.people:
            points = wanted["tracks"][f, person.track_id]
            labelled = ~np.isnan(points[:, 0])
            assert person.keypoints[:, 2].tolist() == labelled.tolist()
            np.testing.assert_array_equal(person.keypoints[labelled, :2], points[labelled])
            scores = wanted["point_scores"][f, person.track_id]
            np.testing.assert_array_equal(person.joint_scores[labelled], scores[labelled])
            assert person.score == wanted["instance_scores"][f, person.track_id]
            assert person.extra == {"tracking_score": 0}


# --- reading -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [MATLAB, STANDARD, ("frame", "node", "xy", "track")], ids=",".join)
@pytest.mark.parametrize("dims", [False, True])
def test_orders_of_axes(order: tuple[str, ...], dims: bool, tmp_path: Path) -> None:
    check_content(only(write(tmp_path / "a.h5", order, dims=dims)))


def test_any_order_that_is_noted(tmp_path: Path) -> None:
    check_content(only(write(tmp_path / "a.h5", ("node", "xy", "frame", "track"), dims=True)))


@pytest.mark.parametrize("order", [MATLAB, STANDARD], ids=",".join)
def test_shapes_that_fit_two_orders(order: tuple[str, ...], tmp_path: Path) -> None:
    """Two frames, tracks and nodes: people are where the occupancy says."""
    points = np.full((2, 2, 2, 2), np.nan)
    points[0, 0], points[1, 0], points[1, 1] = [[1, 2], [3, 4]], [[5, 6], [7, 8]], [[9, 10], [11, 12]]
    write(
        tmp_path / "a.h5",
        tracks=points.transpose([STANDARD.index(axis) for axis in order]),
        track_occupancy=np.array([[1, 0], [1, 1]], dtype=np.uint8),
        node_names=np.array([b"head", b"tail"]),
        **dict.fromkeys(("point_scores", "instance_scores", "tracking_scores", "edge_inds")),
    )
    frames = only(tmp_path / "a.h5").videos[0].frames
    assert [[p.track_id for p in frame.people] for frame in frames] == [[0], [0, 1]]
    assert frames[1].people[0].keypoints.tolist() == [[5, 6, 1], [7, 8, 1]]


def test_old_files_with_tracks_and_names_only(tmp_path: Path) -> None:
    names = ("point_scores", "instance_scores", "tracking_scores", "edge_names", "edge_inds", "video_path")
    write(tmp_path / "labels.v001.analysis.h5", **dict.fromkeys(names))
    (video,) = only(tmp_path / "labels.v001.analysis.h5").videos
    assert video.name == "labels.v001" and len(video.frames) == FRAMES
    person = video.frames[0].people[0]
    assert person.joint_scores is None and person.score is None and person.extra == {}


def test_one_animal_without_tracks(tmp_path: Path) -> None:
    """SLEAP writes no names then, as an empty array of numbers."""
    one = {name: values[:, :1] for name, values in arrays().items()}
    matlab = {"tracks": (1, 3, 2, 0), "point_scores": (1, 2, 0), "track_occupancy": (0, 1)}
    moved = {name: values.transpose(matlab.get(name, (1, 0))) for name, values in one.items()}
    (video,) = only(write(tmp_path / "a.h5", track_names=np.zeros(0), **moved)).videos
    assert [[p.track_id for p in frame.people] for frame in video.frames] == [[0], [], [0], [0], [0]]


def test_the_video_is_found_beside_the_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", 25, (48, 64)) as writer:
        for _ in range(FRAMES):
            writer.write(np.zeros((48, 64, 3), dtype=np.uint8))
    (video,) = only(write(tmp_path / "a.h5", video_path=r"D:\lab\clip.mp4")).videos
    frame = video.frames[3]
    assert video.name == "clip" and frame.path == tmp_path / "clip.mp4" and frame.video_frame == 3
    assert frame.size == (48, 64) and frame.file_name == "clip/000003.jpg"


def test_names_of_tracks_and_nodes(tmp_path: Path) -> None:
    write(
        tmp_path / "a.h5",
        track_names=np.array([b"female", b"male"]),
        node_names=np.array([b"nose", b"Left Eye", b"right-eye"]),
    )
    data = only(tmp_path / "a.h5")
    person = data.videos[0].frames[4].people[1]
    assert data.skeleton == COCO17 and person.track_id == 1 and person.extra["track_name"] == "male"
    convert(tmp_path / "a.h5", tmp_path / "b.csv", "deeplabcut")
    convert(tmp_path / "b.csv", tmp_path / "c.h5", "sleap")
    with h5py.File(tmp_path / "c.h5") as file:
        assert file["track_names"][()].tolist() == [b"female", b"male"]


def test_a_folder_of_files_is_a_split(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    for name in ("a", "b"):
        write(tmp_path / "val" / f"{name}.analysis.h5", video_path=f"{name}.mp4")
    with h5py.File(tmp_path / "val" / "other.h5", "w") as file:
        file["x"] = 1
    data = only(tmp_path)
    assert data.split == "val" and [video.name for video in data.videos] == ["a", "b"]


# --- writing -----------------------------------------------------------------------------------------------


def test_a_file_as_sleap_would_write_it(tmp_path: Path) -> None:
    convert(write(tmp_path / "a.h5"), tmp_path / "out.h5", "sleap")
    with h5py.File(tmp_path / "a.h5") as one, h5py.File(tmp_path / "out.h5") as two:
        for name, dataset in one.items():
            if name not in ("labels_path", "provenance"):
                np.testing.assert_array_equal(two[name][()], dataset[()], err_msg=name)
                assert two[name].dtype.kind == dataset.dtype.kind, name
        assert json.loads(two["tracks"].attrs["dims"]) == list(MATLAB)
        assert two.attrs["preset"] == "matlab" and two.attrs["format"] == "analysis"
    check_content(only(tmp_path / "out.h5"))


def test_images_are_named_in_our_own_data_set(tmp_path: Path) -> None:
    root = make_posetrack(tmp_path / "pt", splits=("val",), videos=1, unlabeled=(1,))
    report = convert(root, tmp_path / "out", "sleap", images="copy")
    (before,), (after,) = read_labels(root).splits[0].videos, only(tmp_path / "out").videos
    assert after.name == before.name
    for one, two in zip(before.frames, after.frames, strict=True):
        assert (two.file_name, two.image_id, two.size) == (one.file_name, one.image_id, one.size)
        assert two.path.read_bytes() == one.path.read_bytes() and two.video_frame is None
    assert not {"image ids", "image names", "image sizes"} & set(report.dropped)
    assert report.dropped["person boxes"] == 10


def test_frames_of_a_film_keep_their_numbers(tmp_path: Path) -> None:
    keypoints = np.zeros((17, 3))
    keypoints[0] = [1, 2, 1]
    frames = [
        Frame(Path("clip.mp4"), f"clip/{n}.jpg", n, i, (48, 64), True, video_frame=n)
        for i, n in enumerate((3, 7))
    ]
    for frame in frames:
        frame.people = [
            Person(keypoints, made_box(keypoints), None, -4, keypoints[:, 2] > 0, box_is_given=False)
        ]
    data = PoseDataset([Video("clip", frames, Path("x"), fps=30.0)], COCO17, Path("."), "train", "random")
    write_labels([data], tmp_path / "out.h5", "sleap")
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["tracks"].shape == (1, 2, 17, 8) and file["video_path"][()] == b"clip.mp4"
        assert file["track_names"][()].tolist() == [b"track_-4"]
        assert np.flatnonzero(file["track_occupancy"][:, 0]).tolist() == [3, 7]
    (video,) = only(tmp_path / "out.h5").videos
    assert [(frame.index, frame.video_frame) for frame in video.frames] == [(0, 3), (1, 7)]
    assert video.fps == 30 and video.frames[1].people[0].track_id == -4


def test_nobody_is_written_and_read(tmp_path: Path) -> None:
    frames = [Frame(Path("a.png"), "a.png", 0, 0, (0, 0), False)]
    data = PoseDataset([Video("a", frames, Path("x"))], COCO17, Path("."), "train", "random")
    write_labels([data], tmp_path / "out.h5", "sleap")
    read = only(tmp_path / "out.h5")
    assert read.skeleton == COCO17 and len(read.videos[0].frames) == 1 and not read.videos[0].frames[0].people


def test_a_name_that_hdf5_does_not_take_is_one_line(tmp_path: Path) -> None:
    frames = [Frame(Path("a"), "a\0/b.png", 0, 0, (0, 0), False)]
    data = PoseDataset([Video("a", frames, Path("x"))], COCO17, Path("."), "train", "random")
    for out in ("out.h5", "out"):
        with pytest.raises(InputError, match="a: cannot be written as HDF5"):
            write_labels([data], tmp_path / out, "sleap")
    assert not list(tmp_path.iterdir())


def test_a_file_is_one_video(tmp_path: Path) -> None:
    root = make_posetrack(tmp_path / "pt", splits=("val",))
    with pytest.raises(InputError, match="a file of sleap is one video, here are 2"):
        convert(root, tmp_path / "out.h5", "sleap")
    assert not (tmp_path / "out.h5").exists()


# --- faults ------------------------------------------------------------------------------------------------


def changed(name: str, at: tuple[int, ...], value: float) -> dict[str, np.ndarray]:
    """One number of an array in MATLAB's order."""
    axes = {"tracks": (1, 3, 2, 0), "instance_scores": (1, 0)}[name]
    values = arrays()[name]
    values[at] = value
    return {name: values.transpose(axes)}


BROKEN: list[tuple[Callable[[], dict[str, Any]], str]] = [
    (lambda: changed("tracks", (2, 0, 1, 1), np.nan), "frame 2, track track_0: thorax has only one of x and"),
    (lambda: changed("tracks", (2, 0, 1, 1), np.inf), "frame 2, track track_0: thorax is at an infinite"),
    (lambda: changed("tracks", (2, 0, 1, 1), 1e7), "frame 2, track track_0: thorax is at .* pixels of at m"),
    (lambda: changed("instance_scores", (2, 0), np.inf), "instance_scores holds an infinite number"),
    (lambda: {"node_names": np.array([b"a", b"b"])}, "tracks has the shape .* does not fit 2 node_names"),
    (lambda: {"node_names": np.array([b"a", b"A", b"b"])}, "node_names: a is there twice"),
    (lambda: {"node_names": np.array([b"a", b"\xff", b"b"])}, "node_names is not UTF-8 text"),
    (lambda: {"track_names": np.array([b"a"])}, "track_names has 1 names, tracks has 2 tracks"),
    (lambda: {"track_occupancy": np.zeros((4, 2))}, "does not fit .* a track_occupancy of"),
    (lambda: {"track_occupancy": np.zeros(4)}, "track_occupancy has 1 axes, 2 are needed"),
    (lambda: {"tracks": np.zeros((5, 2, 3))}, "tracks has 3 axes, 4 are needed"),
    (lambda: {"tracks": np.full((2, 2, 3, 5), b"x")}, "tracks holds something that is not a number"),
    (lambda: {"tracks": None}, "is HDF5, but not SLEAP's analysis export: it has no tracks"),
    (lambda: {"point_scores": np.zeros((2, 3, 4))}, "point_scores has the shape .* does not fit"),
    (lambda: {"point_scores": np.zeros(4)}, "point_scores needs 3 axes: track, node, frame"),
    (lambda: {"tracks": np.zeros((2, 2, 3, 0)), "track_occupancy": np.zeros((0, 2))}, None),
    (lambda: {"vidpose": "{"}, "vidpose is not valid JSON"),
    (lambda: {"vidpose": "[]"}, "vidpose does not tell the video's name and its 5 frames"),
    (lambda: {"vidpose": json.dumps({"name": "a", "frames": [None] * 5})}, "frame 0, track track_0: vidpose"),
    (lambda: {"vidpose": json.dumps({"name": "a", "frames": [["b", 0.5, 0, 0]] * 5})}, "0.5 is not a whole"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_broken_files_are_one_line(
    change: Callable[[], dict[str, Any]], message: str | None, tmp_path: Path
) -> None:
    write(tmp_path / "a.h5", **change())
    with pytest.raises(InputError, match=rf"a\.h5: .*{message or ''}") as error:
        convert(tmp_path / "a.h5", tmp_path / "out", "coco")
    assert "\n" not in str(error.value) and [entry.name for entry in tmp_path.iterdir()] == ["a.h5"]


def test_dims_that_make_no_sense(tmp_path: Path) -> None:
    write(tmp_path / "a.h5")
    for dims in ('["frame", "track"]', "{", "[1, 2, 3, 4]"):
        with h5py.File(tmp_path / "a.h5", "a") as file:
            file["tracks"].attrs["dims"] = dims
        with pytest.raises(InputError, match=r"a\.h5: tracks: dims is"):
            read_labels(tmp_path / "a.h5")


def test_files_that_are_not_hdf5_or_are_cut_off(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.h5").read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:100]):
        (tmp_path / "a.h5").write_bytes(content)
        with pytest.raises(InputError, match=r"a\.h5: (is not an HDF5|cannot be read as HDF5)") as error:
            read_labels(tmp_path / "a.h5", "sleap")
        assert "\n" not in str(error.value)
    (tmp_path / "a.h5").write_bytes(b"hello")
    with pytest.raises(InputError, match="is none of the known formats"):
        read_labels(tmp_path / "a.h5")


def test_any_byte_may_be_wrong(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.h5").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        content = bytearray(whole)
        for at in rng.integers(0, len(whole), 3):
            content[at] = rng.integers(0, 256)
        (tmp_path / "a.h5").write_bytes(bytes(content))
        try:
            read_labels(tmp_path / "a.h5", "sleap")
        except InputError as error:
            assert "\n" not in str(error)


def test_the_good_people_of_a_broken_file_are_read(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", **changed("tracks", (4, 0, 1, 1), np.inf))
    faults = Faults(strict=False)
    data = sleap.read_source(tmp_path / "a.h5", "train", faults)
    assert len(faults.found) == 1
    assert [len(frame.people) for frame in data.videos[0].frames] == [1, 0, 1, 1, 1]


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.h5")
    real = builtins.__import__

    def fake(name: str, *arguments: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", fake)
    message = r"SLEAP's analysis HDF5 needs an optional dependency: pip install 'vidpose\[sleap\]'"
    for source in (tmp_path / "a.h5", tmp_path):
        with pytest.raises(MissingExtraError, match=message):
            convert(source, tmp_path / "out", "coco")
    root = make_posetrack(tmp_path / "pt", splits=("val",), videos=1)
    with pytest.raises(MissingExtraError, match=message):
        convert(root, tmp_path / "out", "sleap")
    assert not (tmp_path / "out").exists()
