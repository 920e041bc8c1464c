"""Loading weights of any known format into any of our models, and saying what was loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from torch import Tensor

from vidpose.errors import InputError
from vidpose.models.checkpoint_files import Checkpoint, locate, read_checkpoint
from vidpose.models.checkpoint_formats import (
    Converted,
    convert,
    fit_positions,
    guess_backbone,
    without_prefix,
)
from vidpose.models.checkpoint_methods import whole_method
from vidpose.models.video_model import PoseModel
from vidpose.skeletons import Skeleton, get_skeleton

_INITIAL_HEAD = "initial_head."
_SINGLE_FRAME_MODELS = ("simple_baseline", "hrnet", "vitpose")
_FAMILY_NAMES = {"hrnet": "HRNet", "vit": "ViT", "resnet": "ResNet"}


@dataclass
class LoadReport:
    """What :func:`load_weights` did. Names are those of the model, ``unexpected`` those of the file."""

    format: str
    matched: list[str]
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    borrowed: list[str] = field(default_factory=list)
    """Those of ``matched`` that are a single-frame model's, where the detection head starts."""

    @property
    def head_loaded(self) -> bool:
        """Whether weights of the model's own head were loaded; an initial head belongs to the backbone."""
        return any(name.startswith("head.") for name in self.matched if name not in self.borrowed)

    def __str__(self) -> str:
        counts = (
            f"{self.format}: {len(self.matched)} tensors loaded, "
            f"{len(self.missing)} of the model are new{_first(self.missing)}, "
            f"{len(self.unexpected)} of the file are unused{_first(self.unexpected)}"
        )
        return "\n".join([counts, *(f"note: {note}" for note in self.notes)])


def load_weights(
    model: PoseModel,
    source: str | os.PathLike[str] | Checkpoint,
    *,
    allow_partial: bool = False,
    dataset_index: int | None = None,
    joints: str | None = None,
) -> LoadReport:
    """Loads a checkpoint of any known format (docs/checkpoints.md) into a model, in place.

    A checkpoint of a single-frame model fills the backbone of a video model, and its initial head where the
    method has one, or else its detection head, which starts from it where the shapes agree. A single-frame
    model takes the head. Heads are mapped by the joints' names; joints that the checkpoint lacks get an empty
    heatmap (``model.approximate_head``).

    Args:
        model: what ``create_model`` built.
        source: a file, a folder, or a hub id.
        allow_partial: load what fits although part of the backbone, or a head that should fit, does not.
        dataset_index: expert of a ViTPose+ checkpoint: 0 coco, 1 aic, 2 mpii, 3 ap10k, 4 apt36k, 5 wholebody.
        joints: joint set of the checkpoint's head where its format does not tell (``"posetrack18"`` for an
            HRNet that was fine-tuned on PoseTrack).

    Raises:
        InputError: the file cannot be used; one line with counts and the first names. The model is unchanged.
    """
    checkpoint = source if isinstance(source, Checkpoint) else read_checkpoint(locate(source))
    try:
        found, tensors, unused = _prepare(model, checkpoint, dataset_index, joints)
    except (KeyError, IndexError, TypeError, RuntimeError, AttributeError) as error:
        raise InputError(
            f"{checkpoint.path}: its tensors are not those of a whole checkpoint ({type(error).__name__}: "
            f"{error})"
        ) from error
    own = model.state_dict()
    if (
        _of_single_frame(found)
        and model.detection_head
        and any(
            k.startswith(model.detection_head) and (k not in own or v.shape != own[k].shape)
            for k, v in tensors.items()
        )
    ):  # half of somebody's head is worse than a new one
        unused += [k for k in tensors if k.startswith(model.detection_head)]
        tensors = {k: v for k, v in tensors.items() if not k.startswith(model.detection_head)}
    fitting = {k: v for k, v in tensors.items() if k in own and v.shape == own[k].shape}
    wrong = [k for k, v in tensors.items() if k in own and v.shape != own[k].shape]
    missing = [k for k in own if k not in fitting and not k.endswith("num_batches_tracked")]
    _refuse(model, found, checkpoint.path, tensors, fitting, wrong, missing, allow_partial)
    model.load_state_dict(fitting, strict=False)
    unexpected = [*found.unexpected, *unused, *(k for k in tensors if k not in own), *wrong]
    report = LoadReport(found.format, list(fitting), missing, unexpected, found.notes)
    if model.detection_head and _of_single_frame(found):
        report.borrowed = [name for name in fitting if name.startswith(model.detection_head)]
    if model.kind == "image" and not report.head_loaded:
        report.notes.append("the head is new: this model must be trained before its poses mean anything")
    if any(name.startswith(_INITIAL_HEAD) for name in missing) and found.owner != model.config.get("name"):
        report.notes.append(
            "the initial head is new, which makes the heatmaps that the method refines: load a single-frame "
            "model that has a head of the same kind, or train with freeze_backbone=False"
        )
    model.notes += [note for note in report.notes if note not in model.notes]
    return report


