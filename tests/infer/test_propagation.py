"""Propagation: where people are wanted, curves and flow against known motion, labels in and out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from vidpose.data.convert import write_labels
from vidpose.data.dataset import Frame, Person, Video
from vidpose.data.layouts.recognise import read_labels
from vidpose.errors import InputError
from vidpose.infer.propagation import methods, propagate
from vidpose.infer.propagation.columns import Columns, arrange
from vidpose.infer.propagation.frames import NumberedFrames
from vidpose.infer.propagation.methods import blend, carry, copy, interpolate, spline
from vidpose.infer.propagation.motion import PairFlows
from vidpose.infer.propagation.network import by_network
from vidpose.infer.propagation.people import Track, frame_numbers, load_labels, spans
from vidpose.infer.propagation.store import BlockStore
from vidpose.models.factory import create_model, save_model
from vidpose.models.video_model import PoseOutput
from vidpose.skeletons import COCO17, POSETRACK18

STEP = np.array([3.0, -2.0])  # pixels by which everything moves from frame to frame
COUNT, SIZE = 15, (160, 200)


def person(points: np.ndarray, track_id: int = 0) -> Person:
    """A person whose joints at 0, 0 are not labelled."""
    known = (points != 0).any(axis=1)
    keypoints = np.column_stack([points, known.astype(float)]) * known[:, None]
    return Person(keypoints, np.array([0.0, 0.0, 50.0, 80.0]), None, track_id, known)


def track(labels: dict[int, np.ndarray], wanted: list[tuple[int, int]], track_id: int = 0) -> Track:
    people = [person(points, track_id) for points in labels.values()]
    return Track(track_id, np.array(list(labels)), people, wanted)


# --- where people are wanted -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "labelled", "reach", "expected"),
    [
        ([3, 10], [3, 10], 7, [(0, 17)]),
        ([3, 10], [3, 10], 2, [(1, 12)]),
        ([10], [3, 10, 17], 7, [(7, 13)]),  # enters and leaves: half way to the frames without them
        ([3, 17], [3, 10, 17], 7, [(0, 6), (14, 19)]),  # away for a while
        ([0, 19], [0, 19], 0, [(0, 19)]),
    ],
)
def test_people_are_wanted_from_label_to_label_and_a_little_beyond(
    mine: list[int], labelled: list[int], reach: int, expected: list[tuple[int, int]]
) -> None:
    assert spans(np.array(mine), np.array(labelled), 20, reach) == expected


@pytest.mark.parametrize(
    ("absent", "expected"),
    [
        ([7], [(1, 6), (8, 12)]),  # up to the very frame
        ([5, 8], [(1, 4), (9, 12)]),
        ([1], [(2, 12)]),
        ([3], [(1, 12)]),  # a label there is stronger
        ([19], [(1, 12)]),
    ],
)
def test_people_are_not_wanted_where_they_are_said_to_be_absent(
    absent: list[int], expected: list[tuple[int, int]]
) -> None:
    assert spans(np.array([3, 10]), np.array([3, 10]), 20, 2, np.array(absent)) == expected


def entries(*names: str) -> Video:
    frames = [Frame(Path(n), n, k, k, (1, 1), True) for k, n in enumerate(names)]
    return Video("v", frames, Path("labels.json"))


@pytest.mark.parametrize(
    ("names", "count", "images", "first", "expected"),
    [
        (["a/000003.jpg", "a/000010.jpg"], 20, None, None, [3, 10]),
        (["img_01.png", "img_20.png"], 20, None, None, [0, 19]),  # 20 frames counted from 1
        (["img_01.png", "img_19.png"], 20, None, 1, [0, 18]),
        (["x/c.jpg", "x/a.jpg"], 3, ["a.jpg", "b.jpg", "c.jpg"], None, [2, 0]),
        (["left.jpg", "right.jpg"], 2, None, None, [0, 1]),
    ],
)
def test_labels_find_their_frames(
    names: list[str], count: int, images: list[str] | None, first: int | None, expected: list[int]
) -> None:
    assert frame_numbers(entries(*names), count, images, Path("l.json"), first) == expected


def test_labels_past_the_end_are_refused() -> None:
    with pytest.raises(InputError, match="labels of frame 99, the video has frames 0 to 19"):
        frame_numbers(entries("000003.jpg", "000099.jpg"), 20, None, Path("l.json"), None)


# --- curves ------------------------------------------------------------------------------------------------


def moving(frames: list[int], wanted: list[tuple[int, int]], count: int = 12) -> Columns:
    """Two joints on straight lines; the second is labelled in the first and the last label only."""
    labels = {}
    for t in frames:
        points = np.array([[10.0 + 2 * t, 20.0 + t], [50.0, 60.0 - t]])
        if t not in (frames[0], frames[-1]):
            points[1] = 0
        labels[t] = points
    return arrange([track(labels, wanted)], count)


def test_a_straight_line_is_found_again_past_a_missing_joint() -> None:
    columns = moving([1, 5, 10], [(0, 11)])
    for method in (interpolate, spline):
        found = method(columns)
        t = np.arange(1, 11)
        np.testing.assert_allclose(found[1:11, 0], np.stack([10 + 2 * t, 20 + t], 1), atol=1e-4)
        np.testing.assert_allclose(found[1:11, 1], np.stack([50 + 0 * t, 60 - t], 1), atol=1e-4)
        np.testing.assert_allclose(found[11], found[10])  # nothing comes after the last label
    assert columns.open[:, 0].tolist() == [t not in (1, 5, 10) for t in range(12)]
    assert columns.open[:, 1].tolist() == [t not in (1, 10) for t in range(12)]


def test_copies_are_of_the_nearest_label() -> None:
    columns = moving([2, 6], [(0, 11)])
    found = copy(columns)[:, 0, 0]
    assert found.tolist() == [14, 14, 14, 14, 14, 22, 22, 22, 22, 22, 22, 22]


def test_nothing_is_carried_from_one_stretch_into_another() -> None:
    columns = arrange([track({2: np.full((1, 2), 5.0), 9: np.full((1, 2), 8.0)}, [(1, 3), (8, 10)])], 12)
    assert np.flatnonzero(columns.open[:, 0]).tolist() == [1, 3, 8, 10]
    assert (columns.left[8, 0], columns.right[3, 0]) == (-1, -1)
    assert list(columns.blocks()) == [(0, 2), (2, 4), (7, 9), (9, 11)]


# --- flow --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of a texture that moves by ``STEP``."""
    folder = tmp_path_factory.mktemp("film")
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    world = cv2.resize(noise, (480, 480), interpolation=cv2.INTER_CUBIC)
    for t in range(COUNT):
        x, y = (100 - STEP * t).astype(int)
        cv2.imwrite(str(folder / f"{t:06d}.png"), world[y : y + SIZE[0], x : x + SIZE[1]])
    return folder


