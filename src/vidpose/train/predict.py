"""A model over the people of a split: joints in image pixels, and PoseTrack18 files of them."""

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
from vidpose.data.dataset import PoseDataset
from vidpose.data.layouts.posetrack import read_document
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


def predict_heatmaps(model: PoseModel, clips: Tensor, skeleton: Skeleton, *, flip: bool = False) -> Tensor:
    """Heatmaps [B, J, h, w] of normalised clips [B, T, 3, H, W]; ``flip``: the mean with the mirrored."""
    heatmaps = model(clips).heatmaps.float()
    if flip:
        mirrored = model(clips.flip(-1)).heatmaps.float()
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
        Keypoints [S, J, 2] in image pixels and scores [S, J]: heatmap peak times box score.
    """
    device = torch.device(device)
    loader: DataLoader = DataLoader(
        Subset(dataset, list(positions)),
        batch_size=batch_size,
        collate_fn=collate_clips,
        num_workers=num_workers,
        worker_init_fn=worker_init,
        **fork_where_possible(num_workers),
    )
    keypoints = np.zeros((len(positions), dataset.data.skeleton.num_joints, 2))
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
                with mixed:
                    heatmaps = predict_heatmaps(model, clips, dataset.data.skeleton, flip=flip)
                points, peaks = decode_heatmaps(heatmaps, decoder, model.sigma)
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


def write_truth(data: PoseDataset, chosen: set[tuple[int, int]], folder: Path) -> None:
    """The annotations of the chosen frames, one PoseTrack18 file per video, entries as they were."""
    for v, video in enumerate(data.videos):
        kept = {frame.image_id for f, frame in enumerate(video.frames) if (v, f) in chosen}
        if kept:
            content = read_document(video.source)
            content["images"] = [image for image in content["images"] if image["id"] in kept]
            content["annotations"] = [a for a in content.get("annotations", []) if a["image_id"] in kept]
            content.setdefault("categories", [_category()])
            write_json(folder / f"{video.name}.json", content)


def write_predictions(
    data: PoseDataset,
    chosen: set[tuple[int, int]],
    samples: Sequence[Sample],
    keypoints: np.ndarray,
    scores: np.ndarray,
    folder: Path,
) -> None:
    """Predictions of the chosen frames, one PoseTrack18 file per video.

    Args:
        samples: S people, those of one frame with different track ids.
        keypoints: [S, J, 2] image pixels.
        scores: [S, J].
    """
    by_frame: dict[tuple[int, int], list[int]] = defaultdict(list)
    for s, sample in enumerate(samples):
        by_frame[sample.video, sample.frame].append(s)
    full = convert_keypoints(
        np.concatenate([keypoints, scores[..., None]], axis=-1), data.skeleton, POSETRACK18, approximate=False
    )
    for v, video in enumerate(data.videos):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for f, frame in enumerate(video.frames):
            if (v, f) not in chosen:
                continue
            image: dict[str, Any] = {"id": frame.image_id, "file_name": frame.file_name}
            if 0 not in frame.size:
                image |= {"height": frame.size[0], "width": frame.size[1]}
            images.append(image)
            for s in by_frame[v, f]:
                annotations.append(_annotation(len(annotations), frame.image_id, samples[s], full[s]))
        if images:
            content = {"images": images, "annotations": annotations, "categories": [_category()]}
            write_json(folder / f"{video.name}.json", content)


def _annotation(number: int, image_id: int, sample: Sample, joints: np.ndarray) -> dict[str, Any]:
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


def _category() -> dict[str, Any]:
    return {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(POSETRACK18.joints),
        "skeleton": [[a + 1, b + 1] for a, b in POSETRACK18.limbs],
    }
