"""Names of other projects' checkpoints -> ours, as pure functions on state dicts.

Ours are ``backbone.*`` (HRNet: the official names; ResNet: torchvision's; ViT: transformers', below ``vit.``)
and ``head.{deconv_layers,final_layer}.*`` of the single-frame models. docs/checkpoints.md lists the formats.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vidpose.errors import InputError
from vidpose.models.backbones import RESNETS, VITS
from vidpose.models.checkpoint_files import Checkpoint
from vidpose.models.vit import interpolate_positions

State = dict[str, Tensor]

PLUS_DATASETS = (("coco", 17), ("aic", 14), ("mpii", 16), ("ap10k", 17), ("apt36k", 17), ("wholebody", 133))
"""ViTPose+'s data sets in the order of its experts, and their numbers of joints."""

_NOT_PLUS = "is no ViTPose+ checkpoint, so that dataset_index has no meaning"


@dataclass
class Converted:
    """A checkpoint under our names."""

    format: str
    family: str | None
    tensors: State
    unexpected: list[str] = field(default_factory=list)
    """Names in the file that have no place in ours."""
    joints: str | None = None
    """Joint set of ``head.final_layer``, where it is known."""
    owner: str | None = None
    """Name of the model (ours) that it belongs to; ``None``: of somebody else's single-frame model."""
    notes: list[str] = field(default_factory=list)
    optional: tuple[str, ...] = ()
    """Beginnings of names (ours) that a whole checkpoint of this kind may lack."""


def convert(checkpoint: Checkpoint, *, dataset_index: int | None = None) -> Converted:
    """Detects a checkpoint's format and renames its tensors.

    Args:
        checkpoint: as read; not changed.
        dataset_index: which expert of a ViTPose+ checkpoint to take (:data:`PLUS_DATASETS`); ``None``: COCO.

    Raises:
        InputError: nothing in the file looks like a pose backbone, or a part of one is not what it must be.
    """
    try:
        return _convert(checkpoint, dataset_index)
    except (KeyError, IndexError, TypeError, RuntimeError, AttributeError) as error:
        raise InputError(
            f"{checkpoint.path}: its tensors are not those of a whole checkpoint ({type(error).__name__}: "
            f"{error})"
        ) from error


def _convert(checkpoint: Checkpoint, dataset_index: int | None) -> Converted:
    state = without_prefix(checkpoint.tensors, "module.")
    if checkpoint.description is not None:
        config = checkpoint.description.get("config") or {}
        return Converted(
            "vidpose", None, dict(state), joints=config.get("skeleton"), owner=config.get("name")
        )
    if any(key.startswith("model.backbone.") for key in state):
        own = {key[6:]: value for key, value in state.items() if key.startswith("model.")}
        rest = [key for key in state if not key.startswith("model.")]
        return Converted("vidpose training checkpoint", None, own, rest, owner="?")
    if any(key.startswith("backbone.vit.") for key in state):
        return Converted("vidpose state dict", None, dict(state), owner="?")
    for marker, reader in _READERS:
        prefix = _prefix(state, marker)
        if prefix is not None:
            out = reader(state, prefix)
            if out.family == "vit":
                _merge_experts(out, checkpoint.path, dataset_index)
            elif dataset_index is not None:
                raise InputError(f"{checkpoint.path}: {_NOT_PLUS}")
            if out.joints is None:
                out.joints = _joints_of_head(out, checkpoint.container, dataset_index)
            return out
    some = ", ".join(list(state)[:3])
    raise InputError(
        f"{checkpoint.path}: no known pose checkpoint: {len(state)} tensors, the first are {some}; "
        "known are HRNet, ViTPose, SimpleBaseline, ResNet and their mmpose and Hugging Face versions"
    )


def without_prefix(state: Mapping[str, Tensor], prefix: str) -> State:
    """``module.`` of DataParallel, where every name has it."""
    if state and all(key.startswith(prefix) for key in state):
        return {key[len(prefix) :]: value for key, value in state.items()}
    return dict(state)


def _prefix(state: State, marker: str) -> str | None:
    """What stands before ``marker`` in the shortest name that ends in it."""
    found = [key[: -len(marker)] for key in state if key.endswith(marker)]
    return min((p for p in found if p == "" or p.endswith(".")), key=len, default=None)


def _rename(state: State, name: Callable[[str], str | None]) -> tuple[State, list[str]]:
    out, unexpected = {}, []
    for key, value in state.items():
        new = name(key)
        if new is None:
            unexpected.append(key)
        else:
            out[new] = value
    return out, unexpected


_HEAD_PREFIXES = ("keypoint_head.", "head.")
_HEAD_NAMES = re.compile(r"final_layer\.(weight|bias)|deconv_layers\.\d+\.\w+")


