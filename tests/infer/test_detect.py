"""Detectors: the right boxes from every kind, and those of transformers equal to its own pipeline's."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from vidpose.errors import InputError
from vidpose.geometry import box_iou
from vidpose.infer.detect import FrameKey, build_detector
from vidpose.models.person_detector import PersonDetector, save_detector


def tiny_checkpoint(kind: str, folder, labels=("person", "bicycle", "car")):
    """A random RT-DETR v2 or D-FINE in the format of the hub."""
    import transformers as t

    torch.manual_seed(7)
    names = dict(enumerate(labels))
    common = {
        "encoder_hidden_dim": 32, "encoder_in_channels": [8, 16, 16], "encoder_ffn_dim": 32, "d_model": 32,
        "num_queries": 20, "decoder_in_channels": [32, 32, 32], "decoder_ffn_dim": 32, "decoder_layers": 2,
        "decoder_attention_heads": 4, "encoder_attention_heads": 4, "encoder_layers": 1, "num_denoising": 0,
        "id2label": names, "label2id": {name: number for number, name in names.items()},
    }  # fmt: skip
    if kind == "rtdetr":
        backbone = t.RTDetrResNetConfig(
            embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        )  # fmt: skip
        model = t.RTDetrV2ForObjectDetection(t.RTDetrV2Config(backbone_config=backbone, **common))
    else:
        backbone = t.HGNetV2Config(
            stem_channels=[3, 8, 8], stage_in_channels=[8, 8, 8, 16], stage_mid_channels=[8] * 4,
            stage_out_channels=[8, 8, 16, 16], stage_num_blocks=[1] * 4, stage_numb_of_layers=[1] * 4,
            stage_downsample=[False, True, True, True], stage_light_block=[False] * 4,
            stage_kernel_size=[3] * 4, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, embedding_size=8,
            out_features=["stage2", "stage3", "stage4"],
        )  # fmt: skip
        model = t.DFineForObjectDetection(t.DFineConfig(backbone_config=backbone, **common))
    with torch.no_grad():  # spreads the scores, which random weights leave all near 0.01
        for head in [*model.model.decoder.class_embed, model.model.enc_score_head]:
            head.weight.normal_(0, 0.5)
            head.bias.zero_()
    model.save_pretrained(folder)
    t.RTDetrImageProcessor(size={"height": 96, "width": 96}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def photos():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in ((90, 160, 3), (120, 80, 3))]


@pytest.mark.parametrize("kind", ["rtdetr", "dfine"])
def test_boxes_are_those_of_transformers_own_pipeline(kind, tmp_path, photos, capfd):
    from PIL import Image
    from transformers import pipeline

    folder = tiny_checkpoint(kind, tmp_path)
    capfd.readouterr()
    detector = build_detector(str(folder), device="cpu", precision="fp32", min_score=0.2, nms_iou=1.0)
    found = detector(photos)
    assert capfd.readouterr().err == ""  # no warnings and bars of the library among ours
    theirs = pipeline("object-detection", model=str(folder), device="cpu")
    for photo, detection in zip(photos, found, strict=True):
        raw = theirs(Image.fromarray(photo), threshold=0.2)
        people = sorted((r for r in raw if r["label"] == "person"), key=lambda r: -r["score"])
        assert len({r["label"] for r in raw}) > 1 and len(people) > 2
        boxes = np.array([[r["box"][k] for k in ("xmin", "ymin", "xmax", "ymax")] for r in people])
        height, width = photo.shape[:2]
        boxes = boxes.clip(0, [width - 1, height - 1, width - 1, height - 1])
        visible = (boxes[:, 2:] - boxes[:, :2] > 3).all(axis=1)  # theirs are cut to whole pixels
        for box, person in zip(boxes[visible], np.array(people)[visible], strict=True):
            nearest = np.abs(detection.boxes_xyxy - box).max(axis=1).argmin()
            assert np.abs(detection.boxes_xyxy[nearest] - box).max() <= 1
            assert abs(detection.scores[nearest] - person["score"]) < 1e-4
        assert visible.sum() <= len(detection) <= len(people)


def test_bfloat16_finds_the_same(tmp_path, photos):
    folder = tiny_checkpoint("rtdetr", tmp_path)
    exact, rough = (
        build_detector(str(folder), device="cpu", precision=p, min_score=0.0, nms_iou=1.0)(photos)
        for p in ("fp32", "bf16")
    )
    for a, b in zip(exact, rough, strict=True):
        assert np.isfinite(b.boxes_xyxy).all() and len(b) > 0
        assert np.median(box_iou(a.boxes_xyxy, b.boxes_xyxy).max(axis=1)) > 0.8


def test_a_detector_without_people_is_told(tmp_path):
    folder = tiny_checkpoint("rtdetr", tmp_path, labels=("cat", "dog"))
    with pytest.raises(InputError, match=r"no class 'person'.*cat"):
        build_detector(str(folder), device="cpu")


def test_a_folder_that_holds_no_detector_is_told(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be loaded"):
        build_detector(str(tmp_path), device="cpu")


def test_the_hubs_detectors_without_a_network_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"PekingU/rtdetr_v2_r18vd: is not on this machine"):
        build_detector("rtdetr", device="cpu")


def test_full_frame_is_the_whole_picture(photos):
    detections = build_detector("full-frame")(photos)
    assert [d.boxes_xyxy.tolist() for d in detections] == [[[0, 0, 159, 89]], [[0, 0, 79, 119]]]
    assert all(d.scores.tolist() == [1] for d in detections)


def test_a_file_of_boxes(tmp_path, photos):
    rows = [
        {"frame_id": 0, "bbox": [-10, 5, 60, 40], "score": 0.9},
        {"frame_id": 0, "bbox": [-9, 5, 60, 40], "score": 0.8},  # the same person twice
        {"frame_id": 0, "bbox": [100, 5, 30, 40], "score": 0.1},  # too weak
        {"frame_id": 1, "bbox": [500, 5, 30, 40], "score": 0.9},  # outside of the picture
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(rows))
    detector = build_detector(tmp_path / "boxes.json", min_score=0.2)
    first, second = detector(photos, [FrameKey(0), FrameKey(1)])
    assert first.boxes_xyxy.tolist() == [[0, 5, 50, 45]] and first.scores[0] == pytest.approx(0.9)
    assert len(second) == 0


def test_our_own_network_from_a_file(tmp_path, photos):
    torch.manual_seed(0)
    save_detector(PersonDetector(), tmp_path / "own.safetensors")
    detector = build_detector(str(tmp_path / "own.safetensors"), device="cpu", min_score=0.0, max_people=5)
    for photo, detection in zip(photos, detector(photos), strict=True):
        height, width = photo.shape[:2]
        assert len(detection) <= 5 and (np.diff(detection.scores) <= 0).all()
        assert (detection.boxes_xyxy >= 0).all()
        assert (detection.boxes_xyxy <= [width - 1, height - 1, width - 1, height - 1]).all()


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        ("yolo", {}, "full-frame"),
        ("none.json", {}, "no such file"),
        ("full-frame", {"min_score": 1.5}, "0 to 1"),
        ("full-frame", {"nms_iou": 0.0}, "nms_iou"),
        ("full-frame", {"max_people": 0}, "max_people"),
    ],
)
def test_wrong_choices_are_told(spec, options, said):
    with pytest.raises(InputError, match=said):
        build_detector(spec, device="cpu", **options)
