"""Models by name: building them, listing them, and our own checkpoint files."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vidpose.errors import InputError
from vidpose.io.files import atomic_path
from vidpose.models.backbones import backbone_family, create_backbone
from vidpose.models.checkpoint_files import locate, read_checkpoint
from vidpose.models.checkpoints import LoadReport, load_weights
from vidpose.models.flow import FlowEncoder
from vidpose.models.video_model import PoseModel
from vidpose.skeletons import SKELETONS, get_skeleton

FORMAT_VERSION = 1

_COMMON = ("backbone", "initial_head", "num_frames", "num_joints", "input_size", "freeze_backbone")
_DEFAULT_SKELETONS = {15: "posetrack15", 17: "coco17", 14: "hieve14"}


@dataclass(frozen=True)
class ModelEntry:
    """What ``create_model`` knows of a name: where its class is and what it is called with."""

    load: Callable[[], type[PoseModel]]
    backbone: str
    families: tuple[str, ...]
    input_size: tuple[int, int]
    num_frames: int
    switches: Mapping[str, Any] = field(default_factory=dict)
    """Fixed by the name: ``tdmi_st`` is TDMI with ``spatio_temporal=True``."""


def _simple_baseline() -> type[PoseModel]:
    from vidpose.models.single_frame import SimpleBaseline

    return SimpleBaseline


def _hrnet() -> type[PoseModel]:
    from vidpose.models.single_frame import HRNetPose

    return HRNetPose


def _vitpose() -> type[PoseModel]:
    from vidpose.models.single_frame import ViTPose

    return ViTPose


def _tdmi() -> type[PoseModel]:
    from vidpose.models.tdmi import TDMI

    return TDMI


def _jmpose() -> type[PoseModel]:
    from vidpose.models.jmpose import JMPose

    return JMPose


def _stdpose() -> type[PoseModel]:
    from vidpose.models.stdpose import STDPose

    return STDPose


def _vremd() -> type[PoseModel]:
    from vidpose.models.vremd import VREMD

    return VREMD


def _sdtc() -> type[PoseModel]:
    from vidpose.models.sdtc import SDTC

    return SDTC


def _posewarper() -> type[PoseModel]:
    from vidpose.models.posewarper import PoseWarper

    return PoseWarper


def _dcpose() -> type[PoseModel]:
    from vidpose.models.dcpose import DCPose

    return DCPose


def _famipose() -> type[PoseModel]:
    from vidpose.models.famipose import FAMIPose

    return FAMIPose


_HRNET_SIZE = (384, 288)
_VIT_SIZE = (256, 192)

MODELS: dict[str, ModelEntry] = {
    "tdmi": ModelEntry(_tdmi, "hrnet_w48", ("hrnet",), _HRNET_SIZE, 5, {"spatio_temporal": False}),
    "tdmi_st": ModelEntry(_tdmi, "hrnet_w48", ("hrnet",), _HRNET_SIZE, 5, {"spatio_temporal": True}),
    "jmpose": ModelEntry(_jmpose, "hrnet_w48", ("hrnet",), _HRNET_SIZE, 5),
    "stdpose": ModelEntry(_stdpose, "vit_b", ("vit", "hrnet"), _VIT_SIZE, 3),
    "vremd": ModelEntry(_vremd, "vit_l", ("vit",), _VIT_SIZE, 3),
    "sdtc": ModelEntry(_sdtc, "vit_b", ("vit",), _VIT_SIZE, 5),
    "posewarper": ModelEntry(_posewarper, "hrnet_w48", ("hrnet",), _HRNET_SIZE, 5),
    "dcpose": ModelEntry(_dcpose, "hrnet_w48", ("hrnet",), _HRNET_SIZE, 3),
    "famipose": ModelEntry(_famipose, "hrnet_w48", ("hrnet",), _HRNET_SIZE, 5),
    "simple_baseline": ModelEntry(_simple_baseline, "resnet152", ("resnet",), _HRNET_SIZE, 1),
    "hrnet": ModelEntry(_hrnet, "hrnet_w48", ("hrnet",), _HRNET_SIZE, 1),
    "vitpose": ModelEntry(_vitpose, "vit_b", ("vit",), _VIT_SIZE, 1),
}


def list_models() -> list[str]:
    """The names that :func:`create_model` takes."""
    return list(MODELS)


def model_switches(name: str) -> list[str]:
    """The switches of a model: the keyword arguments of ``create_model`` that only this model has."""
    entry = model_entry(name)
    names: dict[str, None] = {}
    for cls in entry.load().__mro__:
        if not issubclass(cls, PoseModel):
            break
        parameters = inspect.signature(cls.__init__).parameters.values()
        names |= {p.name: None for p in parameters if p.kind is p.KEYWORD_ONLY}
    names["skeleton"] = None
    return sorted(n for n in names if n not in _COMMON and n not in entry.switches)


def create_model(
    name: str,
    *,
    backbone: str | None = None,
    num_frames: int | None = None,
    num_joints: int | None = None,
    input_size: tuple[int, int] | None = None,
    pretrained: bool | str | os.PathLike[str] = False,
    freeze_backbone: bool = True,
    skeleton: str | None = None,
    **switches: Any,
) -> PoseModel:
    """Builds a model by its name.

    Args:
        name: one of :func:`list_models`.
        backbone: one of ``backbones.BACKBONES``; ``None``: the paper's.
        num_frames: T, odd, key frame in the middle; ``None``: the paper's. Single-frame models take 1.
        num_joints: J; ``None``: of ``skeleton``, or else PoseTrack's 15.
        input_size: (H, W) in pixels; ``None``: the paper's.
        pretrained: ``False``, or a checkpoint that :func:`load_weights` reads: a file, a folder, or a hub id.
        freeze_backbone: no gradient into the backbone, its BatchNorm statistics fixed.
        skeleton: name of the joint set that the heatmaps stand for (``vidpose.skeletons``); ``None``:
            posetrack15, coco17 or hieve14 by the number of joints.
        switches: the model's own keyword arguments, named in the terms of its paper (:func:`model_switches`).

    Returns:
        The model in training mode, with ``config`` holding these arguments.

    Raises:
        InputError: an unknown name, backbone or switch (the message lists the known ones), or a size that
            does not fit.
    """
    entry = model_entry(name)
    backbone = backbone or entry.backbone
    if backbone_family(backbone) not in entry.families:
        raise InputError(
            f"{name} needs a backbone of the {' or '.join(entry.families)} family, not {backbone}"
        )
    known = model_switches(name)
    unknown = [key for key in switches if key not in known]
    if unknown:
        raise InputError(f"{name} has no switch {', '.join(unknown)}; it has: {', '.join(known)}")
    joints = _joint_set(skeleton, num_joints)
    num_joints = num_joints if num_joints is not None else get_skeleton(joints or "posetrack15").num_joints
    size = _size(input_size if input_size is not None else entry.input_size)
    frames = num_frames if num_frames is not None else entry.num_frames
    model = entry.load()(
        create_backbone(backbone, size),
        num_frames=frames,
        num_joints=num_joints,
        input_size=size,
        freeze_backbone=freeze_backbone,
        **entry.switches,
        **switches,
    )
    model.skeleton = get_skeleton(joints) if joints else None  # type: ignore[assignment]
    model.config = {
        "name": name,
        "backbone": backbone,
        "num_frames": frames,
        "num_joints": num_joints,
        "input_size": list(size),
        "freeze_backbone": freeze_backbone,
        "skeleton": joints,
        **switches,
    }
    for module in model.modules():
        if isinstance(module, FlowEncoder):  # what "auto" has found: a checkpoint must not find another
            model.config["flow"] = module.flow_name or switches.get("flow", "auto")
    if pretrained is True:
        raise InputError("pretrained=True names no checkpoint: give a file, a folder or a hub id")
    if pretrained is not False:
        load_weights(model, pretrained)
    return model


def save_model(model: PoseModel, path: str | os.PathLike[str], card: Mapping[str, Any] | None = None) -> None:
    """Writes a model as safetensors; its metadata rebuild it.

    Args:
        model: built by :func:`create_model`.
        path: the file to write; it appears whole or not at all.
        card: what a user should know: data, recipe, scores. Any JSON value.
    """
    from safetensors.torch import save_file

    if not model.config:
        raise InputError(
            "the model was not built by create_model, so that its checkpoint could not be read back"
        )
    description = {"format": FORMAT_VERSION, "config": model.config, "card": dict(card or {})}
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"vidpose": json.dumps(description)})


def load_model(source: str | os.PathLike[str], device: str | torch.device = "cpu") -> PoseModel:
    """Reads a model that :func:`save_model` wrote, in eval mode.

    Args:
        source: the file, a folder that holds it as ``model.safetensors``, or a hub id.
        device: where the model goes.

    Raises:
        InputError: no such file, or not one of ours.
    """
    path = locate(source)
    checkpoint = read_checkpoint(path)
    description = checkpoint.description
    if description is None:
        raise InputError(
            f"{path}: holds weights but no description of the model; "
            f"use create_model(NAME, pretrained={str(path)!r})"
        )
    model = _rebuild(path, description)
    report = load_weights(model, checkpoint)
    model.card = description.get("card") or {}  # type: ignore[assignment]
    if report.missing:
        raise InputError(
            f"{path}: lacks {len(report.missing)} of the model's weights, first {report.missing[0]}"
        )
    return model.to(device).eval()


def describe_checkpoint(source: str | os.PathLike[str]) -> dict[str, Any]:
    """The description inside one of our checkpoints: ``{"format", "config", "card"}``."""
    path = locate(source)
    description = read_checkpoint(path).description
    if description is None:
        raise InputError(f"{path}: is not a checkpoint written by vidpose")
    return description


def _rebuild(path: Path, description: Mapping[str, Any]) -> PoseModel:
    if description.get("format") != FORMAT_VERSION:
        raise InputError(
            f"{path}: has format {description.get('format')}, this vidpose reads {FORMAT_VERSION}: update it"
        )
    config = description.get("config")
    if not isinstance(config, dict) or "name" not in config:
        raise InputError(f"{path}: its description has no model configuration")
    try:
        return create_model(**config)
    except (InputError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its model cannot be rebuilt: {error}") from error


def model_entry(name: str) -> ModelEntry:
    """What is known of a model's name; an unknown one is an :class:`InputError` that lists the known ones."""
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}; known: {', '.join(MODELS)}")
    return MODELS[name]


def _size(value: Any) -> tuple[int, int]:
    try:
        height, width = (int(v) for v in value)
    except (TypeError, ValueError):
        raise InputError(f"input_size is {value!r}: give height and width, as (256, 192)") from None
    return height, width


def _joint_set(skeleton: str | None, num_joints: int | None) -> str | None:
    if skeleton is None:
        return _DEFAULT_SKELETONS.get(num_joints if num_joints is not None else 15)
    if skeleton not in SKELETONS:
        raise InputError(f"unknown joint set {skeleton!r}; known: {', '.join(SKELETONS)}")
    count = get_skeleton(skeleton).num_joints
    if num_joints is not None and num_joints != count:
        raise InputError(f"num_joints is {num_joints}, but the joint set {skeleton} has {count}")
    return skeleton


__all__ = [
    "MODELS",
    "LoadReport",
    "create_model",
    "describe_checkpoint",
    "list_models",
    "load_model",
    "load_weights",
    "model_entry",
    "model_switches",
    "save_model",
]
