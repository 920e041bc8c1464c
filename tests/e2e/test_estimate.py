"""``estimate`` and ``view`` as a user runs them."""

from __future__ import annotations

import csv
import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import av
import cv2
import numpy as np
import pytest
from tiny_clip import FRAMES, SIZE

from vidpose.results import VideoPoses
from vidpose.skeletons import POSETRACK15, POSETRACK18


def frames_of(path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.fixture
def estimate(vidpose, weights, boxes):
    """``vidpose estimate`` with the tiny model and the true boxes."""

    def run(source, output, *more, model="tdmi", detector=boxes):
        return vidpose(
            "estimate", source, "-o", output, "--model", model, "--weights", weights[model],
            "--detector", detector, "--device", "cpu", *more,
        )  # fmt: skip

    return run


def test_a_video_becomes_poses_and_an_annotated_video(estimate, video, truth, tmp_path):
    answer = estimate(video, tmp_path / "out", "--save-video", "--quiet", "--json")
    assert answer.status == 0 and answer.err == ""
    (summary,) = answer.json
    name = video.stem
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"{name}.json", f"{name}.mp4"]
    assert summary["output"].endswith(f"{name}.json") and summary["video"].endswith(f"{name}.mp4")
    assert (summary["frames"], summary["skipped"]) == (FRAMES, 0)

    result = json.loads((tmp_path / "out" / f"{name}.json").read_text())
    assert [image["index"] for image in result["images"]] == list(range(FRAMES))
    assert all((image["height"], image["width"]) == SIZE for image in result["images"])
    assert result["categories"][0]["keypoints"] == list(POSETRACK18.joints)
    assert result["info"]["source"] == str(video) and result["info"]["details"]["model"] == "tdmi"
    ids = {image["id"] for image in result["images"]}
    assert len(ids) == FRAMES and len(result["annotations"]) == summary["poses"] > 0
    for row in result["annotations"]:
        assert row["image_id"] in ids and isinstance(row["track_id"], int)
        keypoints = np.array(row["keypoints"]).reshape(17, 3)
        scores = np.array(row["scores"])
        assert len(row["bbox"]) == 4 and scores.shape == (17,)
        assert ((scores >= 0) & (scores <= 1)).all() and np.isfinite(keypoints).all()
    # The true boxes were given: every labelled person has a pose, and one identity throughout.
    labels = json.loads(truth.read_text())
    assert len(result["annotations"]) >= len(labels["annotations"])
    assert summary["people"] == summary["tracks"] == len({a["track_id"] for a in labels["annotations"]})

    drawn, plain = frames_of(tmp_path / "out" / f"{name}.mp4"), frames_of(video)
    assert len(drawn) == len(plain) == FRAMES and drawn[0].shape == (*SIZE, 3)
    for a, b in zip(drawn, plain, strict=True):
        assert (np.abs(a.astype(int) - b) > 60).any(axis=-1).mean() > 0.002  # something is drawn …
        assert np.median(np.abs(a.astype(int) - b)) < 12  # … over the same picture


def test_pictures_of_two_sizes_are_told_in_one_note(estimate, tmp_path):
    (tmp_path / "mixed").mkdir()
    for k, size in enumerate([(40, 60), (40, 60), (30, 50)]):
        cv2.imwrite(str(tmp_path / "mixed" / f"{k}.png"), np.full((*size, 3), 90, np.uint8))
    answer = estimate(tmp_path / "mixed", tmp_path / "out", model="hrnet", detector="full-frame")
    told = [line for line in answer.err.splitlines() if "sizes" in line]
    assert answer.status == 0 and len(told) == 1
    assert "2 of 60x40, 1 of 50x30" in told[0] and "the size of the first, 60x40" in told[0]
    details = json.loads((tmp_path / "out" / "mixed.json").read_text())["info"]["details"]
    assert details["sizes"] == {"60x40": 2, "50x30": 1}