@pytest.mark.parametrize("name", ["dis", "farneback"])
def test_labels_ride_on_the_picture_both_ways(film: Path, name: str) -> None:
    start = np.array([[80.0, 90.0], [110.0, 100.0]])
    labels = {2: start + 2 * STEP, 9: start + 9 * STEP}
    columns = arrange([track(labels, [(0, 11)])], COUNT)
    flows = PairFlows(NumberedFrames(film), name)
    forward, missed = carry(columns, flows, 0, 11)
    backward, _ = carry(columns, flows, 0, 11, backward=True)
    truth = start + np.arange(12)[:, None, None] * STEP
    assert np.abs(forward[2:] - truth[2:]).max() < 0.7
    assert np.abs(backward[:10] - truth[:10]).max() < 0.7
    assert np.isnan(forward[:2]).all() and np.isnan(backward[10:]).all()
    assert missed.max() < 0.5
    both = blend(columns, forward, backward)
    assert np.abs(both - truth).max() < 0.7


def test_reduced_pictures_give_points_of_the_whole_ones(film: Path) -> None:
    labels = {0: np.array([[100.0, 100.0]])}
    columns = arrange([track(labels, [(0, 5)])], COUNT)
    found, _ = carry(columns, PairFlows(NumberedFrames(film, grey_side=100), "dis"), 0, 5)
    np.testing.assert_allclose(found[5, 0], [115, 90], atol=1.0)


# --- the whole job -----------------------------------------------------------------------------------------


