"""The one affine, targets and decoding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidpose import geometry as g
from vidpose.skeletons import POSETRACK15

coordinate = st.floats(-5000, 5000)
size = st.sampled_from([(384, 288), (256, 192), (128, 96), (224, 168)])


@given(
    x=coordinate,
    y=coordinate,
    w=st.floats(1, 4000),
    h=st.floats(1, 4000),
    input_size=size,
    rotation=st.floats(-90, 90),
    scale=st.floats(0.5, 1.5),
    flip=st.booleans(),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=300, deadline=None)
def test_affine_round_trip(x, y, w, h, input_size, rotation, scale, flip, seed):
    affine = g.crop_affine([x, y, x + w, y + h], input_size, rotation_deg=rotation, scale=scale, flip=flip)
    points = np.random.default_rng(seed).uniform(-6000, 6000, (32, 2))
    back = g.apply_affine(g.invert_affine(affine), g.apply_affine(affine, points))
    assert np.abs(back - points).max() <= 1e-4


@given(x=coordinate, y=coordinate, w=st.floats(2, 3000), h=st.floats(2, 3000), input_size=size)
@settings(max_examples=100, deadline=None)
def test_crop_holds_the_grown_box_and_keeps_the_aspect(x, y, w, h, input_size):
    height, width = input_size
    affine = g.crop_affine([x, y, x + w, y + h], input_size, padding=1.25)
    left, top = g.apply_affine(g.invert_affine(affine), np.array([0.0, 0.0]))
    right, bottom = g.apply_affine(g.invert_affine(affine), np.array([width - 1.0, height - 1.0]))
    assert right - left >= 1.25 * w - 1e-6 and bottom - top >= 1.25 * h - 1e-6
    assert (right - left) / (bottom - top) == pytest.approx(width / height)
    assert (left + right) / 2 == pytest.approx(x + w / 2, abs=1e-6)
    tight = np.isclose(right - left, 1.25 * w) or np.isclose(bottom - top, 1.25 * h)
    assert tight


def test_rotation_is_clockwise_and_flip_mirrors():
    box = [0, 0, 100, 100]
    up = np.array([50.0, 10.0])
    turned = g.apply_affine(g.crop_affine(box, (101, 101), padding=1, rotation_deg=90), up)
    assert turned[0] > 80 and turned[1] == pytest.approx(50)
    plain = g.apply_affine(g.crop_affine(box, (101, 101), padding=1), np.array([10.0, 50.0]))
    mirrored = g.apply_affine(g.crop_affine(box, (101, 101), padding=1, flip=True), np.array([10.0, 50.0]))
    assert mirrored[0] == pytest.approx(100 - plain[0])


def test_warped_pixels_land_where_the_affine_says():
    image = np.zeros((120, 160, 3), np.uint8)
    image[40:43, 70:73] = 255  # a blob centred on (71, 41)
    affine = g.crop_affine([40, 10, 110, 90], (128, 96))
    crop = g.warp_image(image, affine, (128, 96))[..., 0].astype(float)
    ys, xs = np.mgrid[:128, :96]
    centre = np.array([(xs * crop).sum(), (ys * crop).sum()]) / crop.sum()
    assert np.abs(centre - g.apply_affine(affine, np.array([71.0, 41.0]))).max() < 0.1


@given(
    heatmap=st.sampled_from([((64, 48), 2.0), ((96, 72), 3.0), ((32, 24), 2.0), ((32, 24), 1.5)]),
    seed=st.integers(0, 2**31),
    method=st.sampled_from(["dark", "udp"]),
    height=st.floats(0.3, 1.0),
)
@settings(max_examples=60, deadline=None)
def test_dark_finds_clean_gaussians_everywhere(heatmap, seed, method, height):
    (h, w), sigma = heatmap
    points = np.random.default_rng(seed).uniform(0, 1, (4, 15, 2)) * [w - 1, h - 1]
    maps = height * g.gaussian_heatmaps(points, np.ones((4, 15)), (h, w), sigma)
    found, scores = g.decode_heatmaps(maps, method, sigma)
    assert np.linalg.norm(found.numpy() - points, axis=-1).max() <= 0.05
    assert scores.max() <= height + 1e-6


@pytest.mark.parametrize(("method", "limit"), [("plain", 0.7072), ("quarter", 0.355)])
def test_simple_decoders_stay_within_their_rounding(method, limit):
    points = np.random.default_rng(0).uniform(2, 20, (50, 15, 2))
    maps = g.gaussian_heatmaps(points, np.ones((50, 15)), (24, 24), 2.0)
    found, _ = g.decode_heatmaps(maps, method)
    assert np.linalg.norm(found.numpy() - points, axis=-1).max() <= limit


def test_noise_moves_dark_less_than_plain_rounding():
    points = np.random.default_rng(1).uniform(8, 40, (100, 15, 2))
    maps = g.gaussian_heatmaps(points, np.ones((100, 15)), (64, 48), 2.0)
    maps += 0.03 * torch.randn(maps.shape, generator=torch.Generator().manual_seed(0))
    error = {
        m: np.linalg.norm(g.decode_heatmaps(maps, m, 2.0)[0].numpy() - points, axis=-1).mean()
        for m in ("plain", "quarter", "dark")
    }
    assert error["dark"] < error["quarter"] < error["plain"]


def test_degenerate_heatmaps_decode_without_complaint():
    maps = torch.zeros(3, 4, 16, 12)
    maps[1] = -1.0
    maps[2] = float("nan")
    for method in g.DECODERS:
        points, scores = g.decode_heatmaps(maps, method)
        assert torch.isfinite(points).all() and (scores == 0).all()


def test_unknown_decoder_is_named():
    with pytest.raises(ValueError, match="known: plain"):
        g.decode_heatmaps(torch.zeros(1, 1, 4, 4), "softargmax")


def test_targets_peak_at_the_point_and_vanish_without_label():
    maps = g.gaussian_heatmaps(np.array([[5.0, 7.0], [5.0, 7.0]]), np.array([1, 0]), (16, 12), 2.0)
    assert maps[0, 7, 5] == 1 and maps[1].abs().sum() == 0
    released = g.gaussian_heatmaps(np.array([[5.4, 7.6]]), np.array([1]), (32, 32), 2.0, rounded=True)[0]
    assert released[8, 5] == 1 and released[8, 12] == 0 and released[8, 11] > 0


def test_flipped_heatmaps_come_back():
    points = np.random.default_rng(2).uniform(3, 20, (15, 2))
    maps = g.gaussian_heatmaps(points, np.ones(15), (24, 24), 2.0)
    mirrored = g.flip_keypoints(points, 24, POSETRACK15)
    again = g.flip_heatmaps(g.gaussian_heatmaps(mirrored, np.ones(15), (24, 24), 2.0), POSETRACK15)
    assert torch.allclose(again, maps, atol=1e-6)


def test_heatmap_and_input_pixels_convert_both_ways():
    points = np.random.default_rng(3).uniform(0, 96, (10, 2))
    there = g.input_to_heatmap(points, (384, 288), (96, 72))
    assert np.allclose(g.heatmap_to_input(there, (384, 288), (96, 72)), points)
    corner = g.input_to_heatmap(np.array([287.0, 383.0]), (384, 288), (96, 72))
    assert np.allclose(corner, [71, 95])


@given(seed=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_iou_against_counting_pixels(seed):
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 20, (2, 3, 2))
    boxes = np.concatenate([low, low + rng.integers(0, 15, (2, 3, 2))], axis=-1)
    masks = np.zeros((2, 3, 40, 40), bool)
    for i in range(2):
        for j in range(3):
            x1, y1, x2, y2 = boxes[i, j]
            masks[i, j, y1:y2, x1:x2] = True
    iou = g.box_iou(boxes[0], boxes[1])
    for a in range(3):
        for b in range(3):
            union = (masks[0, a] | masks[1, b]).sum()
            want = (masks[0, a] & masks[1, b]).sum() / union if union else 0
            assert iou[a, b] == pytest.approx(want)


def test_box_forms_round_trip_and_clip():
    boxes = np.array([[10.0, 20.0, 30.0, 40.0], [-5.0, -5.0, 500.0, 7.0]])
    assert np.allclose(g.xywh_to_xyxy(g.xyxy_to_xywh(boxes)), boxes)
    assert g.clip_boxes(boxes, (100, 200)).tolist()[1] == [0, 0, 200, 7]
    assert g.enclosing_box(np.zeros((3, 2)), np.zeros(3)) is None


def test_oks_is_one_for_the_same_pose_and_falls_with_distance():
    pose = np.random.default_rng(0).uniform(0, 100, (15, 2))
    oks = [
        g.object_keypoint_similarity(pose, pose + d, 100.0 * 50, POSETRACK15.sigmas) for d in (0, 2, 5, 20)
    ]
    assert oks[0] == 1 and all(a > b for a, b in zip(oks, oks[1:], strict=False))
    one = g.object_keypoint_similarity(pose[:1], pose[:1] + [[3, 4]], 400.0, np.array([0.1]))
    assert one == pytest.approx(np.exp(-25 / (2 * 0.04 * 400)))
