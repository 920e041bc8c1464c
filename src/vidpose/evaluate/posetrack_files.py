"""From paths, parsed JSON or results to ground truth and predictions that belong together, frame by frame."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as SequenceOf
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, Union

import numpy as np

from vidpose.errors import InputError
from vidpose.evaluate.posetrack17 import read_posetrack17
from vidpose.evaluate.posetrack18 import read_posetrack18
from vidpose.evaluate.sequence import JOINTS, Sequence, Tracks, as_object, frame_number, kind_of
from vidpose.io.files import read_json
from vidpose.results import VideoPoses

Source: TypeAlias = Union[str, "os.PathLike[str]", dict[str, Any], VideoPoses]
Sources: TypeAlias = Source | Iterable[Source]


@dataclass
class Pairing:
    """Ground-truth files and the prediction files for them, and which frame is which."""

    truth: list[Sequence]
    predictions: list[Sequence]
    frames: list[np.ndarray]
    """Per ground-truth file [F]: the frame's position among the frames of all ``predictions``, or -1."""
    notes: list[str] = field(default_factory=list)


def load_pairs(
    gt: Sources,
    predictions: Sources,
    *,
    joints: tuple[str, ...] | None = JOINTS,
    details: bool = False,
) -> list[Pairing]:
    """Reads both sides and finds for each annotated frame its prediction.

    Two folders are paired by file name, two lists of one length by name or else by position, anything else
    as one set. Inside a pair frames are matched by image name, then by the last two parts of the name, the
    last part, the image id and the number in the name: by the first of these that both sides have for every
    frame without doubles and that they share. Only where a side has neither names nor ids, position decides.

    Args:
        joints: the joints to score, by name; None: those of the ground truth.
        details: also read boxes, visibility, areas, crowds and scores of people.

    Raises:
        InputError: naming file, frame and problem.
    """
    truth_folder, prediction_folder = _folder(gt), _folder(predictions)
    truth_items, prediction_items = _items(gt), _items(predictions)
    if truth_folder and prediction_folder:
        groups, notes = _pair_folders(truth_folder, truth_items, prediction_folder, prediction_items)
    elif len(truth_items) == len(prediction_items) and not truth_folder and not prediction_folder:
        groups, notes = _pair_lists(truth_items, prediction_items), []
    else:
        groups, notes = [(truth_items, prediction_items)], []
    pairs = []
    for truth_group, prediction_group in groups:
        with _without_collector():
            truth = []
            for item in truth_group:
                sequence = load_sequence(
                    item, ground_truth=True, label="ground truth", joints=joints, details=details
                )
                truth.append(sequence)
                if joints is None:
                    joints = sequence.joints
            found = [
                load_sequence(item, ground_truth=False, label="predictions", joints=joints, details=details)
                for item in prediction_group
            ]
        frames, frame_notes = _match_frames(truth, found)
        file_notes = [note for sequence in truth + found for note in sequence.notes]
        pairs.append(Pairing(truth, found, frames, [*file_notes, *frame_notes]))
    if pairs:
        pairs[0].notes[:0] = notes
    return pairs


def load_truth(gt: Sources) -> list[Pairing]:
    """Ground truth alone, with details, as pairs without predictions."""
    pairs: list[Pairing] = []
    joints: tuple[str, ...] | None = None
    for item in _items(gt):
        truth = load_sequence(item, ground_truth=True, label="ground truth", joints=joints, details=True)
        joints = joints or truth.joints
        nobody = replace(
            truth, frame=truth.frame[:0], person=truth.person[:0], track=truth.track[:0],
            xy=truth.xy[:0], present=truth.present[:0], scores=truth.scores[:0],
            head_size=truth.head_size[:0], details={name: v[:0] for name, v in truth.details.items()},
        )  # fmt: skip
        frames = np.full(len(truth.names), -1, dtype=np.int64)
        pairs.append(Pairing([truth], [nobody], [frames], list(truth.notes)))
    return pairs