def document(frames: dict[int, list[Person]]) -> dict[str, Any]:
    """A PoseTrack18 file of the labelled frames alone."""
    category = {"id": 1, "name": "person", "keypoints": list(POSETRACK18.joints), "skeleton": []}
    images, annotations = [], []
    for number, people in frames.items():
        image_id = 10_001_230_000 + number
        name = f"{number:06d}.png"
        images.append({"id": image_id, "file_name": name, "is_labeled": True, "height": 160, "width": 200})
        for p in people:
            keypoints = [float(v) for row in p.keypoints for v in (row[0], row[1], row[2])]
            annotations.append(
                {
                    "id": len(annotations), "image_id": image_id, "category_id": 1, "track_id": p.track_id,
                    "bbox": [40.5, 30.25, 90.0, 100.0], "keypoints": keypoints, "note": "mine",
                }
            )  # fmt: skip
    return {"images": images, "annotations": annotations, "categories": [category]}


def somebody(t: int, track_id: int = 0) -> Person:
    rng = np.random.default_rng(track_id)
    points = rng.uniform([70, 80], [120, 130], (17, 2)) + STEP * t
    points[3:5] = 0  # PoseTrack's ears
    return replace(person(points, track_id), box_xyxy=np.array([40.5, 30.25, 130.5, 130.25]))


@pytest.fixture()
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(document({t: [somebody(t), somebody(t, 1)] for t in (2, 9)})))
    return path


@pytest.mark.parametrize("method", ["auto", "dis", "interpolate"])
def test_every_frame_gets_poses_and_labels_stay_untouched(
    film: Path, labels: Path, tmp_path: Path, method: str
) -> None:
    result = propagate(film, labels, method)
    assert (len(result.frames), result.given, result.made) == (COUNT, 4, 2 * (COUNT - 2))
    for t, frame in enumerate(result.frames):
        assert frame.file_name == f"{t:06d}.png" and len(frame.people) == 2
        truth = somebody(t).keypoints
        limit = 2.5 if 2 <= t <= 9 or method != "interpolate" else 20
        assert np.abs(frame.people[0].keypoints - truth).max() < limit
    out = tmp_path / "out.json"
    result.save(out)
    written = json.loads(out.read_text())
    before = json.loads(labels.read_text())
    kept = [a for a in written["annotations"] if a["provenance"] == "human"]
    assert [{k: a[k] for k in b} for a, b in zip(kept, before["annotations"], strict=True)] == [
        {**b, "id": a["id"]} for a, b in zip(kept, before["annotations"], strict=True)
    ]
    made = [a for a in written["annotations"] if a["provenance"] == "propagated"]
    assert len(made) == result.made and all(0 <= s <= 1 for a in made for s in a["scores"])


@pytest.mark.parametrize("method", ["auto", "interpolate", "stdpose"])
def test_labels_that_leave_no_frame_to_fill_are_refused(film: Path, tmp_path: Path, method: str) -> None:
    path = tmp_path / "all.json"
    path.write_text(json.dumps(document({t: [somebody(t)] for t in range(COUNT)})))
    with pytest.raises(
        InputError, match=r"all\.json: nothing to fill in the 15 frames .*all of them are lab"
    ):
        propagate(film, path, method)
    path.write_text(json.dumps(document({t: [somebody(t)] for t in (4, 5)})))
    with pytest.raises(InputError, match=r"nothing to fill .*: 2 are labelled, .*--extend N"):
        propagate(film, path, method, extend=0)
    assert propagate(film, path, "interpolate", extend=1).made == 2


