"""Crops and resized pictures made on the device are those of OpenCV, and each frame is uploaded once."""

from __future__ import annotations

import gc
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import vidpose
from vidpose.geometry import IMAGENET_MEAN, IMAGENET_STD, box_iou, crop_affine, invert_affine, warp_image
from vidpose.infer.cutters import (
    DeviceCutter,
    HostCutter,
    make_cutter,
    resize_matrix,
    sample_crops,
)
from vidpose.infer.detect import build_detector
from vidpose.infer.estimator import PoseEstimator
from vidpose.io.video import open_video
from vidpose.results import FramePoses

CPU = torch.device("cpu")
CLIP = Path(vidpose.__file__).parent / "examples" / "people.mp4"
SIZE = (64, 48)


def levels(normalised: torch.Tensor) -> np.ndarray:
    """Normalised [N, 3, h, w] -> [N, h, w, 3] in 0..255."""
    pixels = normalised.permute(0, 2, 3, 1) * torch.tensor(IMAGENET_STD) + torch.tensor(IMAGENET_MEAN)
    return (pixels * 255).numpy()


def smooth_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """[H, W, 3] uint8 whose neighbouring pixels differ by few levels."""
    noise = np.random.default_rng(seed).uniform(0, 255, (height // 16, width // 16, 3))
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def bilinear(image: np.ndarray, affine: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The crop [h, w, 3] in float64, pixel by pixel; black outside the image."""
    inverse, (height, width) = invert_affine(affine), image.shape[:2]
    out = np.zeros((*size, 3))
    for v, u in np.ndindex(*size):
        x, y = inverse @ (u, v, 1)
        for column, row in (
            (c, r) for c in (np.floor(x), np.floor(x) + 1) for r in (np.floor(y), np.floor(y) + 1)
        ):
            if 0 <= column < width and 0 <= row < height:
                share = (1 - abs(x - column)) * (1 - abs(y - row))
                out[v, u] += share * image[int(row), int(column)]
    return out


AFFINES = [
    crop_affine(np.array([20.0, 10.0, 90.0, 120.0]), SIZE),
    crop_affine(np.array([-40.5, -30.0, 60.0, 90.0]), SIZE, rotation_deg=37.0),  # partly outside
    crop_affine(np.array([30.0, 40.0, 34.0, 46.0]), SIZE),  # enlarged
    crop_affine(np.array([500.0, 500.0, 600.0, 700.0]), SIZE),  # outside
]


def test_crops_of_pictures_of_different_sizes_are_the_bilinear_ones():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((120, 160), (97, 33), (120, 160))]
    pairs = [(images[k % 3], affine) for k, affine in enumerate([*AFFINES, *AFFINES])]
    crops = DeviceCutter(CPU).crops(pairs, SIZE)
    assert crops.shape == (8, 3, *SIZE) and crops.dtype == torch.float32
    assert crops.is_contiguous(memory_format=torch.channels_last)
    expected = np.stack([bilinear(image, affine, SIZE) for image, affine in pairs])
    assert np.abs(levels(crops) - expected).max() < 0.52  # rounded to whole levels
    assert np.abs(levels(crops)[3]).max() < 1e-3


def test_crops_are_those_of_warp_image():
    images = [smooth_image(240, 320), smooth_image(160, 96, seed=1)]
    pairs = [(image, affine) for image in images for affine in AFFINES]
    ours, theirs = (cutter(CPU).crops(pairs, SIZE) for cutter in (DeviceCutter, HostCutter))
    away = np.abs(levels(ours) - levels(theirs))
    assert away.max() < 1.01
    assert (away > 0.5).mean() < 0.01
    [first] = levels(HostCutter(CPU).crops(pairs[:1], SIZE))
    assert np.abs(first - warp_image(images[0], AFFINES[0], SIZE)).max() < 1e-3


def test_a_position_far_into_the_pixels_is_exact():
    pixels = torch.zeros((2**25 + 7, 3), dtype=torch.uint8)  # float32 counts to 2**24
    pixels[-4:] = torch.tensor([[1], [2], [3], [4]], dtype=torch.uint8)
    places = torch.tensor([[2**25 + 3, 2, 2]])
    found = sample_crops(pixels, places, torch.tensor([[[1.0, 0, 0], [0, 1.0, 0]]]), (2, 2))
    assert found[0, ..., 0].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("size", [(240, 320), (234, 321), (480, 208), (50, 40)])
@pytest.mark.parametrize("long_side", [64, 96, 320])
def test_resized_pictures_are_those_of_opencv(size: tuple[int, int], long_side: int):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    device, host = DeviceCutter(CPU), HostCutter(CPU)
    ours, theirs = device.reduce(image, long_side), host.reduce(image, long_side)
    assert ours.shape == theirs.shape
    assert np.abs(np.asarray(ours).astype(int) - np.asarray(theirs)).max() <= 1
    assert np.array_equal(device.mirror(image), host.mirror(image))
    (canvas, scale), (expected, expected_scale) = (
        c.letterbox([image] * 2, long_side) for c in (device, host)
    )
    assert np.array_equal(scale, expected_scale)
    assert canvas.shape == expected.shape and canvas.stride() == expected.stride()
    assert np.abs(levels(canvas) - levels(expected)).max() < 1.01


def test_rows_of_a_resize_are_means():
    assert resize_matrix(6, 3).tolist() == [
        [0.5, 0.5, 0, 0, 0, 0],
        [0, 0, 0.5, 0.5, 0, 0],
        [0, 0, 0, 0, 0.5, 0.5],
    ]
    assert resize_matrix(3, 2) == pytest.approx(np.array([[2, 1, 0], [0, 1, 2]]) / 3)
    assert resize_matrix(2, 4).tolist() == [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    assert np.array_equal(resize_matrix(5, 5), np.eye(5))


def test_a_held_frame_is_uploaded_once_and_others_each_time():
    cutter, image = DeviceCutter(CPU), smooth_image(120, 160)
    pair = (image, AFFINES[2])
    cutter.hold(image)
    assert cutter.uploads == cutter.frames_held == 0  # not before it is needed
    before = cutter.crops([pair, pair], SIZE)
    cutter.reduce(image, 64), cutter.mirror(image), cutter.letterbox([image], 64)
    assert cutter.uploads == cutter.frames_held == 1
    cutter.release(image)
    cutter.release(image)
    assert cutter.frames_held == 0
    image[:] = 255 - image  # what is not held may change
    after = cutter.crops([pair], SIZE)
    assert cutter.uploads == 2 and cutter.frames_held == 0
    assert np.abs(levels(after) + levels(before[:1]) - 255).max() < 1.01


def test_a_held_frame_that_nobody_has_is_forgotten():
    cutter = DeviceCutter(CPU)
    for _ in range(3):
        image = smooth_image(120, 160)
        cutter.hold(image)
        cutter.crops([(image, AFFINES[0])], SIZE)
        assert cutter.frames_held == 1
        del image
        gc.collect()
        assert cutter.frames_held == 0


def test_the_device_chooses_the_cutter():
    assert isinstance(make_cutter(CPU), HostCutter)
    assert isinstance(make_cutter(torch.device("meta")), DeviceCutter)


def poses_of(estimator: PoseEstimator, frames: int) -> tuple[list[FramePoses], int]:
    """The poses of the example's first frames, and how many of them were on the device at most."""
    asked, poses, most = count(), [], 0
    with estimator.stream(CLIP, stop=lambda: next(asked) >= frames) as stream:
        for found in stream:
            poses.append(found)
            most = max(most, getattr(estimator.cutter, "frames_held", 0))
    return poses, most


@pytest.mark.parametrize(("model", "tracker"), [("tdmi", "bytetrack"), ("tdmi", "poses"), ("hrnet", "none")])
def test_poses_of_a_video_are_the_same_whoever_cuts(model: str, tracker: str):
    frames = 8
    detector = build_detector(device="cpu", precision="fp32")
    found = {}
    for name, cutter in (("host", HostCutter(CPU)), ("device", DeviceCutter(CPU))):
        estimator = PoseEstimator(
            model, tracker=tracker, precision="fp32", detector=detector, cutter=cutter, detect_every=0.5
        )
        assert estimator.runner.cutter is cutter
        found[name], most = poses_of(estimator, frames)
    assert len(found["host"]) == frames
    for expected, poses in zip(found["host"], found["device"], strict=True):
        assert len(poses) == len(expected) > 0
        assert np.array_equal(poses.track_ids, expected.track_ids)
        assert poses.boxes == pytest.approx(expected.boxes, abs=0.5)  # some are drawn around poses
        assert poses.scores == pytest.approx(expected.scores, abs=0.02)
    away = np.concatenate(
        [
            np.linalg.norm(poses.keypoints - expected.keypoints, axis=-1).reshape(-1)
            for expected, poses in zip(found["host"], found["device"], strict=True)
        ]
    )
    assert np.median(away) < 0.01
    assert (away > 0.5).mean() < 0.02  # of two places that are equally likely, the other one
    assert cutter.uploads == frames  # each frame once, however many people and clips
    assert 0 < most <= frames
    assert cutter.frames_held == 0


def test_the_detector_and_its_second_look_share_the_frames():
    with open_video(CLIP) as video:
        image = next(video).image
    found = []
    for cutter in (HostCutter(CPU), DeviceCutter(CPU)):
        cutter.hold(image)
        [detection] = build_detector(device="cpu", precision="fp32", cutter=cutter)([image])
        found.append(detection)
    assert cutter.uploads == 1
    expected, ours = found
    assert len(ours) == len(expected) > 0
    assert np.diag(box_iou(ours.boxes_xyxy, expected.boxes_xyxy)).min() > 0.95
    assert ours.scores == pytest.approx(expected.scores, abs=0.05)