def test_without_identities_nobody_counts_people(estimate, video, truth, tmp_path):
    answer = estimate(video, tmp_path, "--tracker", "none", "--quiet", "--json", model="hrnet")
    (summary,) = answer.json
    labels = json.loads(truth.read_text())
    assert summary["people"] is None and summary["poses"] >= len(labels["annotations"]) > 0
    said = estimate(video, tmp_path, "--tracker", "none", "--quiet", model="hrnet").out
    assert f"{FRAMES} frames, {summary['poses']} poses (" in said


@pytest.mark.parametrize("format", ["posetrack18", "posetrack17", "coco", "csv", "parquet"])
def test_every_format_holds_every_frame(estimate, video, tmp_path, format):
    assert estimate(video, tmp_path, "--format", format, "--quiet", model="hrnet").status == 0
    (path,) = tmp_path.iterdir()
    assert path.suffix == (f".{format}" if format in ("csv", "parquet") else ".json")
    result = VideoPoses.load(path)
    assert [frame.index for frame in result] == list(range(FRAMES))
    assert sum(map(len, result)) > 0
    if format == "csv":
        rows = list(csv.DictReader(path.open()))
        assert {row["joint"] for row in rows if row["joint"]} == set(POSETRACK15.joints)
    elif format == "posetrack17":
        assert len(json.loads(path.read_text())["annolist"]) == FRAMES


def test_full_frame_and_the_plain_report(estimate, video, tmp_path):
    answer = estimate(video, tmp_path, "--smooth", "--flip-test", detector="full-frame")
    assert answer.status == 0
    assert f"{FRAMES} frames, 1 people, {FRAMES} poses" in answer.out
    assert len(answer.err.splitlines()) == 1 and "frames/s" in answer.err  # progress, not on a terminal
    boxes = {tuple(frame.boxes[0]) for frame in VideoPoses.load(tmp_path / f"{video.stem}.json")}
    assert boxes == {(0, 0, SIZE[1] - 1, SIZE[0] - 1)}


def test_images_give_results_that_can_be_scored(estimate, vidpose, data, truth, video, tmp_path):
    """Results of the frames' folder and of a glob are the same, and the evaluator takes them as they are."""
    folder = next((data / "images" / "val").iterdir())
    assert estimate(folder, tmp_path / "a", "--quiet").status == 0
    assert estimate(f"{folder}/*.jpg", tmp_path / "b", "--quiet").status == 0
    (a,), (b,) = (tmp_path / "a").glob("*.json"), (tmp_path / "b").glob("*.json")
    strip = lambda path: {k: v for k, v in json.loads(path.read_text()).items() if k != "info"}  # noqa: E731
    assert strip(a) == strip(b)
    answer = vidpose("evaluate", truth, a, "--json")
    assert answer.status == 0
    scores = answer.json
    assert set(scores) >= {"ap", "precision", "recall", "mota", "motp"}
    assert set(POSETRACK15.joints) <= set(scores["ap"]) and "Mean" in scores["mota"]
    assert "Mean" in vidpose("evaluate", truth, a).out
    assert vidpose("evaluate", truth, truth, "--json").json["ap"]["Mean"] == pytest.approx(100)


def test_a_video_from_a_web_server(estimate, video, tmp_path):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(video.parent)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://user:secret@127.0.0.1:{server.server_port}/{video.name}"
        answer = estimate(url, tmp_path, "--quiet", model="hrnet", detector="full-frame")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert answer.status == 0, answer.err
    text = (tmp_path / f"{video.stem}.json").read_text()
    assert len(json.loads(text)["images"]) == FRAMES and "secret" not in text


def test_several_sources_one_of_which_is_broken(estimate, video, tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "good.mp4").write_bytes(video.read_bytes())
    (clips / "bad.mp4").write_bytes(video.read_bytes()[:400])
    answer = estimate(clips, tmp_path / "out", "--quiet", model="hrnet", detector="full-frame")
    assert answer.status == 2 and len(answer.err.splitlines()) == 1
    assert "1 of 2 sources failed" in answer.err and "bad.mp4" in answer.err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["good.json"]


