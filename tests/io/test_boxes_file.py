"""Boxes of other people's detectors."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vidpose.errors import InputError
from vidpose.io.formats import load_boxes


def write(path, value):
    path.write_text(json.dumps(value))
    return path


def test_boxes_by_name_by_end_of_name_and_by_index(tmp_path):
    entries = [
        {"image_name": f"images/val/000001_mpii_test/{i:06d}.jpg", "bbox": [i, 2, 10, 20],
         "score": 0.5 + i / 10, "category_id": 1}
        for i in (0, 0, 3)
    ]  # fmt: skip
    entries.append({**entries[0], "category_id": 3})  # a car
    boxes = load_boxes(write(tmp_path / "boxes.json", entries))
    found, scores = boxes.get("images/val/000001_mpii_test/000000.jpg")
    assert np.allclose(found, [[0, 2, 10, 22]] * 2) and np.allclose(scores, 0.5)
    assert np.allclose(boxes.get("000003.jpg")[0], [[3, 2, 13, 22]])
    assert np.allclose(boxes.get(None, 3)[1], [0.8])
    for nobody in (boxes.get("000001.jpg", 1), boxes.get(None, 1)):
        assert nobody[0].shape == (0, 4) and nobody[1].shape == (0,)


def test_indices_of_several_videos_do_not_mix(tmp_path):
    entries = [{"image_name": f"{video}/000000.jpg", "bbox": [0, 0, 1, 1], "score": 1} for video in "ab"]
    boxes = load_boxes(write(tmp_path / "boxes.json", entries))
    assert boxes.by_index == {}
    assert len(boxes.get("000000.jpg")[0]) == 0  # could be either's
    assert len(boxes.get("b/000000.jpg")[0]) == 1


def test_frame_ids(tmp_path):
    entries = [
        {"frame_id": 7, "bbox": [0, 0, 1, 1], "score": 1},
        {"image_id": 10000010008, "bbox": [0, 0, 1, 1], "score": 1},
    ]
    assert set(load_boxes(write(tmp_path / "boxes.json", entries)).by_index) == {7, 8}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image_name": "a.jpg", "bbox": [1, 2, 3]}, "entry 1: bbox needs 4 numbers"),
        ({"image_name": "a.jpg"}, "entry 1: bbox needs 4 numbers"),
        ({"image_name": "a.jpg", "bbox": [1, 2, -3, 4]}, "entry 1: bbox has a negative"),
        ({"image_name": "a.jpg", "bbox": [1, 2, "x", 4]}, "entry 1:.*not a number"),
        ({"image_name": "a.jpg", "bbox": [1, 2, float("nan"), 4]}, "entry 1:.*not finite"),
        ({"bbox": [1, 2, 3, 4]}, "entry 1: needs an image_name"),
        ({"frame_id": -1, "bbox": [1, 2, 3, 4]}, "entry 1: frame_id -1"),
        ([1, 2], "entry 1: is not an object"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, entry, message):
    good = {"image_name": "a.jpg", "bbox": [0, 0, 1, 1], "score": 1}
    with pytest.raises(InputError, match=message):
        load_boxes(write(tmp_path / "boxes.json", [good, entry]))


def test_real_detections(shared_dir):
    if shared_dir is None:
        pytest.skip("no real detections here")
    path = shared_dir / "fixtures" / "posetrack18" / "annotations" / "test_posetrack18_human_detections.json"
    boxes = load_boxes(path)
    rows = [entry for entry in json.loads(path.read_text()) if entry["image_id"] == 10128340000]
    assert len(boxes.by_image_id[10128340000]) == len(rows)
    x, y, w, h = rows[0]["bbox"]
    assert np.allclose(boxes.by_image_id[10128340000][0], [x, y, x + w, y + h, rows[0]["score"]])
