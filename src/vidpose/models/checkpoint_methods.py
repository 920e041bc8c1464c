"""Released checkpoints of PoseWarper, DCPose and FAMI-Pose, whole: their temporal parts under our names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from vidpose.models.checkpoint_formats import Converted, State
from vidpose.skeletons import get_skeleton

Rename = tuple[str, str | Callable[[re.Match[str]], str]]
"""A pattern that a whole name must match, and what takes its place."""


@dataclass(frozen=True)
class ReleasedMethod:
    """What a release calls things."""

    owner: str
    """Name of our model."""
    names: tuple[Rename, ...]
    initial_head: bool
    """Whether our model refines the heatmaps of the single-frame network inside."""
    optional: tuple[str, ...] = ()
    note: str | None = None


def _from_zero(start: str) -> Callable[[re.Match[str]], str]:
    """``offsets1.weight`` -> ``offsets.0.weight``: releases count from 1."""
    return lambda m: f"{start}.{int(m[1]) - 1}.{m[2]}"


METHODS: dict[str, ReleasedMethod] = {
    "PoseWarper": ReleasedMethod(
        "posewarper",
        (
            (r"offset_feats\.(.+)", r"head.warper.offset_features.\1"),
            (r"offsets(\d)\.(.+)", _from_zero("head.warper.offsets")),
            (r"deform_conv(\d)\.(.+)", _from_zero("head.warper.deform")),
        ),
        initial_head=True,
    ),
    "DCPose": ReleasedMethod(
        "dcpose",
        (
            (r"support_temporal_fuse\.(.+)", r"head.merge.\1"),
            (r"diff_temporal_fuse\.(.+)", r"head.fuse.\1"),
            (r"offset_mask_combine_conv\.(.+)", r"head.correct.combine.\1"),
            (r"offsets_list\.(\d)\.0\.(.+)", r"head.correct.offsets.\1.\2"),
            (r"masks_list\.(\d)\.0\.(.+)", r"head.correct.masks.\1.\2"),
            (r"modulated_deform_conv_list\.(\d)\.deform_conv\.(.+)", r"head.correct.deform.\1.\2"),
        ),
        initial_head=True,
    ),
    "FAMI-Pose": ReleasedMethod(
        "famipose",
        (
            (r"feat_global_offset_layers\.(.+)", r"head.move.regress.\1"),
            (r"sup_agg_block\.(.+)", r"head.aggregate.\1"),
            (r"combined_feat_layers\.(.+)", r"head.calibrate.combine.\1"),
            (r"dcn_(offset|mask)_(\d)\.conv\.(.+)",
             lambda m: f"head.calibrate.steps.{int(m[2]) - 1}.{m[1]}.{m[3]}"),
            (r"dcn_(\d)\.(.+)", lambda m: f"head.calibrate.steps.{int(m[1]) - 1}.deform.{m[2]}"),
            (r"init_feature_agg_block\.(.+)", r"head.enhance.\1"),
            (r"agg_final_layer\.(.+)", r"head.heatmaps.\1"),
        ),
        initial_head=False,
        optional=("information.",),  # the estimator's heads, which only training needs
        note="its samples are not bounded: only a model with modulation='linear' computes what it did",
    ),
}  # fmt: skip
"""By the name of the format (``checkpoint_formats``)."""

_INNER: tuple[tuple[str, str], ...] = (  # inside the blocks, after the names above
    (r"\.layers\.", "."),  # a chain of blocks
    (r"\.conv_bn_relu1\.", ".reduce."),  # residual steps
    (r"\.conv_bn_relu2_(\d_\d)\.", r".steps.\1."),
    (r"\.conv_bn_relu3\.", ".expand."),
    (r"\.downsample\.(conv|bn)\.", r".shortcut.\1."),
    (r"\.conv\.(\w+)$", r".0.\1"),  # convolution and BatchNorm
    (r"\.bn\.(\w+)$", r".1.\1"),
)


def whole_method(
    found: Converted, state: Mapping[str, Tensor], owner: str, joints: tuple[str, ...]
) -> Converted:
    """A released checkpoint for the model that it is of; any other comes back as it is.

    Args:
        found: the checkpoint's single-frame network, as ``checkpoint_formats.convert`` gives it.
        state: all tensors of the file, without ``module.``; not changed.
        owner: name of the model that is loaded.
        joints: names of its joints. A temporal part speaks of its joints by position all through, so that it
            serves these alone; for others the single-frame network is used, which a note says.

    Returns:
        ``found`` with the tensors of the temporal part, and ``owner`` set.
    """
    method = METHODS.get(found.format)
    if method is None or method.owner != owner:
        return found
    if found.joints is None or joints != get_skeleton(found.joints).joints:
        hint = f": create the model with skeleton={found.joints!r} to use it" if found.joints else ""
        note = f"the temporal part of {found.format} is for other joints than the model's{hint}"
        return replace(found, notes=[*found.notes, note])
    names = {key: _own_name(key, method.names) for key in found.unexpected}
    part = fold_biases({key: state[key] for key, name in names.items() if name is not None})
    tensors = {new: part[key] for key, new in names.items() if new is not None and key in part}
    unexpected = [key for key, name in names.items() if name is None]
    for key, value in found.tensors.items():
        if not key.startswith("head."):
            tensors[key] = value
        elif method.initial_head:
            tensors[f"initial_{key}"] = value
        else:
            unexpected.append(key)
    return replace(
        found,
        tensors=tensors,
        unexpected=unexpected,
        owner=owner,
        optional=method.optional,
        notes=[method.note] if method.note else [],
    )


def _own_name(key: str, names: tuple[Rename, ...]) -> str | None:
    for pattern, replacement in names:
        match = re.fullmatch(pattern, key)
        if match:
            key = match.expand(replacement) if isinstance(replacement, str) else replacement(match)
            for inner, new in _INNER:
                key = re.sub(inner, new, key)
            return key
    return None


def fold_biases(state: Mapping[str, Tensor]) -> State:
    """Takes the bias of convolutions ``*.conv`` before BatchNorm ``*.bn`` into BatchNorm's running mean.

    Ours have none: BatchNorm subtracts the mean, and a bias with it.
    """
    out = dict(state)
    for key in state:
        start = key[: -len("conv.bias")]
        if key == f"{start}conv.bias" and f"{start}bn.running_mean" in state:
            out[f"{start}bn.running_mean"] = state[f"{start}bn.running_mean"] - out.pop(key)
    return out
