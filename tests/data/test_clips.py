"""Clips: the right frames, one affine for all, targets where the joints are, each frame decoded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_posetrack import make_posetrack
from vidpose.data import clips as clips_module
from vidpose.data.clips import (
    ClipDataset,
    clip_indices,
    collate_clips,
    detected_samples,
    ground_truth_samples,
    prepare_clips,
)
from vidpose.data.readers import read_dataset, read_image
from vidpose.errors import InputError
from vidpose.geometry import apply_affine, heatmap_to_input, invert_affine, normalize_image
from vidpose.skeletons import POSETRACK15

SIZES = {"input_size": (64, 48), "heatmap_size": (16, 12)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory):
    return read_dataset(make_posetrack(tmp_path_factory.mktemp("pt"), unlabeled=(1,)), "train")


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.data(), st.integers(0, 4))
def test_neighbours_are_clamped_and_in_order(length: int, draw: st.DataObject, reach: int) -> None:
    key = draw.draw(st.integers(0, length - 1))
    indices = clip_indices(key, 2 * reach + 1, length)
    assert indices == sorted(indices) and indices[reach] == key
    assert set(indices) <= set(range(length))
    assert indices == [int(np.clip(k, 0, length - 1)) for k in range(key - reach, key + reach + 1)]


def test_samples_are_people_of_labelled_frames(data) -> None:
    samples = ground_truth_samples(data)
    assert len(samples) == 2 * 5 * 2
    assert all(s.frame != 1 and s.box_score == 1 for s in samples)


def test_crops_hold_the_frames_under_one_affine(data) -> None:
    samples = ground_truth_samples(data)
    dataset = ClipDataset(data, samples, num_frames=5, **SIZES)
    position = next(k for k, s in enumerate(samples) if s.frame == 2)
    item = dataset[position]
    assert item["clip"].shape == (5, 64, 48, 3) and item["clip"].dtype == np.uint8
    # the slow obvious version: bilinear reading of the source at the inverse of every crop pixel
    back = invert_affine(item["affine"])
    for t, frame in enumerate([0, 1, 2, 3, 4]):
        source = read_image(data.videos[0].frames[frame].path).astype(float)
        rng = np.random.default_rng(t)
        for _ in range(30):
            x, y = rng.integers(48), rng.integers(64)
            u, v = apply_affine(back, np.array([x, y]))
            if 0 <= u < 95 and 0 <= v < 63:
                i, j, a, b = int(v), int(u), v - int(v), u - int(u)
                patch = source[i : i + 2, j : j + 2]
                value = np.einsum("i,j,ijc->c", [1 - a, a], [1 - b, b], patch)
                assert np.abs(item["clip"][t, y, x] - value).max() < 12  # OpenCV's positions are 1/32 px


@pytest.mark.parametrize("augment", ["none", "uniform", "gaussian"])
def test_targets_lead_back_to_the_labels(data, augment: str) -> None:
    samples = ground_truth_samples(data)
    dataset = ClipDataset(data, samples, num_frames=3, augment=augment, seed=1, **SIZES)
    flips = 0
    for position in range(len(dataset)):
        item = dataset[(4, position)]
        sample = samples[position]
        mirrored = np.linalg.det(item["affine"][:, :2]) < 0
        flips += mirrored
        crop = heatmap_to_input(item["points"], (64, 48), (16, 12))
        image = apply_affine(invert_affine(item["affine"]), crop)
        for t, index in enumerate(dataset.frame_indices(sample)):
            people = {p.track_id: p for p in data.videos[sample.video].frames[index].people}
            if sample.track_id not in people:
                assert item["weights"][t].sum() == 0
                continue
            truth = people[sample.track_id].keypoints
            order = POSETRACK15.flip_permutation if mirrored else np.arange(15)
            kept = item["weights"][t] > 0
            np.testing.assert_allclose(image[t][kept], truth[order][kept, :2], atol=1e-3)
            x, y = crop[t][..., 0], crop[t][..., 1]
            inside = (x > -0.5) & (x < 47.5) & (y > -0.5) & (y < 63.5)
            assert np.array_equal(kept, inside)
    assert (flips > 0) == (augment != "none")


def test_items_depend_on_seed_epoch_and_index_only(data) -> None:
    samples = ground_truth_samples(data)

    def pixels(seed: int, epoch: int, cache: str) -> np.ndarray:
        dataset = ClipDataset(
            data, samples, num_frames=3, augment="uniform", photometric=0.5, seed=seed, cache=cache, **SIZES
        )
        dataset[(epoch + 1, 0)]
        return dataset[(epoch, 5)]["clip"]

    first = pixels(0, 2, "none")
    assert np.array_equal(first, pixels(0, 2, "ram"))
    assert not np.array_equal(first, pixels(0, 3, "none"))
    assert not np.array_equal(first, pixels(1, 2, "none"))


def test_no_frame_is_decoded_twice_for_a_clip(data, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counting(path: Path) -> np.ndarray:
        read.append(path)
        return read_image(path)

    monkeypatch.setattr(clips_module, "read_image", counting)
    samples = ground_truth_samples(data)
    dataset = ClipDataset(data, samples, num_frames=5, **SIZES)
    dataset[0]  # the first frame: two neighbours before it repeat it
    assert sorted(p.name for p in read) == ["000000.jpg", "000001.jpg", "000002.jpg"]
    dataset[1]  # the other person of that frame
    assert len(read) == 3
    read.clear()
    cached = ClipDataset(data, samples, num_frames=5, cache="ram", **SIZES)
    assert len(read) == 12
    for position in range(len(cached)):
        cached[position]
    assert len(read) == 12


def test_missing_and_broken_images_are_named(data, tmp_path: Path) -> None:
    root = make_posetrack(tmp_path, splits=("train",), videos=1)
    broken = read_dataset(root, "train")
    image = broken.videos[0].frames[2].path
    image.write_bytes(image.read_bytes()[:20])
    dataset = ClipDataset(broken, ground_truth_samples(broken), num_frames=3, **SIZES)
    with pytest.raises(InputError, match=r"000002\.jpg: cannot be decoded"):
        dataset[2]
    image.unlink()
    with pytest.raises(InputError, match=r"000002\.jpg: no such image"):
        ClipDataset(broken, ground_truth_samples(broken), num_frames=3, cache="ram", **SIZES)


def test_detected_boxes_make_samples_without_labels(data, tmp_path: Path) -> None:
    frame = data.videos[0].frames[0]
    file = tmp_path / "boxes.json"
    file.write_text(f'[{{"image_name": "{frame.file_name}", "bbox": [8, 6, 30, 48], "score": 0.7}}]')
    samples = detected_samples(data, file)
    assert [(s.video, s.frame, s.box_score, s.track_id, s.person) for s in samples] == [(0, 0, 0.7, 0, None)]
    item = ClipDataset(data, samples, num_frames=3, **SIZES)[0]
    assert item["weights"].sum() == 0 and item["clip"].any()


def test_batches_are_normalised_in_either_memory_order(data) -> None:
    dataset = ClipDataset(data, ground_truth_samples(data), num_frames=3, **SIZES)
    batch = collate_clips([dataset[k] for k in range(4)])
    assert batch["clips"].shape == (4, 3, 3, 64, 48) and batch["clips"].dtype == torch.uint8
    wanted = np.stack([normalize_image(dataset[k]["clip"]) for k in range(4)])
    for channels_last in (False, True):
        prepared = prepare_clips(batch["clips"], channels_last=channels_last)
        np.testing.assert_allclose(prepared.numpy(), wanted, atol=1e-5)
        memory = torch.channels_last if channels_last else torch.contiguous_format
        assert prepared.flatten(0, 1).is_contiguous(memory_format=memory)
