"""Wrong input: exit status 2, one line that says what and where, nothing left behind."""

from __future__ import annotations

import json

import pytest

from vidpose.cli import main


def fails(answer, *said: str) -> None:
    assert answer.status == 2, answer
    assert answer.out == ""
    lines = answer.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("vidpose: "), answer.err
    assert "Traceback" not in answer.err
    for text in said:
        assert text in answer.err


@pytest.fixture
def estimate(vidpose, weights, tmp_path):
    """Runs ``estimate`` into a folder that must hold nothing afterwards; options may be replaced."""

    def run(source, *more, **options):
        chosen = {
            "model": "hrnet", "weights": weights["hrnet"], "detector": "full-frame",
            "output": tmp_path / "out", **options,
        }  # fmt: skip
        pairs = [text for name, value in chosen.items() for text in (f"--{name}", value)]
        answer = vidpose("estimate", source, *pairs, *more)
        assert not list((tmp_path / "out").glob("*"))
        return answer

    return run


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.mp4", None, "no such file"),
        ("empty.mp4", b"", "is empty"),
        ("text.mp4", b"I am no video\n" * 100, "is not a video"),
        ("picture.jpg", b"\xff\xd8\xff\xe0 broken", "cannot be decoded"),
        ("sub", "folder", "holds no images"),
    ],
)
@pytest.mark.parametrize("save_video", [(), ("--save-video",)])
def test_what_is_no_video(estimate, tmp_path, name, content, said, save_video):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    fails(estimate(path, *save_video), str(path), said)


def test_a_video_cut_off_before_its_index(estimate, video, tmp_path):
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[:300])
    fails(estimate(tmp_path / "cut.mp4", "--save-video"), "cut.mp4", "cut off")


def test_a_glob_without_matches_and_a_camera_that_is_not_there(estimate, tmp_path):
    fails(estimate(tmp_path / "*.mp4"), "matches nothing")
    fails(estimate(99), "camera 99")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "tdm"}, "tdmi"),
        ({"weights": "none.safetensors"}, "none.safetensors"),
        ({"detector": "yolo"}, "full-frame"),
        ({"detector": "none.json"}, "none.json"),
        ({"format": "xml"}, "posetrack18"),
        ({"tracker": "sort"}, "bytetrack"),
        ({"decoder": "argmax"}, "dark"),
        ({"device": "tpu"}, "cpu"),
        ({"precision": "int4"}, "int8"),
        ({"precision": "int8"}, "needs engine openvino"),
        ({"engine": "tensorrt"}, "known: auto, torch, openvino, onnxruntime"),
        ({"decode": "gpu"}, "known here: cpu, auto"),
        ({"hold": "99"}, "16"),
        ({"min-box-score": "x"}, "--min-box-score"),
        ({"colour": "red"}, "--colour"),
    ],
)
def test_wrong_options(estimate, video, options, said):
    fails(estimate(video, **options), said)


def test_weights_of_another_model_and_files_that_hold_none(estimate, video, weights, tmp_path):
    fails(estimate(video, weights=weights["tdmi"]), "holds a tdmi, not a hrnet", "--model tdmi")
    (tmp_path / "text.safetensors").write_text("weights")
    fails(estimate(video, weights=tmp_path / "text.safetensors"), "text.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(weights["hrnet"].read_bytes()[:5000])
    fails(estimate(video, weights=tmp_path / "cut.safetensors"), "cut.safetensors")


def test_boxes_that_belong_to_another_video(estimate, video, tmp_path):
    rows = [{"image_name": "x/000900.jpg", "frame_id": 900, "bbox": [1, 2, 3, 4]}]
    (tmp_path / "boxes.json").write_text(json.dumps(rows))
    fails(estimate(video, "--quiet", "--save-video", detector=tmp_path / "boxes.json"), "none of its boxes")


def test_output_that_cannot_be_written(vidpose, video, weights, tmp_path):
    (tmp_path / "file").write_text("keep me")
    common = ("--model", "hrnet", "--weights", weights["hrnet"], "--detector", "full-frame")
    fails(vidpose("estimate", video, "-o", tmp_path / "file", *common), "is a file")
    fails(vidpose("estimate", video, "-o", tmp_path / "file" / "sub", *common), "cannot be made")
    assert (tmp_path / "file").read_text() == "keep me"
    fails(vidpose("estimate", video, *common), "--output")


def test_inputs_are_not_replaced(vidpose, video, weights, boxes, tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(video.read_bytes())
    common = ("--model", "hrnet", "--weights", weights["hrnet"], "-o", tmp_path)
    fails(vidpose("estimate", clip, *common, "--detector", "full-frame", "--save-video"), "clip.mp4")
    mine = tmp_path / "clip.json"
    mine.write_bytes(boxes.read_bytes())
    fails(vidpose("estimate", clip, *common, "--detector", mine), "clip.json")
    assert clip.read_bytes() == video.read_bytes() and mine.read_bytes() == boxes.read_bytes()


def test_an_interrupted_run_leaves_nothing(vidpose, video, weights, tmp_path, monkeypatch):
    """A result of an earlier run stays as it was."""
    import vidpose.infer.estimate as module

    before = tmp_path / f"{video.stem}.json"
    before.write_text("{}")
    draw, calls = module._draw, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return draw(*arguments)

    monkeypatch.setattr(module, "_draw", interrupted)
    answer = vidpose(
        "estimate", video, "-o", tmp_path, "--model", "hrnet", "--weights", weights["hrnet"],
        "--detector", "full-frame", "--save-video", "--quiet", "--overwrite",
    )  # fmt: skip
    assert answer.status == 130 and answer.err == "vidpose: stopped\n"
    assert list(tmp_path.iterdir()) == [before] and before.read_text() == "{}"


def test_other_verbs(vidpose, video, truth, weights, tmp_path):
    fails(vidpose("view", tmp_path / "none.json"), "no such file")
    (tmp_path / "no.json").write_text("{}")
    fails(vidpose("view", tmp_path / "no.json"), "holds no poses")
    fails(vidpose("evaluate", truth, tmp_path / "none.json"), "none.json")
    fails(vidpose("evaluate", truth, truth, "--protocol", "mine"), "posetrack")
    fails(vidpose("data", "info", tmp_path / "none"), "none")
    fails(vidpose("models", "tdm"), "tdmi")
    fails(vidpose("export", "hrnet", "--weights", weights["hrnet"], "-o", tmp_path / "a.xyz"), ".onnx")
    fails(vidpose("dance"), "dance")


def test_an_error_of_our_own_is_no_input_error(monkeypatch, vidpose):
    """Anything but wrong input keeps its traceback, so that it can be reported: status 1."""
    import vidpose.evaluate as module

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(module, "evaluate", broken)
    with pytest.raises(ZeroDivisionError):
        main(["evaluate", "a", "b"])
