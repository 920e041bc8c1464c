"""What of a paper's tables can be run with the data and weights at hand, how, and what cannot and why."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidpose.data.layouts import LAYOUTS, find_layout
from vidpose.data.layouts.posetrack import find_annotations
from vidpose.errors import InputError
from vidpose.io.files import read_json
from vidpose.models.backbones import backbone_family
from vidpose.models.factory import model_entry, model_switches
from vidpose.train.published import TITLES, PublishedRow, PublishedTable
from vidpose.train.recipe import ModelSection, Recipe, load_recipe, parse_yaml, shipped_recipes
from vidpose.train.runs import Run, as_begun

TRAINABLE = ("posetrack17", "posetrack18", "posetrack21")
"""Data sets that recipes are shipped for."""
NO_METHOD = "the method is not in vidpose"
_CHECKPOINTS = {".pth", ".pt", ".bin", ".ckpt", ".safetensors"}
_OPTIONS = {
    "model.name": "the rows name the models", "output": "give -o", "train.seed": "give --seeds",
    "data.root": "give --data", "data.layout": "give --data NAME=DIR", "data.val_root": "give --data",
    "data.boxes": "give --boxes", "task": "the rows are poses",
}  # fmt: skip
_NOT_HERE = {
    "propagation": "pose propagation: `vidpose ablate stdpose_posetrack17` trains it",
    "pseudo-labels": "`vidpose ablate stdpose_posetrack17 --table stdpose-pseudo-labels` trains these rows",
    "hieve": "its test labels are not public: only its server scores predictions",
    "challenging-posetrack": "the list of its 806 frames is not public",
}


@dataclass(frozen=True)
class Method:
    """How a published row is trained."""

    recipe: str
    """First part of the recipe's name."""
    changes: dict[str, Any] = field(default_factory=dict)
    note: str = ""


def _simple_baseline(depth: int, note: str = "") -> Method:
    changes = {
        "model.name": "simple_baseline",
        "model.backbone": f"resnet{depth}",
        "train.init_from": f"weights/pose_resnet_{depth}_384x288.pth",
    }
    return Method("hrnet", changes, note)


METHODS: dict[str, Method] = {
    # silent: SimpleBaseline has no recipe of its own; HRNet's, of the same family of papers, trains it.
    "simple_r50": _simple_baseline(50),
    "simple_r152": _simple_baseline(152),
    "simple_baseline": _simple_baseline(
        152, "the paper does not say how deep SimpleBaseline's ResNet is: 152 here"
    ),
    "tdmi_st": Method("tdmi", {"model.name": "tdmi_st"}),
    **{name: Method(name) for name in ("hrnet", "vitpose", "posewarper", "dcpose", "famipose")},
    **{name: Method(name) for name in ("tdmi", "jmpose", "stdpose", "vremd", "sdtc")},
}
"""By the names that the published tables use; ``vitpose`` is the backbone's run under ViT methods."""


# --- data ------------------------------------------------------------------------------------------------


def find_data(places: Sequence[str] | None) -> dict[str, Path]:
    """The data sets in some folders.

    Args:
        places: each ``DIR``, a data set's folder or one that holds several in subfolders (two levels deep),
            or ``NAME=DIR``, which says what is in it; None: what there is in ``data``, maybe nothing.

    Returns:
        Folders by names of ``LAYOUTS``.

    Raises:
        InputError: no such folder, none in it, or two of one data set.
    """
    found: dict[str, Path] = {}
    if places is None:
        places = ["data"] if Path("data").is_dir() and _search(Path("data")) else []
    for place in places:
        name, equals, folder = place.partition("=")
        if equals:
            check_data_name(name)
        root = Path(folder if equals else place)
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; name the data sets' folder with --data DIR")
        here = _search(root)
        if not here:
            raise InputError(
                f"{root}: no data set found in it, nor in its subfolders: looked for PoseTrack's annotations "
                "of a train and a val split"
            )
        for told, path in here:
            data = name if equals else told
            if found.setdefault(data, path) != path:
                raise InputError(
                    f"{found[data]} and {path} both hold {LAYOUTS[data].title}: name the one to use, "
                    f"--data {data}=DIR"
                )
    return found


def check_data_name(name: str) -> None:
    """Refuses what is no data set that a recipe is shipped for."""
    if name not in TRAINABLE:
        raise InputError(f"unknown data set {name!r}; known: {', '.join(TRAINABLE)}")


