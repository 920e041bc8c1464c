"""Recipes: shipped ones load, overrides are YAML, and every mistake is one line that names the key."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidpose.errors import InputError
from vidpose.train.recipe import known_keys, load_recipe, recipe_differences, shipped_recipes
from vidpose.train.run import build_model


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_load(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.output == f"runs/{name}"
    assert load_recipe(recipe) == recipe


def test_papers_settings() -> None:
    for version in ("17", "18", "21"):
        recipe = load_recipe(f"tdmi_posetrack{version}")
        assert recipe.model.arguments()["input_size"] == (384, 288) and recipe.model.num_frames == 5
        train = recipe.train
        assert (train.optimizer, train.lr, train.milestones, train.gamma) == ("adam", 1e-3, [6, 12, 18], 0.1)
        assert train.epochs == 20 and recipe.data.padding == 1.25


def test_the_page_names_every_key() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "training.md"
    text = page.read_text(encoding="utf-8")
    missing = [key for key in known_keys() if f"`{key.rpartition('.')[2]}`" not in text]
    assert set(missing) <= {"model", "data", "train", "test"}


def test_overrides_are_yaml(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: {name: tdmi}\ntrain: {lr: 1e-3}\n")
    recipe = load_recipe(
        file,
        [
            "train.lr=1e-4",
            "model.input_size=[128, 96]",
            "train.clip_grad=null",
            "model.rdm=false",
            "output=x",
        ],
    )
    assert recipe.train.lr == 1e-4 and recipe.train.clip_grad is None and recipe.output == "x"
    assert recipe.model.arguments() == {"input_size": (128, 96), "pretrained": False, "rdm": False}
    assert load_recipe(file).train.lr == 1e-3


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.lrr=1", "unknown key 'train.lrr'; did you mean 'train.lr'"),
        ("lr=1", "unknown key 'lr'; did you mean 'train.lr'"),
        ("trian.lr=1", "unknown key 'trian'; did you mean 'train'"),
        ("train.lr=fast", "train.lr: input should be a valid number"),
        ("train.lr='1e-3'", "train.lr: input should be a valid number"),
        ("train.epochs=1.5", "train.epochs: input should be a valid integer"),
        ("train.epochs=true", "train.epochs: input should be a valid integer"),
        ("train.lr=-1", "train.lr: input should be greater than 0"),
        ("data.augment=wild", "data.augment: input should be 'uniform', 'gaussian' or 'none'"),
        ("model.input_size=[1, 2, 3]", r"model.input_size: must be \[height, width\]"),
        ("model.name=null", "model.name: input should be a valid string"),
        ("train=3", "train: input should be a valid"),
        ("train.devices=0", "train.devices: must be auto or at least 1"),
        ("train.lr", "write key=value"),
        ("=3", "write key=value"),
        ("train.lr=[1", "is not valid YAML"),
        ("output.x=1", "'output' is a value, not a section"),
    ],
)
def test_mistakes_name_the_key(override: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        load_recipe("tdmi_small", [override])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a\n", "is not a mapping"),
        ("", "is not a mapping"),
        ("model: {name: tdmi, name: hrnet}\n", "'name' appears twice"),
        ("model: [\n", "is not valid YAML"),
        ("data: {root: x}\n", "key 'model' is missing"),
        ("model: {backbone: x}\n", "key 'model.name' is missing"),
        ("model: {name: tdmi}\ntrain: {epochs: 3, bach_size: 2}\n", "did you mean 'train.batch_size'"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=says) as error:
        load_recipe(file)
    assert str(file) in str(error.value)


def test_unknown_name_suggests() -> None:
    with pytest.raises(InputError, match="did you mean 'tdmi_small'"):
        load_recipe("tdmi_smal")


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=40))
def test_no_override_gives_a_traceback(text: str) -> None:
    with contextlib.suppress(InputError):
        load_recipe("hrnet_small", [text])


@pytest.mark.parametrize("wrong", ["rdm=banana", "rdm=1", "alpha=x", "width=3.5", "motion=3"])
def test_a_switch_of_a_wrong_type_is_one_line(wrong: str) -> None:
    with pytest.raises(
        InputError, match=rf"^recipe: model\.{wrong.partition('=')[0]}: input should be"
    ) as error:
        build_model(load_recipe("tdmi_small", [f"model.{wrong}", "train.init_from=null"]))
    assert "\n" not in str(error.value)


def test_differences_are_those_that_change_numbers() -> None:
    one = load_recipe("tdmi_posetrack18").dump()
    two = load_recipe(
        "tdmi_posetrack18",
        ["train.lr=2e-3", "train.num_workers=0", "train.epochs=99", "output=b", "model.rdm=false"],
    ).dump()
    assert recipe_differences(one, two) == ["model.rdm", "train.lr"]
    cosine = ["train.schedule=cosine"]
    one, two = (
        load_recipe("tdmi_posetrack18", cosine).dump(),
        load_recipe("tdmi_posetrack18", [*cosine, "train.epochs=99"]).dump(),
    )
    assert recipe_differences(one, two) == ["train.epochs"]


def test_a_key_that_an_older_run_does_not_know_had_its_default() -> None:
    old, new = load_recipe("tdmi_posetrack18").dump(), load_recipe("tdmi_posetrack18").dump()
    del old["data"]["photometric"]
    assert recipe_differences(old, new) == []
    new["data"]["photometric"] = 0.5
    assert recipe_differences(old, new) == ["data.photometric"]
