"""Which weights a pose model runs with."""

from __future__ import annotations

import os
from pathlib import Path

from vidpose.errors import InputError
from vidpose.io.download import resolve_file
from vidpose.models.checkpoint_files import locate, read_checkpoint
from vidpose.models.checkpoint_formats import convert, guess_backbone
from vidpose.models.checkpoint_methods import METHODS
from vidpose.models.factory import MODELS, create_model, list_models, load_model, load_weights, model_entry
from vidpose.models.video_model import PoseModel
from vidpose.weight_sets import find_file, find_weight_set, set_name


def load_pose_model(name: str, weights: str | os.PathLike[str] = "default") -> tuple[PoseModel, str]:
    """A trained model in eval mode, and what its weights are called in results.

    Args:
        name: of ``list_models()``.
        weights: name of a set (:mod:`vidpose.weight_sets`), ``default`` among them; our checkpoint; or any
            checkpoint that ``load_weights`` reads and that fills the model's head too.

    Returns:
        The model, and the real name of the set that holds it, or the checkpoint as it was given.

    Raises:
        InputError: unknown name, a set that is not installed or has nothing for it, or weights of another
            model.
    """
    if name not in list_models():
        raise InputError(f"unknown model {name!r}; known: {', '.join(list_models())}")
    text = os.fspath(weights)
    if set_name(text) is not None:
        path, found_in = pose_file(name, text)
        model = load_model(path)
        if model.name != name:
            raise InputError(f"{path}: holds a {model.name}, not a {name}: the set {found_in} is damaged")
        return model, found_in
    path = locate(weights) if Path(text).expanduser().exists() else resolve_file(text)
    checkpoint = read_checkpoint(path)
    if checkpoint.description is not None:
        stored = (checkpoint.description.get("config") or {}).get("name")
        if stored != name:
            raise InputError(f"{text}: holds a {stored}, not a {name}; give --model {stored}")
        return load_model(path), text
    found = convert(checkpoint)
    options: dict[str, str] = {}
    guess = guess_backbone(found.tensors)
    if guess and found.family in MODELS[name].families:
        options["backbone"] = guess
    if name == "vitpose":
        deconvolved = any(key.startswith("head.deconv_layers.") for key in found.tensors)
        options["head"] = "classic" if deconvolved else "simple"
    released = METHODS.get(found.format)
    if released is not None and released.owner == name:  # whole, and so with its own joints
        options |= {"skeleton": found.joints or "posetrack18"}
        if name == "famipose":
            options["modulation"] = "linear"
    model = create_model(name, **options)  # type: ignore[arg-type]
    report = load_weights(model, checkpoint)
    if not report.head_loaded:
        raise InputError(
            f"{text}: holds a backbone ({report.format}) and no head of {name}: its poses would be random; "
            f"train {name} on top of it, or run the single-frame model it was made for"
        )
    return model.eval(), text


def pose_file(name: str, weights: str | os.PathLike[str] = "default") -> tuple[Path, str]:
    """A model's file in a set, and the name of the set that holds it.

    Args:
        name: of ``list_models()``. weights: name of a set.

    Raises:
        InputError: the set is unknown, not installed, or has no such model.
    """
    model_entry(name)  # an unknown name is told as such
    found = find_file(f"{name}.safetensors", weights)
    if found is None:
        wanted = find_weight_set(os.fspath(weights))
        known = ", ".join(path.stem for path in wanted.files if path.stem in MODELS)
        raise InputError(
            f"model {name!r} has no default weights (the set {wanted.name} has {known or 'none'}); "
            "give --weights FILE or a hub id"
        )
    return found