@pytest.mark.parametrize("method", ["stdpose", "stdpose-estimation", "posewarper"])
def test_a_network_that_knows_none_of_the_joints_is_refused(
    film: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a mouse; where it knows some, a remark names the others."""
    size = {"input_size": (64, 64)}
    model = create_model("stdpose", backbone="vit_32x1x2", **size).eval()
    monkeypatch.setattr("vidpose.infer.propagation.run.load_network", lambda *about: model)
    monkeypatch.setattr("vidpose.infer.propagation.run.used_weights", lambda *about: (None, None))
    labels = document({t: [somebody(t)] for t in (2, 9)})
    labels["categories"][0]["keypoints"] = [f"paw_{k}" for k in range(17)]
    (tmp_path / "mouse.json").write_text(json.dumps(labels))
    with pytest.raises(InputError, match=rf"mouse\.json: {method} knows none of their joints \(paw_0, "):
        propagate(film, tmp_path / "mouse.json", method)
    assert propagate(film, tmp_path / "mouse.json", "interpolate").made == COUNT - 2
    labels["categories"][0]["keypoints"][5] = "left_shoulder"
    (tmp_path / "mixed.json").write_text(json.dumps(labels))
    result = propagate(film, tmp_path / "mixed.json", method)
    assert result.made == COUNT - 2
    assert f"{method} does not know paw_0, paw_1, paw_2, paw_3 and 12 more: not propagated" in result.remarks


@pytest.mark.parametrize(
    ("format", "suffix"),
    [
        ("posetrack17", ".json"),
        ("coco", ".json"),
        ("cvat", ".xml"),
        ("labelstudio", ".json"),
        ("csv", ".csv"),
    ],
)
def test_results_are_written_in_the_formats_of_convert(
    film: Path, labels: Path, tmp_path: Path, format: str, suffix: str
) -> None:
    from vidpose.data.layouts.recognise import read_labels

    out = tmp_path / f"out{suffix}"
    propagate(film, labels, "interpolate").save(out, format)
    [data] = read_labels(out).splits
    assert sum(len(frame.people) for _, frame in data.frames()) == 2 * COUNT


@pytest.mark.parametrize(
    ("suffix", "expected"), [(".json", "posetrack18"), (".xml", "cvat"), (".csv", "csv")]
)
def test_the_results_format_follows_its_name(
    film: Path, labels: Path, tmp_path: Path, suffix: str, expected: str
) -> None:
    from vidpose.data.layouts.recognise import read_labels

    out = tmp_path / f"out{suffix}"
    propagate(film, labels, "copy").save(out)
    assert read_labels(out).format == expected
    with pytest.raises(InputError, match=r"must end in \.json or"):
        propagate(film, labels, "copy").save(tmp_path / "out.txt")


def test_a_killed_job_continues(
    film: Path, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    whole = propagate(film, labels, "dis")
    carried = methods.carry
    calls = []

    def killed(columns: Columns, flows: PairFlows, start: int, end: int, **options: bool) -> Any:
        calls.append(start)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return carried(columns, flows, start, end, **options)

    monkeypatch.setattr(methods, "carry", killed)
    with pytest.raises(KeyboardInterrupt):
        propagate(film, labels, "dis", work=work)
    assert len(list(work.glob("*.npz"))) == 1
    monkeypatch.setattr(methods, "carry", carried)
    again = propagate(film, labels, "dis", work=work)
    assert len(list(work.glob("*.npz"))) == 3
    for a, b in zip(whole.frames, again.frames, strict=True):
        np.testing.assert_array_equal(a.people[0].keypoints, b.people[0].keypoints)


@pytest.mark.parametrize("method", ["dis", "auto"])
def test_a_long_block_goes_in_pieces_that_hand_on_what_they_carry(
    film: Path, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    work = tmp_path / "work"
    whole = propagate(film, labels, method)
    monkeypatch.setattr("vidpose.infer.propagation.columns.LONGEST", 4)
    carried, calls = methods.carry, 0

    def killed(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return carried(*args, **options)

    monkeypatch.setattr(methods, "carry", killed)
    with pytest.raises(KeyboardInterrupt):
        propagate(film, labels, method, work=work)
    assert len(list(work.rglob("*.npz"))) >= 2
    again = propagate(film, labels, method, work=work)
    assert len(list(work.glob("forward/*.npz"))) == len(list(work.glob("backward/*.npz"))) >= 2
    for a, b in zip(whole.frames, again.frames, strict=True):
        # heatmaps of other batches differ in the last bit, and joints are rounded to 0.001 pixels
        np.testing.assert_allclose(a.people[0].keypoints, b.people[0].keypoints, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "backbone", "frames"), [("stdpose", "vit_32x1x2", 3), ("posewarper", "hrnet_w16_small", 5)]
)
def test_a_network_gets_the_labels_where_they_belong(
    film: Path, labels: Path, name: str, backbone: str, frames: int
) -> None:
    """What an untrained network is given is looked at, and what it might answer lands in the right place."""
    model = create_model(name, backbone=backbone, input_size=(64, 64), num_frames=frames).eval()
    given: list[dict[str, torch.Tensor]] = []
    peak = torch.zeros(15, 16, 16)
    peak[:, 8, 4] = 1

    def answer(clips: torch.Tensor, **extra: torch.Tensor) -> PoseOutput:
        given.append(extra)
        return PoseOutput(peak.expand(len(clips), -1, -1, -1))

    model.forward = answer
    numbered = NumberedFrames(film)
    found = load_labels(labels, numbered.count, numbered.names)
    columns = arrange(found.tracks, numbered.count)
    points, peaks, _ = by_network(columns, found.tracks, numbered, model, found.data.skeleton)
    labelled = [2, 9]
    assert np.isnan(points[labelled]).all() and not np.isnan(points[5, :3]).any()
    x1, y1, x2, y2 = found.tracks[0].box_at(5)
    side = 1.25 * max(x2 - x1, y2 - y1)
    np.testing.assert_allclose(points[5, 0], [(x1 + x2) / 2 - side / 4, (y1 + y2) / 2], atol=side / 16)
    assert peaks[5, 0] == pytest.approx(1, abs=0.05) and not peaks[labelled].any()
    first = given[0]
    assert first["given_mask"][:, frames // 2].sum() == 0
    assert min(each["given_mask"].sum(dim=1).min() for each in given) == (2 if name == "stdpose" else 1)
    heights = first["given_heatmaps"].amax(dim=(-1, -2))[:, [0, -1]]
    assert heights.max() > 0.8 and first["given_heatmaps"].shape[1:] == (frames, 15, 16, 16)
    if name == "stdpose":
        assert first["times"][0].tolist() == [2, 0, 2]  # before the first label it is on both sides


def test_a_network_says_what_it_thinks_of_other_guesses(film: Path, labels: Path) -> None:
    """Heat is read where each guess lies, of the guess's own joint; elsewhere and without a guess it is 0."""
    model = create_model("stdpose", backbone="vit_32x1x2", input_size=(64, 64)).eval()
    maps = torch.zeros(15, 16, 16)
    for joint in range(15):
        maps[joint, joint, 4] = 1  # each joint a row further down
    model.forward = lambda clips, **_: PoseOutput(maps.expand(len(clips), -1, -1, -1))
    numbered = NumberedFrames(film)
    found = load_labels(labels, numbered.count, numbered.names)
    columns = arrange(found.tracks, numbered.count)
    ask = [columns, found.tracks, numbered, model, found.data.skeleton]
    points, peaks, none = by_network(*ask)
    assert none.shape == (0, *peaks.shape)
    shifted = points + [0, 400]
    missing = np.where(np.arange(points.shape[1])[None, :, None] == 0, np.nan, points)
    _, _, heats = by_network(*ask, others=[points, shifted, missing])
    open_ = columns.open & (peaks > 0.5)
    assert open_.sum() > 20
    np.testing.assert_allclose(heats[0][open_], peaks[open_], atol=0.05)
    assert not heats[1][open_].any() and not heats[2][:, 0].any() and heats[2][open_].sum() > 20
    swapped = points.copy()
    swapped[:, [9, 10]] = points[:, [10, 9]]  # left and right wrist of COCO, a row apart
    _, _, heats = by_network(*ask, others=[swapped])
    assert heats[0][open_ & np.isin(np.arange(open_.shape[1]), [9, 10])].max() < 0.2


def test_estimation_is_shown_the_pictures_and_no_label(film: Path, labels: Path, tmp_path: Path) -> None:
    model = create_model("stdpose", backbone="vit_32x1x2", input_size=(64, 64)).eval()
    with torch.no_grad():
        model.head.decoder.final_layer.weight.normal_()
    save_model(model, tmp_path / "net.safetensors")
    moved = json.loads(labels.read_text())
    for entry in moved["annotations"]:
        entry["keypoints"] = [value + 4 * (k % 3 < 2) for k, value in enumerate(entry["keypoints"])]
    (tmp_path / "moved.json").write_text(json.dumps(moved))
    places = {
        method: [
            propagate(film, file, method, weights=tmp_path / "net.safetensors").frames[5].people[0].keypoints
            for file in (labels, tmp_path / "moved.json")
        ]
        for method in ("stdpose", "stdpose-estimation")
    }
    np.testing.assert_array_equal(*places["stdpose-estimation"])
    assert not np.allclose(*places["stdpose"])


def test_a_frame_with_one_joint_does_not_hide_the_whole_labels_beside_it(film: Path, labels: Path) -> None:
    model = create_model("stdpose", backbone="vit_32x1x2", input_size=(64, 64)).eval()
    seen: list[int] = []

    def answer(clips: torch.Tensor, **extra: torch.Tensor) -> PoseOutput:
        heights = extra["given_heatmaps"][:, [0, -1]].amax(dim=(-1, -2))
        seen.extend((heights > 0).sum(dim=-1).flatten().tolist())
        return PoseOutput(torch.zeros(len(clips), 15, 16, 16))

    model.forward = answer
    numbered = NumberedFrames(film)
    found = load_labels(labels, numbered.count, numbered.names)
    whole = found.tracks[0]
    first, last = whole.people
    one = replace(first, keypoints=first.keypoints * (np.arange(17) == 5)[:, None])
    tracks = [replace(whole, frames=np.array([2, 5, 9]), people=[first, one, last])]
    columns = arrange(tracks, numbered.count)
    by_network(columns, tracks, numbered, model, found.data.skeleton)
    assert len(seen) == 2 * (COUNT - 2) and min(seen) > 10


def test_a_killed_network_continues_where_it_was(film: Path, labels: Path, tmp_path: Path) -> None:
    model = create_model("stdpose", backbone="vit_32x1x2", input_size=(64, 64)).eval()
    numbered = NumberedFrames(film)
    found = load_labels(labels, numbered.count, numbered.names)
    columns = arrange(found.tracks, numbered.count)

    def run(folder: Path | None) -> np.ndarray:
        store = BlockStore(folder, "job")
        joints = found.data.skeleton
        return by_network(columns, found.tracks, numbered, model, joints, store=store.part("network"))[0]

    whole = run(None)
    forward, calls = model.forward, 0

    def killed(clips: torch.Tensor, **extra: torch.Tensor) -> PoseOutput:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return forward(clips, **extra)

    model.forward = killed
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert len(list(tmp_path.glob("network/*.npz"))) == 1
    np.testing.assert_array_equal(run(tmp_path), whole)
    assert calls > 2


def test_a_network_without_weights_is_told(film: Path, labels: Path) -> None:
    with pytest.raises(InputError, match="no default weights"):
        propagate(film, labels, "posewarper")


def test_two_people_with_one_id_are_told(film: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(document({2: [somebody(2), somebody(2)]})))
    with pytest.raises(InputError, match="track_id 0 is used twice in one frame"):
        propagate(film, path, "copy")


def test_cocos_images_become_one_video_and_people_are_told_apart_by_where_they_are(
    film: Path, labels: Path, tmp_path: Path
) -> None:
    content = json.loads(labels.read_text())
    for k, annotation in enumerate(content["annotations"]):
        del annotation["track_id"]
        annotation["area"] = 1.0
        rows = np.array(annotation["keypoints"]).reshape(17, 3)
        rows[rows[:, 2] > 0, 0] += 60.0 * (k in (1, 2)) - 20  # crossed over
        annotation["keypoints"] = (rows * (rows[:, 2:] > 0)).ravel().tolist()
    content["categories"][0]["keypoints"] = list(COCO17.joints)
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(content))
    result = propagate(film, path, "interpolate")
    assert result.format == "coco" and result.made == 2 * (COUNT - 2)
    first, second = (np.median(p.keypoints[p.keypoints[:, 2] > 0, 0]) for p in result.frames[5].people)
    assert abs(first - second) > 40  # nobody walks through the other