def _head_name(key: str, prefix: str) -> str | None:
    """``head.*`` for a head: beside the backbone in mmpose, inside the network in the official releases."""
    for start in _HEAD_PREFIXES if prefix.endswith("backbone.") else (prefix,):
        if key.startswith(start) and _HEAD_NAMES.fullmatch(key[len(start) :]):
            return "head." + key[len(start) :]
    return None


# HRNet ----------------------------------------------------------------------------------------------------

_HRNET_ROOTS = re.compile(r"(conv1|bn1|conv2|bn2|layer1|transition[123]|stage[234])\.")


def _from_hrnet(state: State, prefix: str) -> Converted:
    def name(key: str) -> str | None:
        if key.startswith(prefix) and _HRNET_ROOTS.match(key[len(prefix) :]):
            return "backbone." + key[len(prefix) :]
        return _head_name(key, prefix)

    tensors, unexpected = _rename(state, name)
    kind, posetrack = _hrnet_kind(state, prefix)
    out = Converted(kind, "hrnet", tensors, unexpected)
    if posetrack:
        out.joints = _posetrack_joints(tensors)
        out.notes.append(f"only the single-frame network inside {kind} is used")
    return out


def _hrnet_kind(state: State, prefix: str) -> tuple[str, bool]:
    """Name of the format, and whether its head was trained on PoseTrack."""

    def has(*starts: str) -> bool:
        return any(key.startswith(starts) for key in state)

    if prefix == "rough_pose_estimation_net.":
        return "DCPose", True
    if has("offset_feats.") and has("deform_conv1."):
        return "PoseWarper", True
    if prefix == "hrnet.":
        return ("JM-Pose", True) if has("motion_fusion_s1", "motion_smooth_s2") else ("FAMI-Pose", True)
    if prefix == "backbone.":
        if has("keypoint_head."):
            return "mmpose 0.x HRNet", False
        return ("mmpose 1.x HRNet" if has("head.") else "HRNet backbone"), False
    if has(f"{prefix}classifier."):
        return "HRNet of ImageNet", False
    return "HRNet (official)", False


def _posetrack_joints(tensors: State) -> str | None:
    final = tensors.get("head.final_layer.weight")
    return {17: "posetrack18", 15: "posetrack15"}.get(len(final)) if final is not None else None


# ResNet ---------------------------------------------------------------------------------------------------

_RESNET_ROOTS = re.compile(r"(conv1|bn1|layer[1234])\.")


def _from_resnet(state: State, prefix: str) -> Converted:
    def name(key: str) -> str | None:
        if key.startswith(prefix) and _RESNET_ROOTS.match(key[len(prefix) :]):
            return "backbone." + key[len(prefix) :]
        return _head_name(key, prefix)

    tensors, unexpected = _rename(state, name)
    if "head.final_layer.weight" not in tensors:
        kind = "ResNet (torchvision)" if f"{prefix}fc.weight" in state else "ResNet backbone"
    elif prefix.endswith("backbone."):
        version = "0.x" if any(k.startswith("keypoint_head.") for k in state) else "1.x"
        kind = f"mmpose {version} SimpleBaseline"
    else:
        kind = "SimpleBaseline (official)"
    return Converted(kind, "resnet", tensors, unexpected)


# ViT ------------------------------------------------------------------------------------------------------

_VIT = "backbone.vit."
_LAYER = re.compile(r"(?:blocks|layers)\.(\d+)\.(.+)\.(weight|bias)")
_LAYER_NAMES = {
    "norm1": "layernorm_before", "ln1": "layernorm_before",
    "norm2": "layernorm_after", "ln2": "layernorm_after",
    "attn.qkv": "qkv", "attn.proj": "attention.output.dense", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2",
    "ffn.layers.0.0": "mlp.fc1", "ffn.layers.1": "mlp.fc2",
}  # fmt: skip
_TOP_NAMES = {
    "pos_embed": "embeddings.position_embeddings",
    **{f"patch_embed.{p}.{w}": f"embeddings.patch_embeddings.projection.{w}"
       for p in ("proj", "projection") for w in ("weight", "bias")},
    **{f"{n}.{w}": f"layernorm.{w}"
       for n in ("last_norm", "norm", "ln1", "norm1") for w in ("weight", "bias")},
}  # fmt: skip


