"""Scoring a model on a data set's split by the official protocol, in training and by itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from vidpose.data.boxes import suppress_poses
from vidpose.data.clips import ClipDataset, Sample, detected_samples, ground_truth_samples
from vidpose.data.dataset import PoseDataset
from vidpose.data.layouts import find_layout
from vidpose.data.readers import read_whole, usable
from vidpose.device import native_bfloat16
from vidpose.errors import InputError
from vidpose.evaluate.protocols import find_protocol
from vidpose.infer.weights import pose_file
from vidpose.io.boxes import boxes_maker
from vidpose.models.factory import create_model, describe_checkpoint, load_model, load_weights
from vidpose.models.video_model import PoseModel
from vidpose.train.predict import choose_frames, joint_order, predict_samples, write_predictions, write_truth
from vidpose.train.recipe import Recipe, load_recipe
from vidpose.weight_sets import set_name, tell_weights


@dataclass
class ValidationResult:
    """Scores of a model on a split, and the files behind them."""

    scores: dict[str, Any]
    """What :func:`vidpose.evaluate` returned."""
    settings: dict[str, Any]
    predictions: str
    """Folder of prediction files, PoseTrack18's or in COCO's style."""
    truth: str
    """Folder of the annotations that they were scored against."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def describe(settings: dict[str, Any]) -> str:
    """``boxes: gt, decoder: dark, …`` in one line."""
    return ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in settings.items())


def evaluation_settings(recipe: Recipe) -> dict[str, Any]:
    """What every printed score must name."""
    boxes = recipe.data.boxes
    maker = boxes_maker(boxes) if boxes != "gt" else None
    named = boxes if maker is None else f"{boxes} ({maker})"
    settings: dict[str, Any] = {"boxes": "ground truth" if boxes == "gt" else named}
    settings["box_threshold"] = "none" if boxes == "gt" else recipe.data.box_threshold
    if recipe.data.oks_nms is not None:
        settings["oks_nms"] = recipe.data.oks_nms
    if recipe.data.frame_size is not None:
        settings["frame_size"] = recipe.data.frame_size
    settings |= {"decoder": recipe.test.decoder, "flip_test": "yes" if recipe.test.flip else "no"}
    settings["seed"] = recipe.train.seed
    if recipe.train.limit_val is not None or recipe.train.val_every_frames > 1:
        videos = f"first {recipe.train.limit_val} videos" if recipe.train.limit_val else "all videos"
        settings["subset"] = f"{videos}, every {recipe.train.val_every_frames} labelled frames"
    return settings


def precision_name(recipe: Recipe) -> str:
    if recipe.train.precision != "auto":
        return recipe.train.precision
    if torch.cuda.is_available() and recipe.train.accelerator != "cpu":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    on_cpu = recipe.train.accelerator in ("auto", "cpu")
    return "bf16" if on_cpu and native_bfloat16(torch.device("cpu")) else "fp32"


def autocast_type(recipe: Recipe) -> torch.dtype | None:
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision_name(recipe)]


class SplitScorer:
    """Scores models on a recipe's validation split by the official protocol.

    Args:
        model: for sizes and the number of frames.
        folder: gets ``truth/`` and ``predictions/``, files of the scored frames.
    """

    def __init__(self, recipe: Recipe, model: PoseModel, folder: Path, *, quiet: bool = True) -> None:
        data, options = recipe.data, recipe.train
        self.recipe, self.folder, self.quiet = recipe, folder, quiet
        whole, layout = read_whole(
            data.val_root or data.root, data.val_split, data.layout if data.val_root is None else "auto"
        )
        self.protocol = recipe.test.protocol or layout.protocol
        find_protocol(self.protocol)
        self.data: PoseDataset = usable(whole, layout.skeleton)
        joint_order(model, self.data.skeleton)
        self.chosen = choose_frames(self.data, videos=options.limit_val, every=options.val_every_frames)
        if data.boxes == "gt":
            samples = ground_truth_samples(self.data)
        else:
            samples = detected_samples(self.data, data.boxes, data.box_threshold)
        self.samples = [s for s in samples if (s.video, s.frame) in self.chosen]
        if not self.samples:
            raise InputError(f"{self.data.root}: split {self.data.split!r} has no person to score")
        self._check_head_boxes()
        self.dataset = ClipDataset(
            self.data,
            self.samples,
            num_frames=model.num_frames,
            input_size=model.input_size,
            heatmap_size=model.heatmap_size,
            padding=data.padding,
            interval=intervals[1] if (intervals := data.intervals()) else None,
            cache=data.cache,
            frame_size=data.frame_size,
            pack=data.pack if data.val_root is None else None,
            quiet=quiet,
        )
        if rank_zero_only.rank == 0:
            _empty(folder / "truth")
            write_truth(whole, self.chosen, folder / "truth", layout.skeleton)

    def _check_head_boxes(self) -> None:
        """PoseTrack's AP counts in sizes of heads: that they are missing is found out before the training."""
        if self.protocol not in ("posetrack", "posetrack21"):
            return
        for video, frame in self.chosen:
            for person in self.data.videos[video].frames[frame].people:
                if person.head_box_xyxy is None and (person.keypoints[:, 2] > 0).any():
                    raise InputError(
                        f"{self.data.root}: split {self.data.split!r} has people without a head box, which "
                        f"the protocol {self.protocol} needs: set test.protocol=jhmdb (PCK by the box), or "
                        "data.val_root to other data"
                    )

    def __call__(
        self,
        model: PoseModel,
        device: torch.device | str,
        autocast: torch.dtype | None = None,
        *,
        quiet: bool = True,
    ) -> dict[str, Any]:
        """What :func:`vidpose.evaluate` returns; every process of a run predicts its share."""
        from vidpose.evaluate import evaluate

        recipe = self.recipe
        world, rank = _distributed()
        mine = range(rank, len(self.samples), world)
        keypoints, scores = predict_samples(
            model,
            self.dataset,
            mine,
            batch_size=recipe.test.batch_size or recipe.train.batch_size,
            decoder=recipe.test.decoder,
            flip=recipe.test.flip,
            device=device,
            autocast=autocast,
            channels_last=recipe.train.channels_last,
            num_workers=recipe.train.num_workers,
            quiet=quiet,
        )
        result: list[Any] = [None]
        if world > 1:
            keypoints, scores = _gather(keypoints, scores, len(self.samples), world)
        if rank == 0:
            _empty(self.folder / "predictions")
            samples, keypoints, scores = self._without_doubles(keypoints, scores)
            write_predictions(self.data, self.chosen, samples, keypoints, scores, self.folder / "predictions")
            result[0] = evaluate(self.folder / "truth", self.folder / "predictions", protocol=self.protocol)
        if world > 1:
            torch.distributed.broadcast_object_list(result, src=0)
        return result[0]

    def _without_doubles(
        self, keypoints: np.ndarray, scores: np.ndarray
    ) -> tuple[list[Sample], np.ndarray, np.ndarray]:
        """The poses that ``data.oks_nms`` leaves."""
        threshold = self.recipe.data.oks_nms
        if threshold is None:
            return self.samples, keypoints, scores
        places = [(sample.video, sample.frame) for sample in self.samples]
        weights = np.array([sample.box_score for sample in self.samples])
        kept = suppress_poses(places, keypoints, scores, weights, self.data.skeleton.sigmas, threshold)
        return [self.samples[k] for k in kept], keypoints[kept], scores[kept]


