"""Clips: the right frames, one affine for all, targets where the joints are, each frame decoded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from tiny_posetrack import make_posetrack
from vidpose.data import frames as frames_module
from vidpose.data.clips import (
    ClipDataset,
    clip_indices,
    collate_clips,
    detected_samples,
    ground_truth_samples,
    prepare_clips,
    spread_indices,
    worker_init,
)
from vidpose.data.readers import read_dataset, read_image
from vidpose.errors import InputError
from vidpose.geometry import (
    apply_affine,
    crop_affine,
    heatmap_to_input,
    invert_affine,
    normalize_image,
    warp_image,
)
from vidpose.skeletons import POSETRACK15
from vidpose.train.predict import fork_where_possible
from vidpose.train.sampler import StepBatchSampler

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


@settings(max_examples=100, deadline=None)
@given(st.integers(3, 60), st.data(), st.integers(2, 15))
def test_the_key_frame_lies_between_frames_an_interval_apart_or_beyond_one(
    length: int, draw: st.DataObject, interval: int
) -> None:
    key = draw.draw(st.integers(0, length - 1))
    left, middle, right = spread_indices(key, interval, length, 0, draw.draw(st.integers(0, 999)), 0)
    assert middle == key and {left, right} <= set(range(length)) - {key}
    if left == right:  # the other one would lie outside the video
        assert key - interval < 0 or key + interval >= length
    else:
        assert left < key < right and right - left <= interval
    if interval <= key < length - interval:
        assert right - left == interval


def test_beyond_the_first_and_the_last_label_the_same_frame_is_on_both_sides() -> None:
    drawn = {tuple(spread_indices(1, 4, 20, epoch, 0, 0)) for epoch in range(60)}
    assert drawn == {(0, 1, 4), (3, 1, 3), (2, 1, 2)}
    drawn = {tuple(spread_indices(18, 4, 20, epoch, 0, 0)) for epoch in range(60)}
    assert drawn == {(15, 18, 19), (16, 18, 16), (17, 18, 17)}


def test_an_interval_is_drawn_between_the_least_and_the_most() -> None:
    spans = []
    for epoch in range(200):
        left, key, right = spread_indices(50, (2, 6), 100, epoch, 0, 0)
        assert left < key == 50 < right
        spans.append(right - left)
    assert set(spans) == {2, 3, 4, 5, 6}


def test_clips_from_label_to_label_tell_their_times(data) -> None:
    dataset = ClipDataset(data, ground_truth_samples(data), num_frames=3, interval=3, **SIZES)
    drawn = {tuple(dataset[epoch, 4]["times"].tolist()) for epoch in range(12)}
    assert drawn == {(-1.0, 0.0, 2.0), (-2.0, 0.0, 1.0)}
    item = dataset[0, 4]
    sample = dataset.samples[4]
    frames = [sample.frame + int(t) for t in item["times"]]
    labelled = [data.videos[sample.video].frames[k].is_labeled for k in frames]
    assert [bool(w.any()) for w in item["weights"]] == labelled
    with pytest.raises(InputError, match="clips of 3 frames"):
        ClipDataset(data, ground_truth_samples(data), num_frames=5, interval=3, **SIZES)


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

    monkeypatch.setattr(frames_module, "read_image", counting)
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


def test_no_frame_is_decoded_twice_for_a_batch(data) -> None:
    samples = ground_truth_samples(data)
    dataset = ClipDataset(data, samples, num_frames=5, **SIZES)
    shuffled = np.random.default_rng(0).permutation(len(samples)).tolist()
    items = dataset.__getitems__([(1, k) for k in shuffled])
    assert dataset.frames.decoded == 12  # every frame of two videos, whose people come in any order
    assert [item["index"] for item in items] == shuffled


def test_a_batch_holds_what_its_items_are(data) -> None:
    dataset = ClipDataset(
        data, ground_truth_samples(data), num_frames=3, augment="uniform", photometric=1.0, **SIZES
    )
    keys = [(2, 7), (2, 0), (5, 7)]
    batch, single = (
        collate_clips(dataset.__getitems__(keys)),
        collate_clips([dataset[key] for key in keys]),
    )
    assert batch.keys() == single.keys()
    assert all(torch.equal(batch[key], single[key]) for key in batch)


def test_hidden_heads_lie_where_the_crop_shows_them(data) -> None:
    """Of each of the clip's frames, turned, scaled and mirrored as it is; targets stay."""
    options = {"num_frames": 3, "augment": "uniform", "seed": 1, **SIZES}
    plain = ClipDataset(data, ground_truth_samples(data), **options)
    hidden = ClipDataset(data, ground_truth_samples(data), hide_heads=1.0, **options)
    changed = 0
    for key in [(epoch, i) for epoch in range(3) for i in range(len(plain))]:
        before, after = plain[key], hidden[key]
        assert np.array_equal(before["points"], after["points"])
        nose, top = (heatmap_to_input(before["points"][:, j], (64, 48), (16, 12)) for j in (0, 2))
        rows, columns = np.mgrid[:64, :48]
        for t in range(3):
            different = (before["clip"][t] != after["clip"][t]).any(axis=-1)
            reach = 1.1 * np.linalg.norm(nose[t] - top[t]) + 1.5
            near = (abs(columns - nose[t, 0]) <= reach) & (abs(rows - nose[t, 1]) <= reach)
            assert not different[~near].any()
            changed += bool(different.any())
    assert changed > len(plain)
    quiet = ClipDataset(data, ground_truth_samples(data), hide_heads=1.0, **{**options, "augment": "none"})
    still = ClipDataset(data, ground_truth_samples(data), **{**options, "augment": "none"})
    assert np.array_equal(quiet[0]["clip"], still[0]["clip"])


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_load_what_one_loads(data, workers: int) -> None:
    dataset = ClipDataset(data, ground_truth_samples(data), num_frames=3, augment="uniform", **SIZES)

    def batches(number: int) -> list[torch.Tensor]:
        sampler = StepBatchSampler(len(dataset), 4, seed=3, start=2, stop=6)
        loader: DataLoader = DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate_clips,
            num_workers=number,
            worker_init_fn=worker_init,
            **fork_where_possible(number),
        )
        return [batch["clips"] for batch in loader]

    assert all(torch.equal(a, b) for a, b in zip(batches(0), batches(workers), strict=True))