def load_sequence(
    item: Source,
    *,
    ground_truth: bool,
    label: str = "data",
    joints: tuple[str, ...] | None = JOINTS,
    details: bool = False,
) -> Sequence:
    """One file, parsed JSON or result as a :class:`Sequence`.

    Args:
        item: path, parsed PoseTrack17, 18 or 21 JSON, or (predictions only) a ``VideoPoses``.
        ground_truth: head boxes and ignore regions are read, scores are not.
        label: what messages call an item that is not a path.
        joints, details: as in :func:`load_pairs`.

    Raises:
        InputError: naming file, frame and problem.
    """
    if isinstance(item, VideoPoses):
        source = item.source or label
        if ground_truth:
            raise InputError(f"{source}: a result has no head boxes, give the ground truth as PoseTrack JSON")
        sequence = _from_result(item, source, joints or JOINTS)
    else:
        source = label if isinstance(item, dict) else os.fspath(item)
        data: Any = item if isinstance(item, dict) else _read(source)
        if isinstance(data, list) and details and not ground_truth:
            data = _from_results_list(data, source)
        if not isinstance(data, dict):
            raise InputError(f"{source}: holds a {kind_of(data)}, a PoseTrack file is an object")
        if "annolist" in data:
            sequence = read_posetrack17(data, source, ground_truth=ground_truth, details=details)
            if joints not in (None, JOINTS):
                sequence = _in_order(sequence, joints or JOINTS)
        elif "images" in data and "annotations" in data:
            sequence = read_posetrack18(
                data, source, ground_truth=ground_truth, joints=joints, details=details
            )
        else:
            raise InputError(
                f"{source}: has neither 'annolist' (PoseTrack17) nor 'images' and 'annotations' "
                "(PoseTrack18, 21)"
            )
    if not ground_truth:
        sequence.check_tracks()
    return sequence


@contextmanager
def _without_collector() -> Iterator[None]:
    """Parsed JSON is many objects and no cycles: searching them for cycles takes as long as parsing does."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(path: str) -> Any:
    try:
        return read_json(path)
    except InputError:
        raise
    except ValueError as error:  # numbers of thousands of digits, zero bytes in the name
        raise InputError(f"{path}: cannot be read: {error}") from None


def _from_results_list(data: list[Any], source: str) -> dict[str, Any]:
    """COCO's layout for results, a bare list of annotations, as a file whose images are those it names."""
    ids: dict[Any, None] = {}
    for k, annotation in enumerate(data):
        image_id = as_object(annotation, f"{source}: result {k}").get("image_id")
        if isinstance(image_id, bool) or not isinstance(image_id, int | str):
            raise InputError(f"{source}: result {k}: has no image_id")
        ids[image_id] = None
    return {"images": [{"id": image_id} for image_id in ids], "annotations": data}


def _in_order(sequence: Sequence, joints: tuple[str, ...]) -> Sequence:
    """PoseTrack17's joints in another order."""
    missing = [joint for joint in joints if joint not in sequence.joints]
    if missing:
        raise InputError(f"{sequence.source}: PoseTrack17's joints lack {', '.join(missing)}")
    order = [sequence.joints.index(joint) for joint in joints]
    sequence.xy, sequence.present = sequence.xy[:, order], sequence.present[:, order]
    sequence.scores, sequence.joints = sequence.scores[:, order], joints
    if "flag" in sequence.details:
        sequence.details["flag"] = sequence.details["flag"][:, order]
    return sequence