def _from_vit(state: State, prefix: str) -> Converted:
    """Official ViTPose, mmpose 1.x, and plain MAE or timm backbones: joint qkv, ``blocks`` or ``layers``."""

    def name(key: str) -> str | None:
        head = re.sub(r"^associate_keypoint_heads\.", "associate.", key)
        if head != key or (head := _head_name(key, prefix or "backbone.") or ""):
            return head
        tail = key[len(prefix) :] if key.startswith(prefix) else ""
        if tail in _TOP_NAMES:
            return _VIT + _TOP_NAMES[tail]
        match = _LAYER.fullmatch(tail)
        if match is None:
            return None
        layer, module, what = match.groups()
        module = _LAYER_NAMES.get(module) or (module if module.startswith("mlp.experts.") else "")
        return f"{_VIT}encoder.layer.{layer}.{module}.{what}" if module else None

    tensors, unexpected = _rename(state, name)
    for key in [k for k in tensors if ".qkv." in k]:
        parts = tensors.pop(key).chunk(3, dim=0)
        for what, part in zip(("query", "key", "value"), parts, strict=True):
            tensors[key.replace(".qkv.", f".attention.attention.{what}.")] = part
    mmpose1 = f"{prefix}layers.0.attn.qkv.weight" in state
    if mmpose1:
        kind = "mmpose 1.x ViTPose"
    else:
        kind = "ViTPose (official)" if any(k.startswith("keypoint_head.") for k in state) else "ViT backbone"
    return Converted(kind, "vit", tensors, unexpected)


_HF_HEADS = {
    "head.deconv1.": "head.deconv_layers.0.", "head.batchnorm1.": "head.deconv_layers.1.",
    "head.deconv2.": "head.deconv_layers.3.", "head.batchnorm2.": "head.deconv_layers.4.",
    "head.conv.": "head.final_layer.",
}  # fmt: skip


def _from_hugging_face(state: State, prefix: str) -> Converted:
    def name(key: str) -> str | None:
        for old, new in _HF_HEADS.items():
            if key.startswith(old):
                return new + key[len(old) :]
        tail = key[len(prefix) :] if key.startswith(prefix) else ""
        return _VIT + tail if tail.startswith(("embeddings.", "encoder.layer.", "layernorm.")) else None

    tensors, unexpected = _rename(state, name)
    tensors.pop(f"{_VIT}embeddings.cls_token", None)
    return Converted("ViTPose (Hugging Face)", "vit", tensors, unexpected)


_EXPERT = re.compile(r"(.+\.mlp)\.experts\.(?:experts\.)?(\d+)\.(weight|bias)")


def _merge_experts(out: Converted, path: str, dataset_index: int | None) -> None:
    """ViTPose+: the last rows of every fc2 belong to a data set; joins the chosen ones to the shared ones."""
    experts: dict[tuple[str, str], dict[int, Tensor]] = {}
    for key in list(out.tensors):
        match = _EXPERT.fullmatch(key)
        if match:
            layer, index, what = match.groups()
            experts.setdefault((layer, what), {})[int(index)] = out.tensors.pop(key)
    # Checkpoints that were split by data set keep left-over experts beside a whole fc2.
    partial = {
        (layer, what): found
        for (layer, what), found in experts.items()
        if len(out.tensors[f"{layer}.fc2.{what}"]) < out.tensors[f"{layer}.fc1.weight"].shape[1]
    }
    if not partial:
        if dataset_index is not None:
            raise InputError(f"{path}: {_NOT_PLUS}")
        _choose_head(out, 0)
        return
    index = dataset_index or 0
    count = min(len(found) for found in partial.values())
    if not 0 <= index < count:
        names = ", ".join(f"{i} {name}" for i, (name, _) in enumerate(PLUS_DATASETS[:count]))
        raise InputError(f"{path}: dataset_index {index}: the checkpoint has {count} experts: {names}")
    for (layer, what), found in partial.items():
        key = f"{layer}.fc2.{what}"
        out.tensors[key] = torch.cat([out.tensors[key], found[index]], dim=0)
    out.format = out.format.replace("ViTPose", "ViTPose+")
    data_set = PLUS_DATASETS[index][0] if index < len(PLUS_DATASETS) else f"data set {index}"
    out.notes.append(f"ViTPose+: expert {index} ({data_set}) of {count} was taken (dataset_index)")
    _choose_head(out, index)


def _choose_head(out: Converted, index: int) -> None:
    """Expert 0 belongs to ``keypoint_head``, expert k to ``associate_keypoint_heads.{k-1}``."""
    chosen = f"associate.{index - 1}."
    others = {k: out.tensors.pop(k) for k in list(out.tensors) if k.startswith("associate.")}
    mine = {"head." + k[len(chosen) :]: v for k, v in others.items() if k.startswith(chosen)}
    out.unexpected += [
        "associate_keypoint_heads." + k[len("associate.") :]
        for k in others
        if not (index and k.startswith(chosen))
    ]
    if index and mine:
        rows = PLUS_DATASETS[index][1]
        for what in ("weight", "bias"):
            mine[f"head.final_layer.{what}"] = mine[f"head.final_layer.{what}"][
                :rows
            ]  # padded in some releases
        out.tensors.update(mine)
    elif index:
        out.notes.append("the file has only the head of COCO, which goes with expert 0")


