"""Recipes: one YAML file for model, data and training; every mistake in it is one line that names the key."""

from __future__ import annotations

import difflib
import os
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from vidpose.errors import InputError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, validate_default=True)


class ModelSection(BaseModel):
    """Arguments of :func:`vidpose.create_model`; further keys are the model's switches."""

    model_config = ConfigDict(extra="allow", strict=True)

    name: str
    backbone: str | None = None
    num_frames: int | None = Field(default=None, ge=1)
    input_size: list[int] | None = None
    freeze_backbone: bool | None = None
    pretrained: bool | str = False

    @field_validator("input_size")
    @classmethod
    def _two_sides(cls, value: list[int] | None) -> list[int] | None:
        if value is not None and (len(value) != 2 or min(value) < 16):
            raise ValueError("must be [height, width], each at least 16")
        return value

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of ``create_model``, without ``name`` and what is not set."""
        given = self.model_dump(exclude_none=True)
        given.pop("name")
        if "input_size" in given:
            given["input_size"] = tuple(given["input_size"])
        return given


class MixSection(_Section):
    """A further data set that is trained on."""

    root: str
    split: str = "train"
    layout: str = "auto"
    share: float = Field(default=1.0, gt=0)
    """How many samples come from here, beside the ``share`` of the others."""
    leave_out: str | None = None
    """Text file of image names, one a line, that are not trained on."""
    joint_weights: dict[str, float] = Field(default_factory=dict)
    """How much joints count that are labelled by another convention, 0 to 1; ``hip``: both hips."""


class DataSection(_Section):
    """Where the labels are and how clips are cut from them."""

    root: str = "data"
    train_split: str = "train"
    share: float = Field(default=1.0, gt=0)
    """With ``mix``: how many samples come from ``root``, beside the ``share`` of the others."""
    leave_out: str | None = None
    """Text file of image names of ``root``, one a line, that are not trained on."""
    mix: list[MixSection] = Field(default_factory=list)
    """Further data sets. A joint that one lacks is not trained there."""
    val_split: str = "val"
    val_root: str | None = None
    """Root of the validation split, where it is another data set's."""
    layout: str = "auto"
    """``auto``: found by looking; or a name that ``data check`` prints, which the folder must have."""
    boxes: str = "gt"
    """Boxes of the validation split: ``gt``, or a JSON file of detected ones. Training uses ground truth."""
    box_threshold: float = Field(default=0.2, ge=0, le=1)
    padding: float = Field(default=1.25, gt=0)
    cache: Literal["none", "ram", "pack"] = "none"
    """``ram``: every frame decoded once, at the start; ``pack``: frames that ``vidpose data pack`` packed."""
    pack: str | None = None
    """Folder of the packed frames; unset: ``pack`` in the data set's folder."""
    frame_size: int | None = Field(default=None, ge=16)
    """Frames are reduced to this longer side before crops are cut: quicker, with fewer details."""
    interval: int | list[int] | None = None
    """Frames between two labels, for a model that propagates: the first and the last frame of a clip of three
    are so far apart, its key frame anywhere between them. Two numbers: any of these and between, and the
    larger in validation. Unset: neighbouring frames."""
    label_every: int | None = Field(default=None, ge=1)
    """Trains on the labels of every so many-th labelled frame of a video alone."""
    propagate: str | None = None
    """Before training, frames without labels get poses by this method of ``vidpose propagate``."""
    min_confidence: float = Field(default=0.0, ge=0, le=1)
    """Propagated joints of less confidence are not trained on."""
    confidence_weights: bool = False
    """Propagated joints count as much as their confidence says."""
    oks_nms: float | None = Field(default=None, gt=0, le=1)
    """Of two predicted poses of a frame that are more alike (OKS), the weaker is left out of the scores."""
    augment: Literal["uniform", "gaussian", "none"] = "uniform"
    augment_strength: float = Field(default=1.0, ge=0, le=1)
    """Part of the full rotation, scale and half-body augmentation."""
    photometric: float = Field(default=0.0, ge=0, le=1)
    """Strength of changes of light, colour, noise and blur (no paper has them); 0: none."""
    hide_heads: float = Field(default=0.0, ge=0, le=1)
    """Share of the clips in which the face is made coarse, blurred or one colour, as in anonymised video."""
    occlude: float = Field(default=0.0, ge=0, le=1)
    """Share of the clips onto which pieces of other pictures are pasted; hidden joints keep their labels."""
    mosaic: float = Field(default=0.0, ge=0, le=1)
    """Share of a detector's training images that are made of four frames, each at half the scale."""

    @field_validator("interval")
    @classmethod
    def _an_interval(cls, value: int | list[int] | None) -> int | list[int] | None:
        ends = [value] * 2 if isinstance(value, int) else value
        if ends is not None and (len(ends) != 2 or not 2 <= ends[0] <= ends[1]):
            raise ValueError("must be a number of frames, 2 or more, or two: [least, most]")
        return value

    def intervals(self) -> tuple[int, int] | None:
        """Least and most frames between two labels."""
        if isinstance(self.interval, int):
            return self.interval, self.interval
        return None if self.interval is None else (self.interval[0], self.interval[1])