def _from_result(result: VideoPoses, source: str, names: tuple[str, ...]) -> Sequence:
    joints = result.skeleton.num_joints
    missing = [joint for joint in names if joint not in result.skeleton.index]
    if missing:
        raise InputError(f"{source}: the result's joints ({result.skeleton.name}) lack {', '.join(missing)}")
    order = [result.skeleton.index[joint] for joint in names]
    out, tracks = Sequence(source, joints=names), Tracks()
    for f, frame in enumerate(result.frames):
        out.names.append(frame.file_name)
        out.numbers.append(frame_number(frame.file_name) if frame.file_name else int(frame.index))
        if len(frame) and (frame.keypoints.shape[1:] != (joints, 2) or frame.scores.shape[1:] != (joints,)):
            raise InputError(
                f"{source}: frame {out.frame_label(f)}: not {joints} keypoints with x, y and score"
            )
    out.image_ids = [None] * len(out.names)
    out.videos = [""] * len(out.names)
    out.labelled = [None] * len(out.names)
    sizes = [len(frame) for frame in result.frames]
    out.people = np.array(sizes, dtype=np.int64)
    out.frame = np.repeat(np.arange(len(sizes)), sizes)
    out.person = np.array([k for size in sizes for k in range(size)], dtype=np.int64)
    out.head_size = np.full(len(out.frame), np.nan)
    identities = [int(identity) for frame in result.frames for identity in frame.track_ids]
    out.track = np.array([tracks.number(identity, source) for identity in identities], dtype=np.int64)
    people = [frame for frame in result.frames if len(frame)]
    out.xy = np.zeros((0, len(order), 2))
    out.present = np.zeros((0, len(order)), dtype=bool)
    out.scores = np.zeros((0, len(order)))
    boxes = np.concatenate([np.zeros((0, 4)), *(frame.boxes for frame in people)]).astype(np.float64)
    out.details = {
        "box": np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1),
        "area": np.full(len(out.frame), np.nan),
        "crowd": np.zeros(len(out.frame), dtype=bool),
        "score": np.concatenate([np.zeros(0), *(frame.box_scores for frame in people)]).astype(np.float64),
    }
    if people:
        xy = np.concatenate([frame.keypoints for frame in people])[:, order].astype(np.float64)
        out.scores = np.concatenate([frame.scores for frame in people])[:, order].astype(np.float64)
        out.present = out.scores != 0
        finite = np.isfinite(out.scores) & (np.isfinite(xy).all(axis=-1) | ~out.present)
        wrong = np.flatnonzero(~finite.all(axis=1))
        if len(wrong):
            raise InputError(f"{out.place(int(wrong[0]))}: keypoints or scores are not finite")
        out.xy = np.nan_to_num(xy)
    out.details["flag"] = out.present.astype(np.float64)
    return out


# -------------------- files that belong together


def _folder(sources: Sources) -> Path | None:
    if isinstance(sources, str | os.PathLike):
        path = Path(sources)
        try:
            return path if path.is_dir() else None
        except (OSError, ValueError) as error:
            raise InputError(f"{sources!r}: cannot be read: {error}") from None
    return None


def _items(sources: Sources) -> list[Source]:
    folder = _folder(sources)
    if folder is not None:
        # Not sorted: where scores are equal the official number depends on the order of the folder's listing.
        files = [path for path in folder.iterdir() if path.suffix == ".json" and path.name[0] != "."]
        if not files:
            raise InputError(f"{folder}: has no .json file")
        return list(files)
    if isinstance(sources, str | os.PathLike | dict | VideoPoses):
        return [sources]
    items = list(sources)
    if not items:
        raise InputError("an empty list was given, a file, a folder or a list of files is needed")
    for item in items:
        if not isinstance(item, str | os.PathLike | dict | VideoPoses):
            raise InputError(
                f"a list of files holds a {type(item).__name__}: paths, parsed JSON or VideoPoses are needed"
            )
    return items


Groups: TypeAlias = list[tuple[list[Source], list[Source]]]


def _pair_folders(
    truth_folder: Path, truth: list[Any], prediction_folder: Path, predictions: list[Any]
) -> tuple[Groups, list[str]]:
    by_name = {path.name: path for path in predictions}
    missing = [path.name for path in truth if path.name not in by_name]
    if missing:
        raise InputError(f"{prediction_folder}: has no {_some(missing)}, which {truth_folder} has")
    names = {path.name for path in truth}
    extra = [path.name for path in predictions if path.name not in names]
    notes = [f"{prediction_folder}: passed over {_some(extra)}, which {truth_folder} lacks"] if extra else []
    return [([path], [by_name[path.name]]) for path in truth], notes