def test_a_kept_field_that_json_cannot_hold_is_named(film: Path, labels: Path, tmp_path: Path) -> None:
    content = json.loads(labels.read_text())
    content["annotations"][1]["weight"] = float("nan")
    path = tmp_path / "nan.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"annotations\[\d+\]\.weight is not finite"):
        propagate(film, path, "copy").save(tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_labels_without_people_are_told(film: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(document({2: []})))
    with pytest.raises(InputError, match="no labelled person"):
        propagate(film, path, "copy")


@pytest.mark.parametrize(
    ("changed", "match"),
    [({"method": "magic"}, "known: auto"), ({"method": "copy", "one_way": True}, "one way is for")],
)
def test_wrong_options_are_told(film: Path, labels: Path, changed: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        propagate(film, labels, **changed)


def test_what_the_reader_remarks_is_told(film: Path, labels: Path) -> None:
    drawing = labels.with_suffix(".xml")
    write_labels(read_labels(labels).splits, drawing, "cvat")
    car = '<track id="99" label="car"><box frame="0" outside="0" xtl="1" ytl="1" xbr="9" ybr="9"/></track>'
    drawing.write_text(drawing.read_text().replace("</annotations>", f"{car}</annotations>"))
    result = propagate(film, drawing, "copy")
    assert len(result.remarks) == 1 and "'car' are no people" in result.remarks[0]
    assert str(result).splitlines()[1] == f"note: {result.remarks[0]}"
    assert result.to_dict()["remarks"] == result.remarks