def _search(root: Path, depth: int = 2) -> list[tuple[str, Path]]:
    """Names and folders of what is in a folder."""
    splits = _splits(root)
    if splits or not depth:
        return [(_data_name(root), root)] if splits else []
    inner = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [entry for folder in inner for entry in _search(folder, depth - 1)]


def _splits(root: Path) -> list[str]:
    """Splits of a data set that can be trained on and scored."""
    try:
        splits = find_layout(root).list_splits(root)
    except InputError:
        return []
    return splits if {"train", "val"} <= set(splits) else []


def _data_name(root: Path) -> str:
    """Which PoseTrack it is: by the first file, then by the folder's name; 18 where neither tells."""
    layout = find_layout(root)
    if layout.name not in TRAINABLE:
        return layout.name
    file = find_annotations(root, "val")[0]
    content = read_json(file) if file.suffix == ".json" else {"annolist": []}  # the original .mat files
    if not isinstance(content, dict) or "annolist" in content:
        return "posetrack17"
    image, person = (next(iter(content.get(key) or [{}])) for key in ("images", "annotations"))
    if "original_file_name" in image:  # 17 converted, its frames renamed
        return "posetrack17"
    if "has_labeled_person" in image or "person_id" in person:
        return "posetrack21"
    told = re.search(r"(?:posetrack|pt)[_-]?(?:20)?(17|18|21)", root.name.lower())
    return f"posetrack{told.group(1)}" if told else "posetrack18"


# --- the plan --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlannedRow:
    """A published row, and how it is run or why it is not."""

    table: PublishedTable
    name: str
    reason: str = ""
    """Why it cannot be run."""
    recipe: str = ""
    runs: tuple[Run, ...] = ()
    """One per seed."""
    needs: Run | None = None
    """The run whose weights these start from."""
    notes: tuple[str, ...] = ()

    @property
    def row(self) -> PublishedRow:
        return self.table.rows[self.name]

    @property
    def full_name(self) -> str:
        return f"{self.table.name}/{self.name}"


@dataclass(frozen=True)
class Choices:
    """What the user chose for all rows."""

    output: Path
    data: dict[str, Path]
    seeds: tuple[int, ...]
    overrides: tuple[str, ...] = ()
    init: dict[str, str] = field(default_factory=dict)
    """Checkpoints by backbone; "" for any."""
    boxes: dict[str, str] = field(default_factory=dict)
    """Files of detected boxes by data set; "" for any."""


class _CannotRun(Exception):
    """Why a row cannot be run."""


def plan_rows(chosen: Sequence[tuple[PublishedTable, str]], choices: Choices) -> list[PlannedRow]:
    """How each row is run, or why not.

    Raises:
        InputError: an override or a folder of runs does not fit, for whatever row.
    """
    rows = [_plan_row(table, name, choices, chosen) for table, name in chosen]
    starts = sorted({_start(row).recipe.model.backbone or "" for row in rows if row.runs})
    if "" in choices.init and len(starts) > 1:
        raise InputError(
            f"--init {choices.init['']}: the rows start from {', '.join(starts)}: say of which it is, --init "
            f"{starts[0]}=FILE, or choose rows with --rows"
        )
    sets = sorted({row.table.data for row in rows if row.runs})
    if "" in choices.boxes and len(sets) > 1:
        raise InputError(
            f"--boxes {choices.boxes['']}: the rows are of {', '.join(sets)}: say of which it is, --boxes "
            f"{sets[0]}=FILE, or choose rows with --rows"
        )
    return rows


def _start(row: PlannedRow) -> Run:
    return row.needs or row.runs[0]


def _plan_row(
    table: PublishedTable, name: str, choices: Choices, chosen: Sequence[tuple[PublishedTable, str]]
) -> PlannedRow:
    method = table.rows[name].method
    try:
        if not method:
            raise _CannotRun(NO_METHOD)
        for key in (table.task, table.data):
            if key in _NOT_HERE:
                raise _CannotRun(_NOT_HERE[key])
        if not table.by_joint:
            raise _CannotRun("no table of joints: `vidpose models` counts these")
        if table.data not in choices.data:
            raise _CannotRun(f"no {TITLES[table.data]} found; give --data DIR")
        others = {t.rows[r].method for t, r in chosen} - {""}
        recipes = [_recipe(method, table.data, seed, choices, others) for seed in choices.seeds]
        needs = _backbone_run(recipes[0], table.data, choices, others)
        runs = []
        for seed, recipe in zip(choices.seeds, recipes, strict=True):
            start = str(needs.folder / "best.safetensors") if needs else _init(recipe, choices)
            runs.append(_run(f"{table.name}/{name}", seed, _with_init(recipe, start)))
    except _CannotRun as reason:
        return PlannedRow(table, name, str(reason))
    note = METHODS[method].note
    source = f"{METHODS[method].recipe}_{table.data}"
    return PlannedRow(table, name, "", source, tuple(runs), needs, (note,) if note else ())