class TrainSection(_Section):
    """Optimisation, checkpoints, validation."""

    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=16, ge=1)
    """Per device."""
    max_steps: int | None = Field(default=None, ge=1)
    """Stops before ``epochs`` are over."""
    optimizer: Literal["adam", "adamw"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    backbone_lr_factor: float = Field(default=1.0, ge=0)
    """The backbone's learning rate, where it is trained, as a multiple of ``lr``."""
    weight_decay: float = Field(default=0.01, ge=0)
    adam_eps: float = Field(default=1e-8, gt=0)
    """Epsilon of Adam and AdamW. Gradients of a heatmap loss are small: what is far below it hardly moves."""
    schedule: Literal["step", "cosine"] = "step"
    milestones: list[int] = Field(default_factory=list)
    """Epochs at whose start the rate is multiplied by ``gamma`` (``schedule: step``)."""
    gamma: float = Field(default=0.1, gt=0, le=1)
    warmup_steps: int = Field(default=0, ge=0)
    clip_grad: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """Decay of a moving average of the weights, which is then what is validated and exported."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    channels_last: bool = False
    deterministic: bool = False
    """Deterministic kernels, for exact repetition on a GPU too; slower."""
    given_labels: float = Field(default=0.0, ge=0, le=1)
    """With ``data.interval``: how often the labels of the first and the last frame are given in training.
    Validation always gives them."""
    cache_features: int = Field(default=0, ge=0)
    """Features of a frozen backbone are kept in the run's folder for so many augmentations of each sample,
    which come again every so many epochs; 0: every epoch augments anew."""
    train_backbone: bool = False
    init_from: str | None = None
    """Weights to start from (file or hub id): a single-frame model's backbone, and its head where it fits."""
    seed: int = Field(default=0, ge=0)
    num_workers: int = Field(default=2, ge=0)
    group_frames: int = Field(default=0, ge=0)
    """People of so many neighbouring frames follow each other, so that a frame is decoded for all; 0: no."""
    checkpoint_every_steps: int = Field(default=1000, ge=1)
    log_every_steps: int = Field(default=20, ge=1)
    tensorboard: bool = True
    val_every_epochs: int = Field(default=1, ge=1)
    val_every_frames: int = Field(default=1, ge=1)
    """Scores every n-th labelled frame of each video only."""
    limit_val: int | None = Field(default=None, ge=1)
    """Scores the first n videos only."""
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    devices: int | Literal["auto"] = 1
    num_nodes: int = Field(default=1, ge=1)
    strategy: str = "auto"

    @field_validator("devices")
    @classmethod
    def _some_devices(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be auto or at least 1")
        return value


class TestSection(_Section):
    """How heatmaps become joints, in validation."""

    __test__ = False

    decoder: Literal["plain", "quarter", "dark", "udp"] = "dark"
    flip: bool = False
    batch_size: int | None = Field(default=None, ge=1)
    """Defaults to the training batch size."""
    protocol: str | None = None
    """Of `vidpose evaluate`; unset: the data set's own."""


class Recipe(_Section):
    """Everything that a training run is made from."""

    task: Literal["pose", "detector"] = "pose"
    model: ModelSection
    data: DataSection = Field(default_factory=DataSection)
    train: TrainSection = Field(default_factory=TrainSection)
    test: TestSection = Field(default_factory=TestSection)
    output: str = "runs/vidpose"

    def dump(self) -> dict[str, Any]:
        """Plain values, as YAML and JSON take them."""
        return self.model_dump(mode="json", exclude_none=False)


# --- YAML ------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with 1e-3 as a number, and a key that appears twice as an error."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for key in keys:
        if not isinstance(key, (str, int, float, bool, type(None))):
            raise yaml.constructor.ConstructorError(None, None, "a key must be text", node.start_mark)
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} appears twice", node.start_mark)
    loader.flatten_mapping(node)
    return {
        loader.construct_object(key, deep=True): loader.construct_object(value, deep=True)
        for key, value in node.value
    }


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse_yaml(text: str, where: str) -> Any:
    """Plain values of a YAML text; an :class:`InputError` names ``where`` and the line."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}:{mark.line + 1}" if mark is not None else where
        raise InputError(f"{place}: is not valid YAML: {getattr(error, 'problem', None) or error}") from None


def recipe_folder() -> Path:
    """``vidpose/recipes`` of an installed package, ``recipes`` beside ``src`` in the source tree."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parents[1] / "recipes"


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(file.stem for file in recipe_folder().glob("*.yaml"))


def load_recipe(
    source: str | os.PathLike[str] | Recipe, overrides: list[str] | tuple[str, ...] = ()
) -> Recipe:
    """A recipe from a YAML file or the name of a shipped one, changed by ``key=value`` overrides.

    Args:
        source: path, name such as ``tdmi_small``, or a recipe.
        overrides: dotted keys with YAML values: ``train.lr=1e-4``, ``model.input_size=[128, 96]``.

    Raises:
        InputError: one line naming the key, with the nearest known one where a key is unknown.
    """
    if isinstance(source, Recipe):
        where, content = "recipe", source.model_dump(exclude_none=True)
    else:
        where, text = _read_source(source)
        content = parse_yaml(text, where)
    if not isinstance(content, dict):
        raise InputError(
            f"{where}: is not a mapping of keys to values; a recipe has model, data, train, output"
        )
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise InputError(f"override {override!r}: write key=value, for example train.lr=1e-4")
        _set(content, key.strip(), parse_yaml(value, f"override {override!r}"), override)
    return _validate(content, where)


def _read_source(source: str | os.PathLike[str]) -> tuple[str, str]:
    path = Path(source)
    if path.is_file():
        try:
            return str(path), path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as text: {error}") from None
    name = str(source).removesuffix(".yaml")
    known = shipped_recipes()
    if name in known:
        return name, (recipe_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(f"{source}: no such recipe file; {hint}shipped recipes: {', '.join(known)}")


def _set(content: dict[str, Any], key: str, value: Any, override: str) -> None:
    parts = key.split(".")
    place = content
    for part in parts[:-1]:
        inner = place.setdefault(part, {})
        if not isinstance(inner, dict):
            raise InputError(f"override {override!r}: {part!r} is a value, not a section")
        place = inner
    place[parts[-1]] = value


def known_keys() -> list[str]:
    """Every dotted key that a recipe may have (models take switches beyond these)."""
    keys = []
    for name, info in Recipe.model_fields.items():
        section = info.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            keys += [name, *(f"{name}.{key}" for key in section.model_fields)]
        else:
            keys.append(name)
    return keys


def _validate(content: dict[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        # A wrong choice in a union is reported once per alternative; the key alone matters to a user.
        location = [part for part in first["loc"] if isinstance(part, str)]
        depth = 2 if location and location[0] in ("model", "data", "train", "test") else 1
        key = ".".join(location[:depth])
        if first["type"] == "extra_forbidden":
            raise InputError(f"{where}: unknown key {key!r}{_suggest(key)}") from None
        if first["type"] == "missing":
            raise InputError(f"{where}: key {key!r} is missing") from None
        problem = first["msg"].removeprefix("Value error, ")
        value = first.get("input")
        shown = f" (it is {value!r})" if not isinstance(value, (dict, BaseModel)) else ""
        raise InputError(f"{where}: {key}: {problem[:1].lower()}{problem[1:]}{shown}") from None


def check_types(callables: Sequence[Callable[..., Any]], arguments: Mapping[str, Any]) -> None:
    """Refuses a switch of a model that is not of the type that its signature names.

    Args:
        callables: what takes the arguments; the first one that names an argument decides.
        arguments: by name, as the recipe gives them.
    """
    for name, value in arguments.items():
        hints = (typing.get_type_hints(function).get(name) for function in callables)
        hint = next((hint for hint in hints if hint is not None), None)
        if hint is None:
            continue
        try:
            TypeAdapter(hint, config=ConfigDict(strict=True, arbitrary_types_allowed=True)).validate_python(
                value
            )
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise InputError(
                f"recipe: model.{name}: {problem[:1].lower()}{problem[1:]} (it is {value!r})"
            ) from None


def _suggest(key: str) -> str:
    known = known_keys()
    same_leaf = [k for k in known if k.rpartition(".")[2] == key.rpartition(".")[2]]
    near = same_leaf or difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if not near:
        leaves = {k.rpartition(".")[2]: k for k in known}
        near = [leaves[leaf] for leaf in difflib.get_close_matches(key.rpartition(".")[2], leaves, n=1)]
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


# What may differ between a run and its continuation without changing its numbers.
_FREE_KEYS = {
    "train.num_workers", "train.checkpoint_every_steps", "train.log_every_steps", "train.tensorboard",
    "train.max_steps", "train.epochs", "data.cache", "data.pack", "data.root", "data.val_root",
    "data.leave_out", "train.init_from", "output",
}  # fmt: skip


def recipe_differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Dotted keys whose values differ in a way that would change the numbers of a run."""
    # A key that is younger than the run had its default's effect then.
    defaults = _flatten(Recipe(model=ModelSection(name="")).dump())
    flat_old, flat_new = ({**defaults, **_flatten(recipe)} for recipe in (old, new))
    for flat in (flat_old, flat_new):  # data sets may have moved
        flat["data.mix"] = [{**part, "root": "", "leave_out": ""} for part in flat.get("data.mix") or []]
    free = set(_FREE_KEYS)
    if new.get("train", {}).get("schedule") == "cosine":
        free -= {"train.epochs", "train.max_steps"}
    if new.get("data", {}).get("frame_size") is not None:  # a pack holds reduced frames as JPEGs again
        free -= {"data.cache"}
    keys = sorted(set(flat_old) | set(flat_new))
    return [key for key in keys if key not in free and flat_old.get(key) != flat_new.get(key)]


def _flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, dict):
            flat.update(_flatten(inner, f"{prefix}{key}."))
        elif inner is not None:
            flat[f"{prefix}{key}"] = inner
    return flat
