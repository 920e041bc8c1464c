"""A model over the people of a split: joints in image pixels, and files of them that evaluate reads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from vidpose import progress
from vidpose.data.clips import ClipDataset, Sample, collate_clips, prepare_clips, worker_init
from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.layouts.posetrack import NAMES as POSETRACK
from vidpose.data.layouts.posetrack import read_document
from vidpose.data.layouts.write_coco import category
from vidpose.errors import InputError
from vidpose.geometry import (
    apply_affine,
    decode_heatmaps,
    flip_heatmaps,
    heatmap_to_input,
    invert_affine,
    xyxy_to_xywh,
)
from vidpose.io.files import write_json
from vidpose.models.video_model import PoseModel
from vidpose.skeletons import POSETRACK18, Skeleton, convert_keypoints
from vidpose.train.module import given_labels


def predict_heatmaps(
    model: PoseModel,
    clips: Tensor,
    skeleton: Skeleton,
    *,
    flip: bool = False,
    given: dict[str, Any] | None = None,
) -> Tensor:
    """Heatmaps [B, J, h, w] of normalised clips [B, T, 3, H, W]; ``flip``: the mean with the mirrored.

    ``given``: labels of other frames, for a model that takes them.
    """
    given = given or {}
    heatmaps = model(clips, **given).heatmaps.float()
    if flip:
        if "given_heatmaps" in given:
            labels = given["given_heatmaps"]
            given = {**given, "given_heatmaps": flip_heatmaps(labels.flatten(0, 1), skeleton).view_as(labels)}
        mirrored = model(clips.flip(-1), **given).heatmaps.float()
        heatmaps = (heatmaps + flip_heatmaps(mirrored, skeleton)) / 2
    if heatmaps.dim() == 5:  # [B, T, J, h, w] of a propagation model
        heatmaps = heatmaps[:, heatmaps.shape[1] // 2]
    return heatmaps


def predict_samples(
    model: PoseModel,
    dataset: ClipDataset,
    positions: Sequence[int],
    *,
    batch_size: int,
    decoder: str = "dark",
    flip: bool = False,
    device: torch.device | str = "cpu",
    autocast: torch.dtype | None = None,
    channels_last: bool = False,
    num_workers: int = 0,
    quiet: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Runs a model over samples of a data set.

    Args:
        model: in any mode; it is put into eval mode, and back.
        dataset: without augmentation.
        positions: which samples.
        decoder: ``plain``, ``quarter``, ``dark`` or ``udp``.
        flip: flip test.
        autocast: mixed precision's type, or ``None`` for float32.

    Returns:
        Keypoints [S, J, 2] in image pixels and scores [S, J]: heatmap peak times box score; the joints are
        the data's.

    Raises:
        InputError: the model does not predict all joints of the data.
    """
    device = torch.device(device)
    order = joint_order(model, dataset.data.skeleton)
    joints = model_joints(model) or dataset.data.skeleton
    loader: DataLoader = DataLoader(
        Subset(dataset, list(positions)),
        batch_size=batch_size,
        collate_fn=collate_clips,
        num_workers=num_workers,
        worker_init_fn=worker_init,
        **fork_where_possible(num_workers),
    )
    keypoints = np.zeros((len(positions), len(order), 2))
    scores = np.zeros(keypoints.shape[:2])
    training = model.training
    model.eval()
    done = 0
    try:
        shown = progress.track(loader, "predicting", unit="batches", quiet=quiet)
        with torch.inference_mode():
            for batch in shown:
                clips = prepare_clips(
                    batch["clips"].to(device, non_blocking=True), channels_last=channels_last
                )
                mixed = torch.autocast(device.type, dtype=autocast) if autocast is not None else nullcontext()
                given = None
                if dataset.interval is not None:
                    points, weights, times = (batch[k].to(device) for k in ("points", "weights", "times"))
                    shape = (*weights.shape[:2], joints.num_joints)
                    own, known = points.new_zeros(*shape, 2), weights.new_zeros(*shape)
                    own[:, :, order], known[:, :, order] = points, weights
                    given = given_labels(model, own, known, times)
                with mixed:
                    heatmaps = predict_heatmaps(model, clips, joints, flip=flip, given=given)
                points, peaks = decode_heatmaps(heatmaps[:, order], decoder, model.sigma)
                count = len(points)
                crop = heatmap_to_input(points.cpu().numpy(), dataset.input_size, dataset.heatmap_size)
                for k, affine in enumerate(batch["affine"].numpy()):
                    keypoints[done + k] = apply_affine(invert_affine(affine), crop[k])
                boxes = [dataset.samples[i].box_score for i in batch["index"].tolist()]
                scores[done : done + count] = peaks.cpu().numpy() * np.array(boxes)[:, None]
                done += count
    finally:
        model.train(training)
    return keypoints, scores


