"""Several data sets in one training: their shares, their joints, images that are left out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_datasets import make_lsp
from tiny_posetrack import make_posetrack
from vidpose.data.mixture import joined, weighted_joints, without_images
from vidpose.data.readers import list_splits, read_dataset
from vidpose.errors import InputError
from vidpose.skeletons import LSP14, POSETRACK15
from vidpose.train.recipe import load_recipe, recipe_differences
from vidpose.train.run import train
from vidpose.train.sampler import StepBatchSampler


def drawn(sources: np.ndarray, shares: list[float], epochs: int) -> list[list[int]]:
    sampler = StepBatchSampler(len(sources), 4, seed=3, start=0, stop=1, sources=sources, shares=shares)
    return [sampler.permutation(epoch).tolist() for epoch in range(epochs)]


def test_an_epoch_has_the_shares_that_were_asked_for() -> None:
    sources = np.repeat([0, 1, 2], [70, 20, 10])
    for order in drawn(sources, [1, 2, 1], 3):
        assert Counter(sources[order].tolist()) == {0: 25, 1: 50, 2: 25}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.data())
def test_no_sample_comes_again_before_all_of_its_data_set_came(sizes: list[int], data: st.DataObject) -> None:
    shares = data.draw(st.lists(st.sampled_from([0.5, 1, 3]), min_size=len(sizes), max_size=len(sizes)))
    sources = np.repeat(np.arange(len(sizes)), sizes)
    counts = Counter(index for order in drawn(sources, shares, 7) for index in order)
    assert sum(counts.values()) == 7 * len(sources)
    for source in range(len(sizes)):
        seen = [counts[index] for index in np.flatnonzero(sources == source).tolist()]
        assert max(seen) - min(seen) <= 1


def test_a_joint_that_one_data_set_lacks_is_unlabelled_there(tmp_path: Path) -> None:
    posetrack = read_dataset(make_posetrack(tmp_path / "a", videos=1, frames=2), "train")
    lsp = make_lsp(tmp_path / "b")
    lsp_data = read_dataset(lsp, list_splits(lsp)[0])
    whole, origin = joined([posetrack, lsp_data], POSETRACK15)
    assert origin.tolist() == [0] * len(posetrack.videos) + [1] * len(lsp_data.videos)
    nose, knee = POSETRACK15.index["nose"], POSETRACK15.index["left_knee"]
    ours, theirs = whole.videos[0].frames[0].people[0], whole.videos[-1].frames[0].people[0]
    assert ours.keypoints[nose, 2] == 1 and theirs.keypoints[nose, 2] == 0
    original = lsp_data.videos[-1].frames[0].people[0].keypoints[LSP14.index["left_knee"]]
    assert theirs.keypoints[knee].tolist() == original.tolist()
    with pytest.raises(InputError, match="labels nose"):
        joined([lsp_data], POSETRACK15)


def test_left_out_images_lose_their_labels_alone(tmp_path: Path) -> None:
    data = read_dataset(make_posetrack(tmp_path / "a", videos=1, frames=3), "train")
    name = data.videos[0].frames[1].file_name
    (tmp_path / "names.txt").write_text(f"# held out\n{name}\n\n")
    rest = without_images(data, tmp_path / "names.txt")
    assert [f.is_labeled for f in rest.videos[0].frames] == [True, False, True]
    assert [len(f.people) for f in rest.videos[0].frames] == [2, 0, 2]
    (tmp_path / "names.txt").write_text("images/none.jpg\n")
    with pytest.raises(InputError, match=r"1 names are no images .* images/none.jpg"):
        without_images(data, tmp_path / "names.txt")


def test_weights_of_joints_stand_for_both_sides(tmp_path: Path) -> None:
    data = read_dataset(make_posetrack(tmp_path / "a", videos=1, frames=1), "train")
    person = weighted_joints(data, {"hip": 0.5, "nose": 0}).videos[0].frames[0].people[0]
    weight = dict(zip(data.skeleton.joints, person.keypoints[:, 2].tolist(), strict=True))
    assert (weight["left_hip"], weight["right_hip"], weight["nose"], weight["left_knee"]) == (0.5, 0.5, 0, 1)
    with pytest.raises(InputError, match="tail is no joint"):
        weighted_joints(data, {"tail": 0.5})


def test_a_training_on_two_data_sets_runs_and_says_so(tmp_path: Path) -> None:
    lsp = make_lsp(tmp_path / "lsp")
    root = make_posetrack(tmp_path / "pt", videos=1, frames=2)
    options = [
        "model.backbone=hrnet_w8_small", "model.input_size=[64,64]", "train.num_workers=0",
        "train.batch_size=2", "train.tensorboard=false", "train.precision=fp32", "train.accelerator=cpu",
        "train.max_steps=2", f"data.root={root}", "data.occlude=1.0",
        f"data.mix=[{{root: '{lsp}', split: {list_splits(lsp)[0]}, share: 2, joint_weights: {{hip: 0.5}}}}]",
        f"output={tmp_path / 'run'}",
    ]  # fmt: skip
    result = train("hrnet_small", options, quiet=True)
    assert result.steps == 2
    with pytest.raises(InputError, match="is for one data set"):
        train("hrnet_small", [*options, "data.cache=pack", f"output={tmp_path / 'other'}"], quiet=True)
    with pytest.raises(InputError, match="greater than 0"):
        load_recipe("hrnet_small", ["data.mix=[{root: x, share: 0}]"])


def test_data_sets_may_move_but_not_change_between_a_run_and_its_continuation() -> None:
    def recipe(mix: str) -> dict:
        return load_recipe("hrnet_small", [f"data.mix={mix}"]).dump()

    old = recipe("[{root: a, share: 2}]")
    assert recipe_differences(old, recipe("[{root: elsewhere, share: 2}]")) == []
    assert recipe_differences(old, recipe("[{root: a, share: 3}]")) == ["data.mix"]
    assert recipe_differences(old, recipe("[]")) == ["data.mix"]
