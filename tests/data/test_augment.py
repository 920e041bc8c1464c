"""Augmentation: ranges, distributions, and being a function of (seed, epoch, sample)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidpose.data.augment import (
    clip_generator,
    draw_augmentation,
    draw_photometric,
    hide_heads,
    paste_occluders,
)
from vidpose.geometry import apply_affine, crop_affine
from vidpose.skeletons import COCO17, POSETRACK15

BOX = np.array([10.0, 20.0, 60.0, 120.0])


def person(joints: int = 15) -> np.ndarray:
    keypoints = np.zeros((15, 3), dtype=np.float32)
    rng = np.random.default_rng(0)
    keypoints[:joints, :2] = rng.uniform([10, 20], [60, 120], (joints, 2))
    keypoints[:joints, 2] = 1
    return keypoints


def draws(mode: str, joints: int = 15, count: int = 2000):
    return [
        draw_augmentation(clip_generator(3, 1, k), BOX, person(joints), POSETRACK15, mode=mode)
        for k in range(count)
    ]


def test_uniform_fills_the_papers_ranges_evenly() -> None:
    drawn = draws("uniform")
    rotation = np.array([d.rotation_deg for d in drawn])
    scale = np.array([d.scale for d in drawn])
    # quartiles of uniform distributions on [-45, 45] and [0.65, 1.35]
    np.testing.assert_allclose(np.percentile(rotation, [25, 50, 75]), [-22.5, 0, 22.5], atol=4)
    np.testing.assert_allclose(np.percentile(scale, [25, 50, 75]), [0.825, 1.0, 1.175], atol=0.03)
    assert np.abs(rotation).max() <= 45 and scale.min() >= 0.65 and scale.max() <= 1.35
    assert np.mean([d.flip for d in drawn]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([d.padding == 1.5 for d in drawn]) == pytest.approx(0.3, abs=0.05)


def test_gaussian_is_what_released_code_draws() -> None:
    drawn = draws("gaussian")
    rotation = np.array([d.rotation_deg for d in drawn])
    scale = np.array([d.scale for d in drawn])
    assert np.mean(rotation == 0) == pytest.approx(0.4, abs=0.05)
    assert np.abs(rotation).max() == 90  # N(0, 45) clipped: P(|x| > 90) = 4.6 %
    assert np.mean(np.abs(rotation) == 90) == pytest.approx(0.6 * 0.0455, abs=0.015)
    assert np.mean((scale == 0.65) | (scale == 1.35)) == pytest.approx(0.317, abs=0.05)


def test_half_body_needs_more_than_eight_joints() -> None:
    assert all(
        d.padding == 1.25 and np.array_equal(d.box_xyxy, BOX) for d in draws("uniform", joints=8, count=200)
    )


def test_half_body_box_is_centred_on_its_joints() -> None:
    keypoints = person()
    halves = [d.box_xyxy for d in draws("uniform", count=300) if d.padding == 1.5]
    centres = {tuple(np.round((box[:2] + box[2:]) / 2, 3)) for box in halves}
    wanted = {
        tuple(np.round(keypoints[list(joints), :2].astype(float).mean(axis=0), 3))
        for joints in (POSETRACK15.upper_body, POSETRACK15.lower_body)
    }
    assert centres == wanted


def test_none_changes_nothing() -> None:
    drawn = draws("none", count=1)[0]
    assert (drawn.rotation_deg, drawn.scale, drawn.flip, drawn.padding) == (0, 1, False, 1.25)


def test_unknown_mode() -> None:
    with pytest.raises(ValueError, match="unknown augmentation"):
        draws("wild", count=1)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 10**6), st.integers(0, 10**7))
def test_same_numbers_same_draw(seed: int, epoch: int, sample: int) -> None:
    first, second = (
        draw_augmentation(clip_generator(seed, epoch, sample), BOX, person(), POSETRACK15) for _ in range(2)
    )
    assert np.array_equal(first.box_xyxy, second.box_xyxy)
    assert (first.rotation_deg, first.scale, first.flip) == (second.rotation_deg, second.scale, second.flip)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_the_augmented_box_centre_stays_in_the_middle(sample: int) -> None:
    drawn = draw_augmentation(clip_generator(0, 0, sample), BOX, person(), POSETRACK15)
    affine = crop_affine(
        drawn.box_xyxy, (64, 48), padding=drawn.padding, rotation_deg=drawn.rotation_deg, scale=drawn.scale,
        flip=drawn.flip,
    )  # fmt: skip
    centre = (drawn.box_xyxy[:2] + drawn.box_xyxy[2:]) / 2
    np.testing.assert_allclose(apply_affine(affine, centre), [23.5, 31.5], atol=1e-9)


def test_photometric_keeps_shape_and_is_repeatable() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 24, 3)).astype(np.uint8)
    before = frames.copy()
    outs = [draw_photometric(np.random.default_rng(k), frames, 1.0) for k in range(30)]
    again = [draw_photometric(np.random.default_rng(k), frames, 1.0) for k in range(30)]
    assert np.array_equal(frames, before)
    assert all(o.shape == frames.shape and o.dtype == np.uint8 for o in outs)
    assert all(np.array_equal(a, b) for a, b in zip(outs, again, strict=True))
    assert sum(not np.array_equal(o, frames) for o in outs) == 30
    assert draw_photometric(np.random.default_rng(0), frames, 0.0) is frames


def test_heads_are_hidden_around_the_nose_and_nowhere_else() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 96, 72, 3)).astype(np.uint8)
    before = frames.copy()
    keypoints = np.zeros((3, 15, 3))
    keypoints[:, 0] = [(30, 40, 1), (33, 42, 1), (36, 44, 0)]  # the last frame's nose has no label
    keypoints[:, 2] = keypoints[:, 0] - (0, 10, 0)
    keypoints[:, 2, 2] = 1
    rows, columns = np.mgrid[:96, :72]
    shares = set()
    for seed in range(40):
        out = hide_heads(np.random.default_rng(seed), frames, keypoints, POSETRACK15, 1.0)
        again = hide_heads(np.random.default_rng(seed), frames, keypoints, POSETRACK15, 1.0)
        assert np.array_equal(out, again) and np.array_equal(frames, before)
        assert np.array_equal(out[2], frames[2])
        for t in (0, 1):
            x, y = keypoints[t, 0, :2]
            near = np.maximum(abs(columns - x), abs(rows - y))
            changed = (out[t] != frames[t]).any(axis=-1)
            assert changed[near <= 3].mean() > 0.9 and not changed[near > 1.1 * 10 + 1].any()
            # What is left of the face differs far less from place to place.
            assert out[t][near <= 3].std() < 0.6 * frames[t][near <= 3].std()
        shares.add(round(float((out[0] != frames[0]).any(axis=-1).mean()), 3))
    assert len(shares) > 10  # sizes differ


def test_as_many_heads_are_hidden_as_asked_and_none_costs_no_draw() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3)).astype(np.uint8)
    keypoints = np.ones((1, 15, 3)) * (20, 20, 1)
    keypoints[:, 2] = (20, 12, 1)
    hidden = [
        hide_heads(np.random.default_rng(k), frames, keypoints, POSETRACK15, 0.3) is not frames
        for k in range(1000)
    ]
    assert 0.25 < np.mean(hidden) < 0.35
    rng = np.random.default_rng(0)
    assert hide_heads(rng, frames, keypoints, POSETRACK15, 0.0) is frames
    assert rng.random() == np.random.default_rng(0).random()
    unlabelled = keypoints * (1, 1, 0)
    assert hide_heads(np.random.default_rng(0), frames, unlabelled, COCO17, 1.0) is frames


def test_heads_are_found_by_what_is_labelled() -> None:
    """LSP has no nose, COCO no top of the head, JHMDB neither."""
    frames = np.random.default_rng(0).integers(0, 256, (1, 120, 80, 3)).astype(np.uint8)
    index = POSETRACK15.index
    places = {
        "nose": (40, 30), "head_bottom": (40, 42), "head_top": (40, 17), "left_shoulder": (52, 45),
        "right_shoulder": (28, 45), "left_hip": (48, 83), "right_hip": (32, 83),
    }  # fmt: skip
    rows, columns = np.mgrid[:120, :80]
    far = np.hypot(columns - 40, rows - 30)
    for known in (
        ("head_top", "head_bottom"),
        ("nose", "left_shoulder", "right_shoulder", "left_hip", "right_hip"),
        ("left_shoulder", "right_shoulder", "left_hip", "right_hip"),
    ):
        keypoints = np.zeros((1, 15, 3))
        for name in known:
            keypoints[0, index[name]] = (*places[name], 1)
        for seed in range(20):
            out = hide_heads(np.random.default_rng(seed), frames, keypoints, POSETRACK15, 1.0)
            changed = (out[0] != frames[0]).any(axis=-1)
            assert changed[far <= 3].mean() > 0.9 and not changed[far > 28].any()


@pytest.mark.parametrize("place", [(-30.0, 20.0), (39.9, 39.9), (0.0, 0.0)])
def test_heads_at_or_outside_the_border_are_no_trouble(place: tuple[float, float]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3)).astype(np.uint8)
    keypoints = np.ones((1, 15, 3)) * (*place, 1)
    for top in (8.0, 0.0):  # head_top on the nose: nothing to hide
        keypoints[:, 2] = (place[0], place[1] - top, 1)
        for seed in range(20):
            assert (
                hide_heads(np.random.default_rng(seed), frames, keypoints, POSETRACK15, 1.0).shape
                == frames.shape
            )


def test_occluders_lie_near_the_person_move_evenly_and_are_repeatable() -> None:
    frames = np.full((3, 96, 80, 3), 200, np.uint8)
    texture = np.zeros((50, 60, 3), np.uint8)
    joints = np.array([[20.0, 30.0], [22.0, 34.0]])
    covered = np.zeros((96, 80))
    for seed in range(60):
        out = paste_occluders(np.random.default_rng(seed), frames, joints, texture)
        again = paste_occluders(np.random.default_rng(seed), frames, joints, texture)
        assert np.array_equal(out, again) and (frames == 200).all()
        changed = (out != 200).any(axis=-1)
        assert changed.any(axis=(1, 2)).all() and not changed.all()
        covered += changed[1]
    # most often hidden: where the person is
    assert covered[22:42, 12:30].mean() > 4 * covered[70:, 60:].mean()
    assert np.array_equal(paste_occluders(np.random.default_rng(0), frames, joints[:0], texture), frames)