def model_joints(model: PoseModel) -> Skeleton | None:
    """The joints that a model's heatmaps stand for; ``None`` where it was made with their number alone."""
    found: Any = getattr(model, "skeleton", None)
    return found if isinstance(found, Skeleton) else None


def joint_order(model: PoseModel, skeleton: Skeleton) -> list[int]:
    """Position among the model's joints of each joint of the data.

    Raises:
        InputError: one line that names both joint sets and what the model lacks.
    """
    own = model_joints(model)
    if own is None:
        if model.num_joints != skeleton.num_joints:
            raise InputError(
                f"the model predicts {model.num_joints} joints without names, the data have "
                f"{skeleton.num_joints} ({skeleton.name})"
            )
        return list(range(skeleton.num_joints))
    missing = [joint for joint in skeleton.joints if joint not in own.index]
    if missing:
        raise InputError(
            f"the model predicts the joints of {own.name}, the data are labelled in {skeleton.name}: the "
            f"model has no {', '.join(missing)}; train it on this data (model.skeleton={skeleton.name})"
        )
    return [own.index[joint] for joint in skeleton.joints]


def fork_where_possible(num_workers: int) -> dict[str, Any]:
    """Loader arguments that let workers share decoded frames instead of copying them."""
    import multiprocessing

    if num_workers and "fork" in multiprocessing.get_all_start_methods():
        return {"multiprocessing_context": "fork"}
    return {}


# --- files -----------------------------------------------------------------------------------------------


def choose_frames(data: PoseDataset, *, videos: int | None = None, every: int = 1) -> set[tuple[int, int]]:
    """(video, frame) positions to score: every n-th labelled frame of the first videos."""
    chosen = set()
    for v, video in enumerate(data.videos[:videos]):
        labelled = [f for f, frame in enumerate(video.frames) if frame.is_labeled]
        chosen |= {(v, f) for f in labelled[::every]}
    return chosen


def write_truth(data: PoseDataset, chosen: set[tuple[int, int]], folder: Path, skeleton: Skeleton) -> None:
    """The annotations of the chosen frames, crowds and all.

    One PoseTrack18 file per video where the data are of that family, entries as they were; else files in
    COCO's style: one per video, or a single one for single images.

    Args:
        data: as read, nothing left out.
        skeleton: joints of the files in COCO's style.
    """
    if data.layout in POSETRACK:
        _write_posetrack_truth(data, chosen, folder)
        return
    order = [data.skeleton.index.get(joint, -1) for joint in skeleton.joints]
    for name, frames in _files(data, chosen):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for v, f in frames:
            frame = data.videos[v].frames[f]
            images.append(_image(data.videos[v], frame))
            for person in frame.people:
                annotations.append(_truth(len(annotations) + 1, frame.image_id, person, order))
        content = {"images": images, "annotations": annotations, "categories": [category(skeleton)]}
        write_json(folder / f"{name}.json", content)


def _write_posetrack_truth(data: PoseDataset, chosen: set[tuple[int, int]], folder: Path) -> None:
    source, content = None, {}
    for v, video in enumerate(data.videos):
        kept = {frame.image_id for f, frame in enumerate(video.frames) if (v, f) in chosen}
        if not kept:
            continue
        if video.source != source:  # a merged file holds many videos
            source, content = video.source, read_document(video.source)
        own = {
            **content,
            "images": [image for image in content["images"] if image["id"] in kept],
            "annotations": [a for a in content.get("annotations", []) if a["image_id"] in kept],
        }
        own.setdefault("categories", [category(POSETRACK18)])
        write_json(folder / f"{video.name}.json", own)


