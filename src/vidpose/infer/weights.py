"""Which weights a pose model runs with."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from vidpose.errors import InputError
from vidpose.io.download import resolve_file
from vidpose.models.checkpoint_files import locate, read_checkpoint
from vidpose.models.checkpoint_formats import convert, guess_backbone
from vidpose.models.checkpoint_methods import METHODS
from vidpose.models.factory import MODELS, create_model, list_models, load_model, load_weights
from vidpose.models.video_model import PoseModel


def load_pose_model(name: str, weights: str | os.PathLike[str] = "default") -> tuple[PoseModel, str]:
    """A trained model in eval mode, and what its weights are called in results.

    Args:
        name: of ``list_models()``.
        weights: ``default``: what ships with vidpose for this model; our checkpoint; or any checkpoint that
            ``load_weights`` reads and that fills the model's head too.

    Raises:
        InputError: unknown name, nothing shipped for it, or weights of another model.
    """
    if name not in list_models():
        raise InputError(f"unknown model {name!r}; known: {', '.join(list_models())}")
    text = os.fspath(weights)
    if text == "default":
        return load_model(_shipped(name)), "default"
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


def weights_folder() -> Path:
    """Where the weights that ship with vidpose lie."""
    return Path(str(resources.files("vidpose"))) / "weights" / "rendered"


def _shipped(name: str) -> Path:
    folder = weights_folder()
    path = folder / f"{name}.safetensors"
    if path.is_file():
        return path
    known = (
        sorted(p.stem for p in folder.glob("*.safetensors") if p.stem in MODELS) if folder.is_dir() else []
    )
    have = f"weights ship for {', '.join(known)}" if known else "this installation has no shipped weights"
    raise InputError(f"model {name!r} has no default weights ({have}); give --weights FILE or a hub id")