def test_undecodable_frames_are_counted_and_the_others_are_there(estimate, data, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for image in sorted(next((data / "images" / "val").iterdir()).iterdir()):
        (folder / image.name).write_bytes(image.read_bytes())
    broken = sorted(folder.iterdir())[4]
    broken.write_bytes(broken.read_bytes()[:300])
    answer = estimate(folder, tmp_path / "out", "--quiet", "--json", model="hrnet")
    assert answer.status == 0 and answer.json[0]["skipped"] == 1
    result = json.loads((tmp_path / "out" / "frames.json").read_text())
    assert [image["index"] for image in result["images"]] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert result["info"]["details"]["skipped"] == 1
    assert broken.name in result["info"]["details"]["reports"][0]


@pytest.mark.parametrize("suffix", [".mp4", ".png"])
def test_view_draws_a_result(estimate, vidpose, video, tmp_path, suffix):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(video.read_bytes())
    assert estimate(clip, tmp_path / "out", "--quiet", model="hrnet").status == 0
    result = tmp_path / "out" / "clip.json"
    answer = vidpose("view", result, "-o", tmp_path / f"drawn{suffix}", "--quiet")
    assert (answer.status, answer.err) == (0, "") and answer.out.strip() == str(tmp_path / f"drawn{suffix}")
    if suffix == ".mp4":
        assert len(frames_of(tmp_path / "drawn.mp4")) == FRAMES
        assert vidpose("view", result, "--quiet").out.strip() == str(tmp_path / "out" / "clip.mp4")
    else:
        sheet = cv2.imread(str(tmp_path / "drawn.png"))
        assert sheet.shape[1] > 3 * SIZE[1]


def test_view_tells_what_is_missing_and_replaces_no_video(estimate, vidpose, video, data, tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(video.read_bytes())
    assert estimate(clip, tmp_path / "out", "--quiet", model="hrnet").status == 0
    result = tmp_path / "out" / "clip.json"
    moved = clip.rename(tmp_path / "out" / "clip.mp4")
    answer = vidpose("view", result, "-o", tmp_path / "a.png")
    assert answer.status == 2 and "--source" in answer.err
    assert vidpose("view", result, "-o", tmp_path / "a.png", "--source", moved).status == 0
    answer = vidpose("view", result, "--source", moved)
    assert answer.status == 2 and "--output" in answer.err and moved.read_bytes() == video.read_bytes()
    other = tmp_path / "other.png"
    cv2.imwrite(str(other), np.zeros((50, 60, 3), np.uint8))
    answer = vidpose("view", result, "-o", tmp_path / "b.png", "--source", other)
    assert answer.status == 2 and "60x50" in answer.err


def test_python(weights, video, boxes, tmp_path):
    """The names and shapes of the documentation."""
    import supervision

    import vidpose

    estimator = vidpose.PoseEstimator(model="tdmi", weights=weights["tdmi"], device="auto", detector=boxes)
    frames = list(estimator.stream(video))
    assert [frame.index for frame in frames] == list(range(FRAMES))
    for frame in frames:
        people = len(frame)
        assert frame.time == pytest.approx(frame.index / 25, abs=1e-3)
        assert frame.keypoints.shape == (people, 15, 2) and frame.scores.shape == (people, 15)
        assert frame.boxes.shape == (people, 4) and frame.track_ids.shape == (people,)
        assert ((frame.scores >= 0) & (frame.scores <= 1)).all()
    result = estimator(str(video))
    for a, b in zip(frames, result, strict=True):
        np.testing.assert_allclose(a.keypoints, b.keypoints, atol=1e-3)
    result.save(tmp_path / "poses.json")
    assert len(VideoPoses.load(tmp_path / "poses.json")) == FRAMES
    keypoints = result.to_supervision(frame=0)
    assert isinstance(keypoints, supervision.KeyPoints) and keypoints.xy.shape == (len(frames[0]), 15, 2)