def _files(data: PoseDataset, chosen: set[tuple[int, int]]) -> list[tuple[str, list[tuple[int, int]]]]:
    """(file's name, (video, frame) positions): one per video, a single one of a set of single images."""
    if all(len(video.frames) == 1 for video in data.videos) and data.layout not in POSETRACK:
        return [(data.split, sorted(chosen))]
    by_video: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for v, f in sorted(chosen):
        by_video[v].append((v, f))
    return [(data.videos[v].name, frames) for v, frames in by_video.items()]


def write_predictions(
    data: PoseDataset,
    chosen: set[tuple[int, int]],
    samples: Sequence[Sample],
    keypoints: np.ndarray,
    scores: np.ndarray,
    folder: Path,
) -> None:
    """Predictions of the chosen frames, in files that go with those of :func:`write_truth`.

    Args:
        samples: S people, those of one frame with different track ids.
        keypoints: [S, J, 2] image pixels.
        scores: [S, J].
    """
    by_frame: dict[tuple[int, int], list[int]] = defaultdict(list)
    for s, sample in enumerate(samples):
        by_frame[sample.video, sample.frame].append(s)
    posetrack = data.layout in POSETRACK
    skeleton = POSETRACK18 if posetrack else data.skeleton
    full = convert_keypoints(
        np.concatenate([keypoints, scores[..., None]], axis=-1), data.skeleton, skeleton, approximate=False
    )
    for name, frames in _files(data, chosen):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for v, f in frames:
            frame = data.videos[v].frames[f]
            images.append(_image(data.videos[v], frame))
            for s in by_frame[v, f]:
                annotation = _prediction(len(annotations), frame.image_id, samples[s], full[s])
                if not posetrack:
                    annotation["score"] = _pose_score(samples[s], full[s])
                annotations.append(annotation)
        content = {"images": images, "annotations": annotations, "categories": [category(skeleton)]}
        write_json(folder / f"{name}.json", content)


def _image(video: Video, frame: Frame) -> dict[str, Any]:
    image: dict[str, Any] = {"id": frame.image_id, "file_name": frame.file_name}
    if 0 not in frame.size:
        image |= {"height": frame.size[0], "width": frame.size[1]}
    if len(video.frames) > 1:
        image |= {"vid_id": video.name, "frame_id": frame.index}
    return image


def _truth(number: int, image_id: int, person: Person, order: list[int]) -> dict[str, Any]:
    """An annotation in COCO's style: 0 not labelled, 1 hidden, 2 visible."""
    triples = np.where(np.array(order)[:, None] >= 0, person.keypoints[order], 0.0)
    triples[:, 2] *= 1 + person.visible[order]
    entry: dict[str, Any] = {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "track_id": person.track_id,
        "iscrowd": int(person.is_crowd),
        "num_keypoints": int((triples[:, 2] > 0).sum()),
        "keypoints": [round(float(value), 3) for value in triples.reshape(-1)],
    }
    for key, box in (("bbox", person.box_xyxy), ("bbox_head", person.head_box_xyxy)):
        if box is not None and box.any():
            entry[key] = xyxy_to_xywh(box).tolist()
    if isinstance(person.extra.get("area"), (int, float)):
        entry["area"] = person.extra["area"]
    return entry


def _prediction(number: int, image_id: int, sample: Sample, joints: np.ndarray) -> dict[str, Any]:
    present = joints[:, 2] > 0
    triples = np.where(present[:, None], np.column_stack([joints[:, :2], np.ones(len(joints))]), 0.0)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "track_id": sample.track_id,
        "bbox": xyxy_to_xywh(np.asarray(sample.box_xyxy, dtype=np.float64)).tolist(),
        "score": sample.box_score,
        "keypoints": [round(float(value), 3) for value in triples.reshape(-1)],
        "scores": [float(value) for value in joints[:, 2]],
    }


def _pose_score(sample: Sample, joints: np.ndarray) -> float:
    """What ranks a person in OKS AP: the mean of the joints whose heatmaps reach 0.2, box score included."""
    sure = joints[:, 2] > 0.2 * sample.box_score
    return float(joints[sure, 2].mean()) if sure.any() else 0.0