@settings(max_examples=60, deadline=None)
@given(
    corner=st.tuples(st.floats(-60, 130), st.floats(-60, 90)),
    extent=st.tuples(st.floats(0, 120), st.floats(0, 120)),
    turn=st.floats(-180, 180),
    flip=st.booleans(),
)
def test_crops_are_those_of_warp_image(
    data, corner: tuple[float, float], extent: tuple[float, float], turn: float, flip: bool
) -> None:
    dataset = ClipDataset(data, [], num_frames=1, **SIZES)
    box = np.array([*corner, corner[0] + extent[0], corner[1] + extent[1]])
    affine = crop_affine(box, SIZES["input_size"], rotation_deg=turn, flip=flip)
    crop = np.empty((*SIZES["input_size"], 3), dtype=np.uint8)
    for frame in (0, 3):  # the second meets what the first left in the working memory
        image = dataset.frames.get(0, frame)
        dataset._warp(image, affine, crop)
        assert np.array_equal(crop, warp_image(image, affine, SIZES["input_size"]))


def test_groups_stay_together_and_every_sample_comes_once(data) -> None:
    dataset = ClipDataset(data, ground_truth_samples(data), num_frames=3, **SIZES)
    groups = dataset.groups(2)
    places = [(s.video, s.frame // 2) for s in dataset.samples]
    assert len(set(places)) == groups.max() + 1
    assert all((places[a] == places[b]) == (groups[a] == groups[b]) for a in range(20) for b in range(20))
    sampler = StepBatchSampler(len(dataset), 4, seed=0, start=0, stop=5, groups=groups)
    first, second = sampler.permutation(0), sampler.permutation(1)
    assert sorted(first) == list(range(20)) and not np.array_equal(first, second)
    changes = np.count_nonzero(np.diff(groups[first]))
    assert changes == groups.max()  # each group is one stretch
    assert np.array_equal(first, sampler.permutation(0))


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
