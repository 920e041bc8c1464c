"""No verb replaces a file that it did not make, and none an input; what was made so is made again."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_clip import FRAMES

from vidpose.io.video import VideoWriter


def refused(answer, *said: object) -> None:
    """One line, exit status 2, and in it these words."""
    assert answer.status == 2 and answer.out == "", answer
    assert len(answer.err.splitlines()) == 1, answer.err
    for text in said:
        assert str(text) in answer.err, answer.err


@pytest.fixture
def estimate(vidpose, weights) -> Callable:
    """``vidpose estimate`` with a tiny model and one person who fills the picture."""

    def run(source, output, *more):
        return vidpose(
            "estimate", source, "-o", output, "--model", "hrnet", "--weights", weights["hrnet"],
            "--detector", "full-frame", "--device", "cpu", "--quiet", *more,
        )  # fmt: skip

    return run


@pytest.fixture
def clip(video, tmp_path) -> Path:
    """``a/x.mp4``."""
    (tmp_path / "a").mkdir()
    return Path(shutil.copy(video, tmp_path / "a" / "x.mp4"))


@pytest.fixture
def other(tmp_path) -> Path:
    """``b/x.mp4``, another video of the same name."""
    (tmp_path / "b").mkdir()
    path = tmp_path / "b" / "x.mp4"
    with VideoWriter(path, 25, (108, 192)) as writer:
        for k in range(3):
            writer.write(np.full((108, 192, 3), 50 * k, np.uint8))
    return path


FORMATS = [("posetrack18", "x.json"), ("posetrack17", "x.json"), ("coco", "x.json"), ("parquet", "x.parquet")]


@pytest.mark.parametrize(("format", "name"), FORMATS)
def test_the_same_command_may_be_run_again(estimate, clip, other, tmp_path, format, name):
    out = tmp_path / "out"
    for _ in range(2):
        assert estimate(clip, out, "--save-video", "--format", format).status == 0
    assert sorted(path.name for path in out.iterdir()) == sorted([name, "x.mp4"])
    before = (out / name).read_bytes()
    refused(estimate(other, out, "--format", format), out / name, "another source", "--overwrite", "--output")
    assert (out / name).read_bytes() == before
    assert estimate(other, out, "--format", format, "--overwrite").status == 0
    assert (out / name).read_bytes() != before


def test_the_same_video_in_another_folder_is_the_same_video(estimate, clip, tmp_path):
    assert estimate(clip, tmp_path / "out").status == 0
    (tmp_path / "c").mkdir()
    assert estimate(clip.rename(tmp_path / "c" / "x.mp4"), tmp_path / "out").status == 0


def test_images_may_be_estimated_again(estimate, data, tmp_path):
    folder = next((data / "images" / "val").iterdir())
    for source in (folder, folder, f"{folder}/"):
        assert estimate(source, tmp_path / "out").status == 0
    assert len(list((tmp_path / "out").iterdir())) == 1


@pytest.mark.parametrize("name", ["x.json", "x.mp4"])
def test_a_file_of_the_user_stays(estimate, clip, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    refused(estimate(clip, out, "--save-video"), out / name, "--overwrite")
    assert [path.name for path in out.iterdir()] == [name] and (out / name).read_text() == "mine"
    assert estimate(clip, out, "--save-video", "--overwrite").status == 0
    assert (out / name).read_bytes() != b"mine"


def test_a_drawn_video_of_another_source_stays(estimate, clip, other, tmp_path):
    out = tmp_path / "out"
    assert estimate(clip, out, "--save-video").status == 0
    (out / "x.json").unlink()
    before = (out / "x.mp4").read_bytes()
    refused(estimate(other, out, "--save-video"), out / "x.mp4", "another source")
    shutil.copy(other, out / "x.mp4")
    refused(estimate(clip, out, "--save-video"), out / "x.mp4", "does not say")
    assert estimate(clip, out).status == 0  # without --save-video the mp4 is not touched
    assert (out / "x.mp4").read_bytes() == other.read_bytes() != before


def test_poses_do_not_stand_beside_the_drawn_video_of_another_source(estimate, clip, other, tmp_path):
    out = tmp_path / "out"
    assert estimate(clip, out, "--save-video").status == 0
    assert estimate(clip, out, "--overwrite").status == 0
    assert (out / "x.mp4").is_file()  # of the same source
    (out / "x.json").unlink()
    refused(estimate(other, out), out / "x.mp4", "another source", "--overwrite")
    assert [path.name for path in out.iterdir()] == ["x.mp4"]
    assert estimate(other, out, "--overwrite").status == 0
    assert [path.name for path in out.iterdir()] == ["x.json"]


def test_a_drawn_video_that_is_read_stays(estimate, clip, tmp_path):
    assert estimate(clip, tmp_path / "out", "--save-video").status == 0
    before = (tmp_path / "out" / "x.mp4").read_bytes()
    assert estimate(tmp_path / "out" / "x.mp4", tmp_path / "out", "--overwrite").status == 0
    assert (tmp_path / "out" / "x.mp4").read_bytes() == before


def test_csv_does_not_say_what_it_was_made_of(estimate, clip, tmp_path):
    assert estimate(clip, tmp_path, "--format", "csv").status == 0
    refused(estimate(clip, tmp_path, "--format", "csv"), "x.csv", "does not say", "--overwrite")
    assert estimate(clip, tmp_path, "--format", "csv", "--overwrite").status == 0


def test_of_several_sources_one_collision_stops_all_before_any_work(estimate, clip, tmp_path, monkeypatch):
    for name in ("y.mp4", "z.mp4"):
        shutil.copy(clip, clip.with_name(name))
    out = tmp_path / "out"
    out.mkdir()
    (out / "z.json").write_text("mine")

    def no_work(*_: object, **__: object) -> None:
        raise AssertionError("the model was built")

    monkeypatch.setattr("vidpose.infer.estimate.PoseEstimator", no_work)
    refused(estimate(clip.parent, out), out / "z.json")
    assert [path.name for path in out.iterdir()] == ["z.json"]


def test_what_is_read_is_not_replaced_even_when_asked(estimate, vidpose, clip, boxes, weights, tmp_path):
    mine = Path(shutil.copy(boxes, clip.with_name("x.json")))
    before = clip.read_bytes(), mine.read_bytes()
    refused(estimate(clip, clip.parent, "--save-video", "--overwrite"), "x.mp4", "an input")
    answer = vidpose(
        "estimate", clip, "-o", clip.parent, "--model", "hrnet", "--weights", weights["hrnet"], "--detector",
        mine, "--overwrite",
    )  # fmt: skip
    refused(answer, "x.json", "an input")
    assert (clip.read_bytes(), mine.read_bytes()) == before


def test_a_stream_is_never_the_same_again(estimate, clip, tmp_path):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(clip.parent)))
    threading.Thread(target=server.serve_forever).start()
    try:
        url = f"http://user:secret@127.0.0.1:{server.server_port}/x.mp4"
        assert estimate(url, tmp_path).status == 0
        answer = estimate(url, tmp_path)
        assert estimate(url, tmp_path, "--overwrite").status == 0
    finally:
        server.shutdown()
        server.server_close()
    refused(answer, "x.json", "will not give the same again", "--overwrite")
    assert "secret" not in answer.err


def test_python_may_ask_to_overwrite(clip, weights, tmp_path):
    from vidpose import InputError, PoseEstimator
    from vidpose.infer.estimate import estimate as run

    (tmp_path / "x.json").write_text("mine")
    ready = PoseEstimator(model="hrnet", weights=weights["hrnet"], detector="full-frame", device="cpu")
    with pytest.raises(InputError, match=r"x\.json: is there already"):
        run([clip], tmp_path, estimator=ready, quiet=True)
    run([clip], tmp_path, estimator=ready, quiet=True, overwrite=True)
    assert len(json.loads((tmp_path / "x.json").read_text())["images"]) == FRAMES


# --- the other verbs -------------------------------------------------------------------------------------


def test_view_replaces_only_what_was_drawn_over_the_same_video(estimate, vidpose, clip, other, tmp_path):
    out = tmp_path / "out"
    assert estimate(clip, out, "--save-video").status == 0
    assert vidpose("view", out / "x.json", "--quiet").status == 0  # the drawn video of estimate
    shutil.copy(other, out / "x.mp4")
    for more in ((), ("-o", out / "x.mp4")):
        refused(vidpose("view", out / "x.json", "--quiet", *more), out / "x.mp4", "--overwrite")
    assert (out / "x.mp4").read_bytes() == other.read_bytes()
    assert vidpose("view", out / "x.json", "--quiet", "--overwrite").status == 0
    cv2.imwrite(str(out / "mine.png"), np.zeros((5, 5, 3), np.uint8))
    refused(vidpose("view", out / "x.json", "-o", out / "mine.png", "--quiet"), out / "mine.png")
    for _ in range(2):
        assert vidpose("view", out / "x.json", "-o", out / "sheet.png", "--quiet").status == 0


@pytest.fixture
def some_labels(truth, tmp_path) -> Path:
    """The labels of every third frame of the video."""
    content = json.loads(truth.read_text())
    kept = [image["id"] for image in content["images"][::3]]
    for image in content["images"]:
        image["is_labeled"] = image["id"] in kept
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    path = tmp_path / "labels" / "labels.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    return path


def test_propagate_replaces_no_labels(vidpose, video, some_labels, tmp_path):
    run = partial(vidpose, "propagate", video, some_labels, "--method", "copy", "--quiet", "-o")
    target = tmp_path / "all.json"
    target.write_text("mine")
    refused(run(target), target, "--overwrite")
    assert target.read_text() == "mine"
    assert run(target, "--overwrite").status == 0
    refused(run(target), target)  # somebody may have corrected it since
    for labels in (some_labels, some_labels.parent):
        answer = vidpose("propagate", video, labels, "--method", "copy", "-o", some_labels, "--overwrite")
        refused(answer, some_labels)
    assert "provenance" not in some_labels.read_text()


def test_propagation_throws_away_no_file_of_the_user(vidpose, video, some_labels, tmp_path):
    from vidpose.infer.propagation import propagate

    folder, target = tmp_path / ".all.json.partial", tmp_path / "all.json"
    folder.mkdir()
    for name in ("mine.txt", "mine.npz"):
        (folder / name).write_text("mine")
    before = sorted(folder.rglob("*"))
    run = partial(vidpose, "propagate", video, some_labels, "--method", "dis", "--quiet", "-o", target)
    assert run().status == 0 and sorted(folder.rglob("*")) == before
    for labels in (some_labels, some_labels.with_name("other.json")):  # parts of one job, then of another
        labels.write_text(some_labels.read_text())
        propagate(str(video), labels, "dis", work=folder)
    assert set(before) < set(folder.rglob("*"))
    assert run("--overwrite").status == 0 and sorted(folder.rglob("*")) == before
    for path in before:
        path.unlink()
    assert run("--overwrite").status == 0 and not folder.exists()
    folder.mkdir()
    (folder / "job.json").write_text('{"mine": 1}')
    refused(run("--overwrite"), folder / "job.json")
    assert (folder / "job.json").read_text() == '{"mine": 1}'


def test_export_replaces_no_file(vidpose, weights, tmp_path):
    target = tmp_path / "model.pt2"
    target.write_text("mine")
    refused(vidpose("export", "hrnet", "--weights", weights["hrnet"], "-o", target), target, "--overwrite")
    assert target.read_text() == "mine"


def test_a_list_of_hard_frames_replaces_no_truth(vidpose, truth, data, tmp_path):
    before = truth.read_bytes()
    for gt in (truth, truth.parent):
        refused(vidpose("evaluate", gt, "--make-challenging", truth, "--overwrite"), truth)
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    refused(vidpose("evaluate", truth, "--make-challenging", mine), mine, "--overwrite")
    assert truth.read_bytes() == before and mine.read_text() == "mine"


@pytest.mark.parametrize("name", ["report.html", "report.png"])
def test_a_report_replaces_only_a_report(vidpose, data, tmp_path, name):
    root = Path(shutil.copytree(data, tmp_path / "data"))
    for _ in range(2):
        assert vidpose("data", "info", root, "-o", root / name, "--quiet").status == 0
    (tmp_path / name).write_text("mine")
    refused(vidpose("data", "info", root, "-o", tmp_path / name, "--quiet"), tmp_path / name, "--overwrite")
    assert (tmp_path / name).read_text() == "mine"
    shutil.copy(tmp_path / name, root / name)
    refused(vidpose("data", "info", root, "-o", root / name, "--overwrite"), root / name, "which is read")


def test_detected_boxes_replace_only_such_boxes(vidpose, data, tmp_path):
    run = partial(vidpose, "data", "detect", data, "--detector", "full-frame", "--quiet")
    target = tmp_path / "boxes.json"
    for _ in range(2):
        assert run("-o", target).status == 0
    target.write_text("[]")
    refused(run("-o", target), target, "--overwrite")
    target.unlink()
    part = tmp_path / "boxes.json.part"
    part.write_text("mine")
    for more in ((), ("--resume",)):
        refused(run("-o", target, *more), part)
    assert part.read_text() == "mine"
    labels = next(data.glob("annotations/val/*.json"))
    refused(run("-o", labels, "--overwrite"), labels, "which is read")


def test_synthesize_replaces_no_labels_of_another_origin(vidpose, tmp_path):
    run = partial(
        vidpose, "data", "synthesize", tmp_path, "--videos", 2, "--frames", 2, "--size", "192x108", "--quiet"
    )
    assert run().status == 0
    labels = tmp_path / "annotations" / "train" / "train_s000000_0001.json"
    labels.write_text('{"images": []}')
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    refused(run("--frames", 3), labels)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_synthesize_deletes_no_folder_with_files_of_the_user(vidpose, tmp_path):
    run = partial(
        vidpose, "data", "synthesize", tmp_path, "--videos", 1, "--size", "192x108", "--quiet", "--frames"
    )
    assert run(2).status == 0
    mine = tmp_path / "images" / "train" / "train_s000000_0000" / "notes.txt"
    hidden = tmp_path / "images" / "train" / ".train_s000000_0000-mine"
    hidden.mkdir()
    mine.write_text("mine")
    assert run(2).status == 0  # all is there already
    refused(run(3), mine)
    mine.rename(tmp_path / "notes.txt")
    assert run(3).status == 0 and hidden.is_dir()


def test_the_demonstration_replaces_no_file_of_its_folder(tmp_path):
    from vidpose import InputError, demo

    for name in ("data/people.mp4", "contact_sheet.png", "hrnet/people.json"):
        folder = tmp_path / name.partition(".")[0].replace("/", "_")
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("mine")
        with pytest.raises(InputError, match="is there already"):
            demo.run(folder)
        assert (folder / name).read_text() == "mine"