def _run(name: str, seed: int, recipe: Recipe) -> Run:
    """The run, as it was written when it began."""
    run = Run(name, seed, recipe)
    if (run.folder / "recipe.yaml").is_file():
        begun = as_begun(run.folder, recipe)
        return Run(name, seed, recipe.model_copy(update={"model": begun.model}))
    return run


def _recipe(method: str, data: str, seed: int, choices: Choices, others: set[str]) -> Recipe:
    """A method's recipe on a data set, with all that the user chose but the weights."""
    entry = METHODS[method]
    changes = [f"{key}={value}" for key, value in entry.changes.items()]
    model = str(entry.changes.get("model.name", entry.recipe))
    used = [text for text in choices.overrides if _fits(text, model, others)]
    folder = choices.output / data / method / f"seed{seed}"
    chosen = {"data.root": choices.data[data], "data.layout": data, "train.seed": seed, "output": folder}
    recipe = load_recipe(
        f"{entry.recipe}_{data}",
        [*changes, *used, *(f"{key}={_quoted(value)}" for key, value in chosen.items())],
    )
    families = model_entry(model).families
    backbone = recipe.model.backbone
    if backbone and backbone_family(backbone) not in families:
        raise _CannotRun(f"model.backbone={backbone}: {model} takes {' or '.join(families)}")
    boxes = choices.boxes.get(data) or choices.boxes.get("")
    if boxes:
        if not Path(boxes).is_file():
            raise InputError(f"--boxes {boxes}: no such file")
        recipe.data.boxes = boxes
    return recipe


def _quoted(value: Any) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuses what other options are for."""
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text}: write key=value, for example train.epochs=2")
        if key.strip() in _OPTIONS:
            raise InputError(f"--set {text}: {_OPTIONS[key.strip()]} instead")
        parse_yaml(value, f"--set {text}")


def _fits(override: str, model: str, others: set[str]) -> bool:
    """Whether an override is for this model: another's switch is not, an unknown one is an error."""
    section, dot, key = override.partition("=")[0].strip().partition(".")
    if section != "model" or not dot or key in ModelSection.model_fields:
        return not (key == "num_frames" and model_entry(model).num_frames == 1)
    if key in model_switches(model):
        return True
    names = {str(METHODS[name].changes.get("model.name", METHODS[name].recipe)) for name in others}
    if not any(key in model_switches(name) for name in names):
        raise InputError(f"--set {override}: none of {', '.join(sorted(names))} has a switch {key}")
    return False


def _backbone_run(recipe: Recipe, data: str, choices: Choices, others: set[str]) -> Run | None:
    """The run of a shipped recipe that a recipe starts from, unless the user named weights to start from."""
    parent = Path(recipe.train.init_from or "").parent.name
    if _user_init(choices) or parent not in shipped_recipes():
        return None
    method = parent.removesuffix(f"_{data}")
    start = _recipe(method, data, choices.seeds[0], choices, others | {method})
    return _run(f"{data}/{method}", choices.seeds[0], _with_init(start, _init(start, choices)))


def _user_init(choices: Choices) -> bool:
    return any(text.partition("=")[0].strip() == "train.init_from" for text in choices.overrides)


def _init(recipe: Recipe, choices: Choices) -> str | None:
    """Weights that a run starts from, which must be there."""
    backbone = recipe.model.backbone or model_entry(recipe.model.name).backbone
    own = recipe.train.init_from
    start = own if _user_init(choices) else choices.init.get(backbone) or choices.init.get("") or own
    if start and Path(start).suffix in _CHECKPOINTS and not Path(start).is_file():
        if start != own or _user_init(choices):
            raise InputError(f"{start}: no such file of weights")
        raise _CannotRun(f"needs weights to start from: {start} is not there; give --init {backbone}=FILE")
    return start


def _with_init(recipe: Recipe, start: str | os.PathLike[str] | None) -> Recipe:
    train = recipe.train.model_copy(update={"init_from": start})
    return recipe.model_copy(update={"train": train})
