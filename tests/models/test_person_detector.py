"""The small person detector: geometry of boxes, decoding, suppression, learning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vidpose.errors import InputError
from vidpose.geometry import box_iou, normalize_image
from vidpose.models.person_detector import (
    DetectorOutput,
    PersonDetector,
    decode,
    focal_loss,
    generalized_iou,
    letterbox,
    load_detector,
    make_targets,
    non_maximum_suppression,
    save_detector,
)


@pytest.fixture(scope="module")
def detector() -> PersonDetector:
    torch.manual_seed(0)
    return PersonDetector(backbone="hrnet_w8_small", long_side=128, head_channels=8).eval()


def as_output(boxes: list[np.ndarray], size: tuple[int, int]) -> DetectorOutput:
    """What a network that has learned its targets perfectly would return."""
    targets = make_targets(boxes, size)
    logits = torch.logit(targets.heatmap.clamp(1e-4, 1 - 1e-4))
    ys, xs = torch.meshgrid(torch.arange(size[0]) * 4 + 1.5, torch.arange(size[1]) * 4 + 1.5, indexing="ij")
    x1, y1, x2, y2 = targets.boxes.unbind(1)
    return DetectorOutput(logits, torch.stack([xs - x1, ys - y1, x2 - xs, y2 - ys], dim=1))


def test_perfect_network_returns_the_boxes():
    people = np.array([[10.3, 8.7, 40.2, 90.1], [60.0, 20.0, 85.5, 70.25], [100.0, 50.0, 109.0, 72.0]])
    boxes, scores = decode(as_output([people, people[:0]], (32, 32)))
    found = boxes[0][scores[0] > 0.9]
    assert len(found) == 3
    overlap = box_iou(people, found)
    assert overlap.max(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert (scores[1] < 0.01).all()


def test_letterbox_keeps_places():
    """A bright pixel block found in the canvas maps back to where it was in the image."""
    image = np.zeros((101, 333, 3), dtype=np.uint8)
    image[40:60, 200:240] = 255
    canvas, scale = letterbox(image, 128)
    assert canvas.shape[0] % 32 == 0 and canvas.shape[1] % 32 == 0 and max(canvas.shape) == 128
    ys, xs = np.nonzero(canvas[..., 0] > 127)
    weights = canvas[..., 0].astype(float)
    centre = np.array(
        [
            (weights.sum(0) * np.arange(canvas.shape[1])).sum(),
            (weights.sum(1) * np.arange(canvas.shape[0])).sum(),
        ]
    )
    back = (centre / weights.sum() + 0.5) / scale[:2] - 0.5
    assert back == pytest.approx([219.5, 49.5], abs=0.1)
    assert len(xs) and len(ys)


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.float64, st.tuples(st.integers(0, 12), st.just(4)), elements=st.floats(0, 50)),
    st.floats(0.1, 1.0),
    st.integers(0, 2**31),
)
def test_suppression_against_the_slow_way(corners, limit, seed):
    boxes = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:] + 1], axis=1)
    scores = np.random.default_rng(seed).random(len(boxes))
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(box_iou(boxes[i : i + 1], boxes[k : k + 1])[0, 0] <= limit for k in kept):
            kept.append(i)
    assert non_maximum_suppression(boxes, scores, limit).tolist() == kept


def test_generalized_iou_known_values():
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    b = torch.tensor([[1.0, 0.0, 3.0, 2.0], [0.0, 0.0, 2.0, 2.0], [3.0, 0.0, 5.0, 2.0]])
    # IoU 1/3 with a full hull; identical; apart: -(hull 10 - union 8) / 10
    assert generalized_iou(a.expand(3, 4), b).tolist() == pytest.approx([1 / 3, 1.0, -0.2])


def test_ignored_cells_have_no_gradient():
    logits = torch.zeros(1, 4, 4, requires_grad=True)
    mask = torch.ones(1, 4, 4)
    mask[0, 0] = 0
    focal_loss(logits, torch.zeros(1, 4, 4), mask).backward()
    assert logits.grad is not None
    assert (logits.grad[0, 0] == 0).all() and (logits.grad[0, 1:] > 0).all()


def test_detect_returns_boxes_inside_the_image(detector):
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((90, 160, 3), (160, 90, 3), (90, 160, 3))
    ]
    found = detector.detect(images, min_score=0.0, max_people=7)
    assert len(found) == 3
    for image, (boxes, scores) in zip(images, found, strict=True):
        height, width = image.shape[:2]
        assert boxes.shape == (len(scores), 4) and 0 < len(scores) <= 7
        assert (
            (boxes[:, :2] >= -0.5).all()
            and (boxes[:, 2] <= width - 0.5).all()
            and (boxes[:, 3] <= height - 0.5).all()
        )
        assert (np.diff(scores) <= 0).all()
    alone = detector.detect(images[1:2], min_score=0.0, max_people=7)[0]
    np.testing.assert_allclose(alone[0], found[1][0], atol=1e-2)


def test_learns_bright_rectangles():
    """Ninety steps on one picture are enough to find what is in it."""
    torch.manual_seed(0)
    model = PersonDetector(backbone="hrnet_w8_small", long_side=96, head_channels=8).train()
    image = np.full((96, 96, 3), 60, dtype=np.uint8)
    people = np.array([[8.0, 12.0, 32.0, 72.0], [56.0, 20.0, 84.0, 88.0]])
    for x1, y1, x2, y2 in people.astype(int):
        image[y1:y2, x1:x2] = (220, 180, 90)
    batch = torch.from_numpy(normalize_image(image[None])).repeat(2, 1, 1, 1)
    targets = make_targets([people, people], (24, 24))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 90)  # else the last step may be a bad one
    for _ in range(90):
        optimizer.zero_grad()
        loss = model.losses(model(batch), targets)["total"]
        loss.backward()
        optimizer.step()
        decay.step()
    boxes, scores = model.eval().detect([image], min_score=0.3)[0]
    assert len(boxes) == 2, scores
    assert (box_iou(people, boxes).max(axis=1) > 0.7).all()


@pytest.mark.parametrize("options", [{"long_side": 100}, {"backbone": "hrnet"}, {"pretrained": True}])
def test_wrong_switches_are_told(options):
    with pytest.raises(InputError):
        PersonDetector(**options)


def test_checkpoint_round_trip(detector, tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (64, 128, 3), dtype=np.uint8)
    before = detector.detect([image], min_score=0.0)[0]
    save_detector(detector, tmp_path / "whole.safetensors", half=False)
    save_detector(detector, tmp_path / "half.safetensors", {"data": "none"})
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * (
        tmp_path / "whole.safetensors"
    ).stat().st_size
    whole = load_detector(tmp_path / "whole.safetensors").detect([image], min_score=0.0)[0]
    np.testing.assert_array_equal(whole[0], before[0])
    half = load_detector(tmp_path / "half.safetensors")
    assert half.config == detector.config and next(half.parameters()).dtype == torch.float32
    assert half.detect([image], min_score=0.0)[0][1] == pytest.approx(before[1], abs=0.01)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError):
        load_detector(tmp_path / "x.safetensors")