def _pair_lists(truth: list[Source], predictions: list[Source]) -> Groups:
    def names(items: list[Source]) -> list[str] | None:
        if not all(isinstance(item, str | os.PathLike) for item in items):
            return None
        found = [Path(item).name for item in items]  # type: ignore[arg-type]
        return found if len(set(found)) == len(found) else None

    left, right = names(truth), names(predictions)
    if left and right and set(left) == set(right):
        by_name = dict(zip(right, predictions, strict=True))
        return [([item], [by_name[name]]) for item, name in zip(truth, left, strict=True)]
    return [([a], [b]) for a, b in zip(truth, predictions, strict=True)]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# -------------------- frames that belong together


def _path_tail(parts: int) -> Callable[[Sequence, int], Any]:
    def key(sequence: Sequence, f: int) -> Any:
        name = sequence.names[f]
        if name is None:
            return None
        split = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        return tuple(split[-parts:]) if split else None

    return key


def _parent(name: str | None) -> str:
    """The name of the folder that an image name puts it in; '' for none."""
    parts = [part for part in (name or "").replace("\\", "/").split("/") if part not in ("", ".")]
    return parts[-2] if len(parts) > 1 else ""


_KEYS: tuple[Callable[[Sequence, int], Any], ...] = (
    _path_tail(1000),
    _path_tail(2),
    _path_tail(1),
    lambda sequence, f: sequence.image_ids[f],
    lambda sequence, f: sequence.numbers[f],
)


def _match_frames(truth: list[Sequence], predictions: list[Sequence]) -> tuple[list[np.ndarray], list[str]]:
    """For each frame of each ground-truth file its prediction's position, -1 for none; and what to say."""
    left = [(s, f) for s in truth for f in range(len(s.names))]
    right = [(s, f) for s in predictions for f in range(len(s.names))]
    sources = _some([s.source for s in predictions]), _some([s.source for s in truth])
    found: list[int] | None = None
    comparable = False
    for key in _KEYS:
        keys_left, keys_right = [key(s, f) for s, f in left], [key(s, f) for s, f in right]
        if any(k is None for k in keys_left) or any(k is None for k in keys_right):
            continue
        comparable = comparable or bool(keys_left and keys_right)
        if keys_left == keys_right:
            found = list(range(len(left)))
            break
        position = {k: i for i, k in enumerate(keys_right)}
        if len(position) < len(keys_right) or len(set(keys_left)) < len(keys_left):
            continue
        matched = [position.get(k, -1) for k in keys_left]
        if any(i >= 0 for i in matched):
            found = matched
            break
    if found is None:
        if comparable:
            raise InputError(
                f"{sources[0]}: shares no frame with {sources[1]}: it has for example {_example(right)}, not "
                f"{_example(left)}; frames are matched by image name, image id or number, none of them twice"
            )
        if len(left) != len(right):
            raise InputError(
                f"{sources[0]}: has {len(right)} frames, {sources[1]} has {len(left)}, and without image "
                "names they cannot be matched"
            )
        found = list(range(len(left)))
    notes = []
    for (sequence, f), i in zip(left, found, strict=True):
        if i < 0:
            continue
        partner, g = right[i]
        folders = _parent(sequence.names[f]), _parent(partner.names[g])
        if folders[0] and folders[1] and folders[0] != folders[1]:
            notes.append(
                f"{sources[0]}: the folders in the image names differ, {partner.names[g]} was taken for "
                f"{sequence.names[f]}: if these are two videos, the scores mean nothing"
            )
        break
    absent = sum(1 for (s, f), i in zip(left, found, strict=True) if i < 0 and s.people[f] > 0)
    extra = len(right) - sum(i >= 0 for i in found)
    if absent:
        notes.append(
            f"{sources[0]}: lacks {absent} annotated frames of {sources[1]}: counted as frames without people"
        )
    if extra:
        notes.append(f"{sources[0]}: {extra} frames are not in {sources[1]}: passed over")
    frames, first = [], 0
    for s in truth:
        frames.append(np.array(found[first : first + len(s.names)], dtype=np.int64))
        first += len(s.names)
    return frames, notes


def _example(frames: SequenceOf[tuple[Sequence, int]]) -> str:
    return frames[0][0].frame_label(frames[0][1]) if frames else "no frame"