def _prepare(
    model: PoseModel, checkpoint: Checkpoint, dataset_index: int | None, joints: str | None
) -> tuple[Converted, dict[str, Tensor], list[str]]:
    """The checkpoint under the model's names and in its sizes; its tensors; names that belong elsewhere."""
    found = _convert(model, checkpoint, dataset_index)
    if joints is not None:
        found.joints = _skeleton(joints).name
    family = getattr(model.backbone, "family", None)
    if found.family and family and found.family != family:
        raise InputError(
            f"{checkpoint.path}: holds a {_FAMILY_NAMES[found.family]} ({found.format}), but the model's "
            f"backbone is a {_FAMILY_NAMES[family]}: use another checkpoint or another model"
        )
    if family == "vit":
        note = fit_positions(found, model.backbone.grid, checkpoint)  # type: ignore[arg-type]
        found.notes += [note] if note else []
    tensors, unused = _place_heads(model, found)
    head = "head." if model.kind == "image" else _borrowed_head(model)
    if f"{head}final_layer.weight" in tensors and _of_single_frame(found):
        found.notes += _map_joints(model, found, tensors, checkpoint.path, head)
    return found, tensors, unused


def _convert(model: PoseModel, checkpoint: Checkpoint, dataset_index: int | None) -> Converted:
    own = model.state_dict()
    state = checkpoint.tensors
    same = all(k in state and state[k].shape == v.shape for k, v in own.items())
    if same and model.kind == "video" and checkpoint.description is None:
        return Converted("vidpose state dict", None, dict(state), owner=model.config.get("name"))
    out = convert(checkpoint, dataset_index=dataset_index)
    if out.owner == "?":  # our own names without a description: the head tells whose it is
        heads = {k for k in out.tensors if not k.startswith("backbone.")}
        mine = {k for k in own if not k.startswith("backbone.")}
        part = model.kind == "image" and bool(heads) and heads <= mine  # damaged, not somebody else's
        out.owner = model.config.get("name") if heads == mine or part else "?"
    skeleton: Skeleton | None = getattr(model, "skeleton", None)
    if skeleton is None:
        return out
    tensors = without_prefix(checkpoint.tensors, "module.")
    return whole_method(out, tensors, model.config.get("name", ""), skeleton.joints)


def _place_heads(model: PoseModel, found: Converted) -> tuple[dict[str, Tensor], list[str]]:
    """Keeps what is not backbone only where it belongs to this model; returns the names of the rest."""
    if model.kind == "image" if found.owner is None else found.owner == model.config.get("name"):
        return found.tensors, []
    kept, unused = {}, []
    for key, value in found.tensors.items():
        if key.startswith("backbone."):
            kept[key] = value
        elif _borrowed_head(model) and _of_single_frame(found) and key.startswith("head."):
            kept[_borrowed_head(model) + key[len("head.") :]] = value
        else:
            unused.append(key)
    return kept, unused


def _borrowed_head(model: PoseModel) -> str:
    """Prefix of the part of a video model that takes a single-frame model's head; empty where none does."""
    return _INITIAL_HEAD if model.initial_head is not None else model.detection_head


def _of_single_frame(found: Converted) -> bool:
    """Whether the checkpoint is a single-frame model's, ours or somebody else's."""
    return found.owner is None or found.owner in _SINGLE_FRAME_MODELS