def main_score(scores: dict[str, Any]) -> dict[str, float]:
    """``mAP``, the mean of the metric that the protocol's papers quote, and its columns or joints."""
    values = scores[scores["summary"]["main"]]
    columns = {name: float(value) for name, value in values.items() if name[:1].isupper() and name != "Mean"}
    if not columns:
        columns = {name: float(value) for name, value in values.items() if name != "Mean"}
    return {"mAP": float(values["Mean"]), **columns}


def _empty(folder: Path) -> None:
    for old in folder.glob("*.json"):
        old.unlink()


def _distributed() -> tuple[int, int]:
    """(processes, this one's number)."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size(), torch.distributed.get_rank()
    return 1, 0


def _gather(
    keypoints: np.ndarray, scores: np.ndarray, length: int, world: int
) -> tuple[np.ndarray, np.ndarray]:
    shares: list[Any] = [None] * world
    torch.distributed.all_gather_object(shares, (keypoints, scores))
    all_keypoints = np.zeros((length, *keypoints.shape[1:]))
    all_scores = np.zeros((length, *scores.shape[1:]))
    for rank, (k, s) in enumerate(shares):
        all_keypoints[rank::world], all_scores[rank::world] = k, s
    return all_keypoints, all_scores


def validate(
    recipe: str | os.PathLike[str] | Recipe,
    weights: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    quiet: bool = False,
) -> ValidationResult:
    """Runs a model over a recipe's validation split and scores it by the official protocol.

    Args:
        recipe: as in :func:`train`; ``limit_val`` and ``val_every_frames`` hold here too.
        weights: what ``train`` exported, any checkpoint that ``load_weights`` reads, or the name of a set
            (:mod:`vidpose.weight_sets`).

    Returns:
        Scores, settings, and the folder of prediction files (``OUTPUT/validation/predictions``).
    """
    settings = load_recipe(recipe, list(overrides))
    if settings.task != "pose":
        raise InputError("validate scores pose models; a detector's AP is in its run's validation.csv")
    shown = os.fspath(weights)
    if set_name(weights) is not None:
        weights, shown = pose_file(settings.model.name, weights)
        tell_weights(shown, quiet=quiet)
    model = _load(settings, weights)
    device = "cuda" if torch.cuda.is_available() and settings.train.accelerator != "cpu" else "cpu"
    model.to(device)
    if settings.train.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    folder = Path(settings.output) / "validation"
    scorer = SplitScorer(settings, model, folder, quiet=quiet)
    scores = scorer(model, device, autocast_type(settings), quiet=quiet)
    named = {"model": settings.model.name, "weights": shown, **evaluation_settings(settings)}
    return ValidationResult(scores, named, str(folder / "predictions"), str(folder / "truth"))


def _load(recipe: Recipe, weights: str | os.PathLike[str]) -> PoseModel:
    """The model of an exported file; other checkpoints fill the recipe's model."""
    try:
        name = describe_checkpoint(weights)["config"]["name"]
    except (InputError, KeyError):
        arguments = recipe.model.arguments()
        if not {"skeleton", "num_joints"} & arguments.keys():
            data = recipe.data
            layout = find_layout(Path(data.val_root or data.root), "auto" if data.val_root else data.layout)
            arguments["skeleton"] = layout.skeleton.name
        model = create_model(recipe.model.name, **arguments)
        load_weights(model, weights)
        return model
    if name != recipe.model.name:
        raise InputError(f"{weights}: holds a {name}, the recipe's model is {recipe.model.name}")
    return load_model(weights)