_READERS: tuple[tuple[str, Callable[[State, str], Converted]], ...] = (
    ("embeddings.patch_embeddings.projection.weight", _from_hugging_face),
    ("patch_embed.proj.weight", _from_vit),
    ("patch_embed.projection.weight", _from_vit),
    ("stage2.0.branches.0.0.conv1.weight", _from_hrnet),
    ("layer4.0.conv1.weight", _from_resnet),
)


def _joints_of_head(out: Converted, container: Mapping[str, Any], dataset_index: int | None) -> str | None:
    final = out.tensors.get("head.final_layer.weight")
    if final is None or dataset_index:
        return None
    meta = container.get("meta")
    named = (meta.get("dataset_meta") or {}).get("dataset_name") if isinstance(meta, dict) else None
    if isinstance(named, str) and named.startswith("posetrack"):
        return "posetrack18" if len(final) == 17 else None
    return {17: "coco17", 15: "posetrack15"}.get(len(final))


# Position embeddings --------------------------------------------------------------------------------------


def fit_positions(found: Converted, grid: tuple[int, int], checkpoint: Checkpoint) -> str | None:
    """Brings the position embedding to ``grid`` tokens, in place; returns a note where it had to be changed.

    Ours is [1, 1 + h·w, D], whose first row, the class token's, ViTPose adds to every token. mmpose 1.x has
    no such row; it gets zeros there.
    """
    key = f"{_VIT}embeddings.position_embeddings"
    position = found.tensors.get(key)
    if position is None or position.dim() != 3:
        return None
    # 193 rows are no grid, so that a conversion to mmpose's names that kept the row is told from one without.
    leads = (False, True) if found.format.startswith("mmpose") else (True,)
    lead, source = _token_grid(position.shape[1], leads, grid, checkpoint)
    if not lead:
        position = torch.cat([torch.zeros_like(position[:, :1]), position], dim=1)
    found.tensors[key] = interpolate_positions(position, source, grid)
    if source == grid:
        return None
    return f"position embedding interpolated from {source[0]}x{source[1]} to {grid[0]}x{grid[1]} tokens"


def _token_grid(
    count: int, leads: tuple[bool, ...], grid: tuple[int, int], checkpoint: Checkpoint
) -> tuple[bool, tuple[int, int]]:
    """(whether a class token leads, grid of the rest) of a position embedding with ``count`` rows."""
    known = _configured_grid(checkpoint)
    for lead in leads:
        tokens = count - lead
        k, side = math.isqrt(tokens // 12), math.isqrt(tokens)
        for shape in (*known, grid, (4 * k, 3 * k), (side, side)):
            if shape[0] * shape[1] == tokens and tokens:
                return lead, shape
    raise InputError(
        f"{checkpoint.path}: its position embedding has {count} rows, which fits no 4:3 or square grid of "
        "tokens; the input size of the checkpoint is needed (config.json beside it)"
    )


def _configured_grid(checkpoint: Checkpoint) -> list[tuple[int, int]]:
    """Tokens per column and row by our own description or a ``config.json`` of transformers."""
    own = (checkpoint.description or {}).get("config") or {}
    backbone = checkpoint.hub_config.get("backbone_config") or checkpoint.hub_config
    try:
        height, width = own.get("input_size") or backbone["image_size"]
        patch = backbone.get("patch_size", 16)
        down, across = patch if isinstance(patch, list) else (patch, patch)
        return [(int(height) // int(down), int(width) // int(across))]
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        return []


def guess_backbone(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the backbone whose weights these are (our names), for messages."""
    branch = tensors.get("backbone.stage2.0.branches.0.0.conv1.weight")
    if branch is not None:
        return f"hrnet_w{len(branch)}" if branch.dim() else None
    projection = tensors.get(f"{_VIT}embeddings.patch_embeddings.projection.weight")
    if projection is not None and projection.dim():
        depth = sum(bool(re.fullmatch(r".+\.layer\.\d+\.layernorm_before\.weight", k)) for k in tensors)
        sizes = {(dim, layers): name for name, (dim, layers, _) in VITS.items()}
        return sizes.get((projection.shape[0], depth), f"a ViT of width {projection.shape[0]}, depth {depth}")
    blocks = sum(bool(re.fullmatch(r"backbone\.layer3\.\d+\.conv1\.weight", k)) for k in tensors)
    return next((name for name, counts in RESNETS.items() if counts[2] == blocks), None) if blocks else None