def _map_joints(
    model: PoseModel, found: Converted, tensors: dict[str, Tensor], path: str, head: str
) -> list[str]:
    """Rows of the last layer by joint name, from the checkpoint's joint set to the model's; returns notes."""
    target: Skeleton | None = getattr(model, "skeleton", None)
    rows = len(tensors[f"{head}final_layer.weight"])
    source = get_skeleton(found.joints) if found.joints else None
    if source is not None and source.num_joints != rows:
        raise InputError(
            f"{path}: its head has {rows} joints, the joint set {source.name} has {source.num_joints}"
        )
    if source is None or target is None or source.joints == target.joints:
        if rows != model.num_joints:
            raise InputError(
                f"{path}: its head has {rows} joints, the model {model.num_joints}, and which is which is "
                f"unknown: build the model with num_joints={rows}, or name the file's joint set (joints=...)"
            )
        return []
    absent = [name for name in target.joints if name not in source.index]
    for what in ("weight", "bias"):
        old = tensors[f"{head}final_layer.{what}"]
        new = old.new_zeros((target.num_joints, *old.shape[1:]))
        for j, name in enumerate(target.joints):
            if name in source.index:
                new[j] = old[source.index[name]]
        tensors[f"{head}final_layer.{what}"] = new
    dropped = [name for name in source.joints if name not in target.index]
    notes = [f"head mapped from {source.name} to {target.name}, without {', '.join(dropped) or 'loss'}"]
    if absent:
        # silent: zeros, so that an untrained joint scores 0 and does not borrow another joint's place.
        effect = "heatmaps are empty until trained; poses use the documented approximation"
        if model.kind == "video":  # only a single-frame model needs them as they are
            effect = "initial heatmaps are empty"
        notes.append(f"the checkpoint does not know {', '.join(absent)}: their {effect}")
    return notes


def _refuse(
    model: PoseModel,
    found: Converted,
    path: str,
    tensors: dict[str, Tensor],
    fitting: dict[str, Tensor],
    wrong: list[str],
    missing: list[str],
    allow_partial: bool,
) -> None:
    """Raises where the backbone is not whole, or where a head that belongs to the model does not fit."""
    own = model.state_dict()
    total = sum(k.startswith("backbone.") for k in own)
    bad_shapes = [k for k in wrong if k.startswith("backbone.")]
    absent = [k for k in missing if k.startswith("backbone.") and k not in wrong]
    loaded = sum(k.startswith("backbone.") for k in fitting)
    if (bad_shapes or absent) and (not allow_partial or not loaded):
        guess = guess_backbone(tensors)
        built = model.config.get("backbone") or type(model.backbone).__name__
        parts = []
        if absent:
            parts.append(f"{len(absent)} missing{_first(absent)}")
        if bad_shapes:
            key = bad_shapes[0]
            shapes = f"{list(tensors[key].shape)} in the file, {list(own[key].shape)} in the model"
            parts.append(f"{len(bad_shapes)} of another shape ({key}: {shapes})")
        raise InputError(
            f"{path}: {found.format} does not fit the backbone {built}: of {total} tensors "
            + f"{', '.join(parts)}; "
            + (f"the file looks like {guess}; " if guess and guess != built else "")
            + "choose the matching backbone" + (", or pass allow_partial=True" if loaded else "")
        )  # fmt: skip
    same_model = found.owner is not None and found.owner == model.config.get("name")
    has_head = any(not k.startswith("backbone.") for k in tensors)
    bad_heads = [
        k for k in (*wrong, *missing) if not k.startswith("backbone.") and not k.startswith(found.optional)
    ]
    if not allow_partial and bad_heads and has_head and (model.kind == "image" or same_model):
        key = bad_heads[0]
        shape = (
            f" has shape {list(tensors[key].shape)}, not {list(own[key].shape)}"
            if key in wrong
            else " is missing"
        )
        hint = _head_hint(model, tensors)
        raise InputError(f"{path}: {found.format}: its head does not fit the model: {key}{shape}; {hint}")


def _head_hint(model: PoseModel, tensors: dict[str, Tensor]) -> str:
    if model.config.get("name") == "vitpose":
        simple = not any(k.startswith("head.deconv_layers.") for k in tensors)
        return f"create the model with head='{'simple' if simple else 'classic'}', or pass allow_partial=True"
    return "create the model with the switches it was trained with, or pass allow_partial=True"


def _skeleton(name: str) -> Skeleton:
    try:
        return get_skeleton(name)
    except ValueError as error:
        raise InputError(str(error)) from None


def _first(names: list[str], count: int = 3) -> str:
    if not names:
        return ""
    more = ", …" if len(names) > count else ""
    return f" ({', '.join(names[:count])}{more})"
