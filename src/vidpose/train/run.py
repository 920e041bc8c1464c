"""Training and validating by a recipe: builds the parts, refuses to overwrite, starts or continues."""

from __future__ import annotations

import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
import yaml
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch.utils.data import DataLoader, Dataset

from vidpose.data.clips import ClipDataset, collate_clips, ground_truth_samples, worker_init
from vidpose.data.dataset import PoseDataset
from vidpose.data.mixture import joined, weighted_joints, without_images
from vidpose.data.readers import read_dataset, usable
from vidpose.errors import InputError
from vidpose.infer.propagation.dataset import fill_labels, thin_labels, trusted_labels
from vidpose.infer.propagation.network import NETWORKS
from vidpose.io.files import read_json, write_json, write_text
from vidpose.models.factory import create_model, load_weights, model_entry, save_model
from vidpose.models.video_model import PoseModel
from vidpose.skeletons import POSETRACK15, Skeleton
from vidpose.train import callbacks
from vidpose.train.feature_cache import FOLDER, CachedClips, FeatureCache, collate_cached
from vidpose.train.module import PoseModule
from vidpose.train.predict import fork_where_possible, joint_order, model_joints
from vidpose.train.recipe import Recipe, check_types, load_recipe, recipe_differences
from vidpose.train.sampler import StepBatchSampler, steps_per_epoch
from vidpose.train.validation import (
    SplitScorer,
    ValidationResult,
    autocast_type,
    describe,
    evaluation_settings,
    main_score,
    precision_name,
    validate,
)


@dataclass
class TrainResult:
    """What a finished run left behind."""

    output: str
    steps: int
    epochs: float
    best_map: float | None
    best_step: int
    best_weights: str | None
    """Safetensors for ``--weights``."""
    last_checkpoint: str
    scores: dict[str, float] = field(default_factory=dict)
    """Of the best weights."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Boxes, threshold, decoder, flip test, seed: without them a score means little."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        score = (
            "not validated"
            if self.best_map is None
            else f"best mAP {self.best_map:.2f} at step {self.best_step}"
        )
        lines = [
            f"{self.output}: {self.steps} steps ({self.epochs:.4g} epochs), {score}",
            describe(self.settings),
        ]
        lines.append(
            f"weights: {self.best_weights}" if self.best_weights else f"checkpoint: {self.last_checkpoint}"
        )
        return "\n".join(lines)


def _settings(recipe: Recipe) -> dict[str, Any]:
    settings = evaluation_settings(recipe)
    if recipe.task == "pose":
        return settings
    kept: dict[str, Any] = {key: settings[key] for key in ("seed", "subset") if key in settings}
    return {"metric": "box AP at IoU 0.5", **kept}


# --- training --------------------------------------------------------------------------------------------


def train(
    recipe: str | os.PathLike[str] | Recipe,
    overrides: Sequence[str] = (),
    resume: bool = False,
    quiet: bool = False,
) -> TrainResult:
    """Trains by a recipe; a killed run continues with ``resume`` as if it had not been killed.

    Args:
        recipe: path of a YAML file, name of a shipped recipe, or a :class:`Recipe`.
        overrides: ``key=value`` with dotted keys.
        resume: continue the run in the recipe's ``output`` folder.
        quiet: no progress.

    Returns:
        Where the weights are, and how good they are.

    Raises:
        InputError: recipe, data or run folder are not usable, or the loss stopped being a number.
    """
    settings = load_recipe(recipe, list(overrides))
    start = _open_run(settings, resume)
    try:
        return _train(settings, start, quiet)
    except InputError as error:
        # A worker process wraps the message in its traceback; only its last line is for the user.
        text = str(error)
        if "in DataLoader worker process" in text:
            raise InputError(text.rpartition("InputError: ")[2]) from None
        raise


def _train(recipe: Recipe, start: int, quiet: bool) -> TrainResult:
    _silence_lightning()
    folder, options = Path(recipe.output), recipe.train
    torch.manual_seed(options.seed)
    parts = _detector_parts(recipe) if recipe.task == "detector" else _pose_parts(recipe, quiet)
    world = _world_size(options.devices) * options.num_nodes
    per_epoch = steps_per_epoch(len(parts.dataset), options.batch_size, world)  # type: ignore[arg-type]
    total = per_epoch * options.epochs
    if options.max_steps is not None:
        total = min(total, options.max_steps)
    module = parts.make_module(per_epoch, total)
    if rank_zero_only.rank == 0:
        write_text(folder / "recipe.yaml", yaml.safe_dump(recipe.dump(), sort_keys=False))

    if start < total:
        board = _tensorboard(folder, start) if options.tensorboard else None
        counter = callbacks.StepCounter(options.seed, start, per_epoch)
        average = callbacks.AveragedWeights(options.ema) if options.ema is not None else None
        losses = callbacks.LossLog(
            counter, folder, every=options.log_every_steps, start=start, tensorboard=board
        )
        shown = callbacks.TrainingProgress(counter, total, options.batch_size * world)
        validation = callbacks.Validation(
            counter,
            folder,
            parts.score,
            lambda trained, step, scores: _export(recipe, trained, step, scores),
            every_epochs=options.val_every_epochs,
            total_steps=total,
            start=start,
            average=average,
            tensorboard=board,
            report=(lambda text: None) if quiet else shown.line,
            settings=describe(_settings(recipe)),
        )
        checkpoints = callbacks.Checkpoints(
            counter,
            folder,
            every_steps=options.checkpoint_every_steps,
            total_steps=total,
            losses=losses,
            validation=validation,
            recipe=recipe.dump(),
        )
        hooks = [counter, *([average] if average else []), losses, validation, checkpoints]
        trainer = _trainer(recipe, hooks if quiet else [*hooks, shown])
        data = TrainingData(parts.dataset, parts.collate, recipe, start, total, parts.sources)
        trainer.fit(module, datamodule=data, ckpt_path=str(folder / "last.ckpt") if start else None)
        if board is not None:
            board.close()
        if rank_zero_only.rank == 0:
            best = validation.best
            result = {
                "best": None if best is None or math.isnan(best) else best,
                "best_step": validation.best_step,
                "scores": {k: v for k, v in validation.best_scores.items() if not math.isnan(v)},
            }
            write_json(folder / "result.json", result)
    return _result(recipe, max(start, total), per_epoch)


def _result(recipe: Recipe, steps: int, per_epoch: int) -> TrainResult:
    folder = Path(recipe.output)
    best = read_json(folder / "result.json") if (folder / "result.json").is_file() else {}
    weights = folder / "best.safetensors"
    return TrainResult(
        output=str(folder),
        steps=steps,
        epochs=steps / per_epoch,
        best_map=best.get("best"),
        best_step=best.get("best_step", 0),
        best_weights=str(weights) if weights.is_file() else None,
        last_checkpoint=str(folder / "last.ckpt"),
        scores=best.get("scores", {}),
        settings=_settings(recipe),
    )


def _open_run(recipe: Recipe, resume: bool) -> int:
    """Checks the run folder; the step to start from."""
    folder = Path(recipe.output)
    stored, last = folder / "recipe.yaml", folder / "last.ckpt"
    if rank_zero_only.rank != 0:  # the first process has checked and written
        return callbacks.read_progress(last)["step"] if resume and last.is_file() else 0
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; set output to a folder")
    holds_run = stored.is_file() or last.is_file()
    if not resume:
        if holds_run:
            raise InputError(
                f"{folder}: holds a run already; continue it with --resume, or set output=ANOTHER"
            )
    else:
        if not holds_run:
            raise InputError(f"{folder}: holds no run to continue; start it without --resume")
        old = yaml.safe_load(stored.read_text(encoding="utf-8")) if stored.is_file() else None
        old = old or callbacks.read_progress(last)["recipe"]
        changed = recipe_differences(old, recipe.dump())
        if changed:
            raise InputError(
                f"{folder}: was started with another recipe, {', '.join(changed[:5])} differ: undo that to "
                "continue, or set output=ANOTHER"
            )
    for stale in (".last-writing.ckpt", ".best-writing.ckpt"):
        (folder / stale).unlink(missing_ok=True)
    return callbacks.read_progress(last)["step"] if last.is_file() else 0


@dataclass
class _Parts:
    dataset: Dataset
    collate: Callable[..., Any]
    make_module: Callable[[int, int], lightning.LightningModule]
    score: Callable[[Any], dict[str, float]]
    sources: np.ndarray | None = None
    """[S] with ``data.mix``: which data set a sample comes from."""


def _pose_parts(recipe: Recipe, quiet: bool) -> _Parts:
    data = _root_data(recipe)
    model = build_model(recipe, quiet, data.skeleton)
    data, origin = _mixed(recipe, model, _training_labels(recipe, data, quiet))
    if recipe.data.interval is not None and not model.takes_labels:
        raise InputError(f"recipe: data.interval is for models that take labels, {model.name} takes none")
    samples = ground_truth_samples(data)
    if not samples:
        raise InputError(f"{data.root}: split {data.split!r} has no person with a labelled joint to train on")
    dataset = ClipDataset(
        data,
        samples,
        num_frames=model.num_frames,
        input_size=model.input_size,
        heatmap_size=model.heatmap_size,
        padding=recipe.data.padding,
        augment=recipe.data.augment,
        augment_strength=recipe.data.augment_strength,
        photometric=recipe.data.photometric,
        hide_heads=recipe.data.hide_heads,
        occlude=recipe.data.occlude,
        seed=recipe.train.seed,
        interval=recipe.data.intervals(),
        confidence_weights=recipe.data.confidence_weights,
        cache=recipe.data.cache,
        frame_size=recipe.data.frame_size,
        pack=recipe.data.pack,
        quiet=quiet,
    )
    scorer = SplitScorer(recipe, model, Path(recipe.output) / "validation", quiet=quiet)

    def score(module: Any) -> dict[str, float]:
        return main_score(scorer(module.model, module.device, autocast_type(recipe)))

    def make_module(per_epoch: int, total: int) -> lightning.LightningModule:
        if recipe.train.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        module = PoseModule(model, recipe.train, steps_per_epoch=per_epoch, total_steps=total)
        module.propagates = recipe.data.interval is not None
        module.cache = cache
        return module

    turns = recipe.train.cache_features
    folder = Path(recipe.output) / FOLDER
    cache = FeatureCache(folder, model, len(dataset), turns) if turns else None
    sources = origin[[sample.video for sample in samples]] if recipe.data.mix else None
    if cache is not None:
        return _Parts(CachedClips(dataset, cache), collate_cached, make_module, score, sources)
    return _Parts(dataset, collate_clips, make_module, score, sources)


def _root_data(recipe: Recipe) -> PoseDataset:
    section = recipe.data
    if section.mix and section.cache == "pack":
        raise InputError("recipe: data.cache=pack is for one data set; with data.mix use ram or none")
    data = read_dataset(section.root, section.train_split, section.layout)
    return without_images(data, section.leave_out) if section.leave_out else data


def _mixed(recipe: Recipe, model: PoseModel, data: PoseDataset) -> tuple[PoseDataset, np.ndarray]:
    """All that is trained on, in the model's joints, and [V] which data set each video comes from."""
    if not recipe.data.mix:
        return _in_joints_of(model, data), np.zeros(len(data.videos), dtype=int)
    parts = [data]
    for section in recipe.data.mix:
        part = read_dataset(section.root, section.split, section.layout)
        part = without_images(part, section.leave_out) if section.leave_out else part
        parts.append(weighted_joints(part, section.joint_weights) if section.joint_weights else part)
    for part in parts:
        if not any(frame.is_labeled and frame.people for _, frame in part.frames()):
            raise InputError(f"{part.root}: split {part.split!r} has no labelled person to train on")
    return joined(parts, model_joints(model) or data.skeleton)


def _training_labels(recipe: Recipe, data: PoseDataset, quiet: bool) -> PoseDataset:
    """The labels that are trained on: thinned, propagated, and those that are sure enough."""
    section = recipe.data
    if section.label_every is not None:
        data = thin_labels(data, section.label_every)
    if section.propagate is not None:
        if section.propagate in NETWORKS:
            raise InputError(
                f"recipe: data.propagate={section.propagate} needs weights; make the labels with "
                f"vidpose propagate --train-set --method {section.propagate} and train on what it writes"
            )
        if _world_size(recipe.train.devices) * recipe.train.num_nodes > 1:
            raise InputError(
                "recipe: data.propagate is for one process; make the labels with vidpose propagate "
                "--train-set and train on what it writes"
            )
        data = fill_labels(
            data, section.propagate, extend=section.label_every, work=Path(recipe.output) / "propagation",
            quiet=quiet,
        )  # fmt: skip
    return trusted_labels(data, section.min_confidence) if section.min_confidence else data


def _in_joints_of(model: PoseModel, data: PoseDataset) -> PoseDataset:
    """The data with the model's joints alone, in its order; all of them must be labelled."""
    own = model_joints(model)
    if own is None:
        joint_order(model, data.skeleton)
        return data
    if own.joints == data.skeleton.joints:
        return data
    missing = [joint for joint in own.joints if joint not in data.skeleton.index]
    if missing:
        raise InputError(
            f"recipe: the model predicts the joints of {own.name}, the data are labelled in "
            f"{data.skeleton.name}, without {', '.join(missing)}; leave model.skeleton out"
        )
    return usable(data, own)


def _detector_parts(recipe: Recipe) -> _Parts:
    from vidpose.train.detector import DetectorModule, build, collate, score_detector

    model, training, validation = build(recipe)

    def make_module(per_epoch: int, total: int) -> lightning.LightningModule:
        return DetectorModule(model, recipe.train, steps_per_epoch=per_epoch, total_steps=total)

    def score(module: Any) -> dict[str, float]:
        return score_detector(module.model, validation, dtype=autocast_type(recipe) or torch.float32)

    return _Parts(training, collate, make_module, score, training.sources if recipe.data.mix else None)


class TrainingData(lightning.LightningDataModule):
    """The batches from step ``start`` to step ``stop`` as one stream."""

    def __init__(
        self,
        dataset: Dataset,
        collate: Callable[..., Any],
        recipe: Recipe,
        start: int,
        stop: int,
        sources: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.sources = sources
        self.dataset, self.collate, self.recipe, self.start, self.stop = dataset, collate, recipe, start, stop

    def train_dataloader(self) -> DataLoader:
        options = self.recipe.train
        trainer: Any = self.trainer
        sampler = StepBatchSampler(
            len(self.dataset),  # type: ignore[arg-type]
            options.batch_size,
            seed=options.seed,
            start=self.start,
            stop=self.stop,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            groups=_groups_of(self.dataset, options.group_frames),
            sources=self.sources,
            shares=[self.recipe.data.share, *(part.share for part in self.recipe.data.mix)],
            turns=options.cache_features,
        )
        return DataLoader(
            self.dataset,
            batch_sampler=sampler,
            collate_fn=self.collate,
            num_workers=options.num_workers,
            worker_init_fn=worker_init,
            pin_memory=torch.cuda.is_available(),
            **fork_where_possible(options.num_workers),
        )


def _groups_of(dataset: Dataset, frames: int) -> Any:
    """What :class:`StepBatchSampler` takes as ``groups``."""
    if not frames:
        return None
    if isinstance(dataset, CachedClips):
        dataset = dataset.clips
    if not isinstance(dataset, ClipDataset):
        raise InputError("train.group_frames is for pose models, whose clips share frames")
    return dataset.groups(frames)


def build_model(recipe: Recipe, quiet: bool = True, skeleton: Skeleton = POSETRACK15) -> PoseModel:
    """The recipe's model, with ``train.init_from`` loaded.

    Args:
        skeleton: joints of the data, where the recipe names none.
    """
    section, options = recipe.model, recipe.train
    if options.train_backbone and section.freeze_backbone:
        raise InputError("train.train_backbone is true and model.freeze_backbone too: set only one of them")
    arguments = section.arguments()
    if not {"skeleton", "num_joints"} & arguments.keys():
        arguments["skeleton"] = skeleton.name
    arguments["freeze_backbone"] = (
        section.freeze_backbone if section.freeze_backbone is not None else not options.train_backbone
    )
    classes: Any = model_entry(section.name).load().__mro__
    check_types([cls.__init__ for cls in classes], section.model_extra or {})
    model = create_model(section.name, **arguments)
    if options.init_from is not None:
        report = load_weights(model, options.init_from)
        if not quiet:
            print(f"{options.init_from}: {report}", file=sys.stderr)
    elif model.freeze_backbone and not section.pretrained:
        print(
            "warning: the backbone is frozen and random: set train.init_from, model.pretrained or "
            "train.train_backbone=true",
            file=sys.stderr,
        )
    return model


def _trainer(recipe: Recipe, hooks: list[Any]) -> lightning.Trainer:
    options = recipe.train
    accelerator = "gpu" if options.accelerator == "cuda" else options.accelerator
    if accelerator == "auto" and not torch.cuda.is_available():
        accelerator = "cpu"  # Apple's GPU only when asked for: it lacks operations that some models need
    precision: Any = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[precision_name(recipe)]
    try:
        return lightning.Trainer(
            accelerator=accelerator,
            devices=_world_size(options.devices),
            num_nodes=options.num_nodes,
            strategy=options.strategy,
            precision=precision,
            max_epochs=1,  # one stream of all steps; epochs are counted by StepCounter
            gradient_clip_val=options.clip_grad,
            deterministic=options.deterministic,
            benchmark=not options.deterministic and torch.cuda.is_available(),
            callbacks=hooks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=recipe.output,
        )
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        raise InputError(
            f"train: accelerator, devices, strategy or precision cannot be used here: {error}"
        ) from error


def _world_size(devices: int | str) -> int:
    if isinstance(devices, int):
        return devices
    return max(torch.cuda.device_count(), 1)


def _tensorboard(folder: Path, start: int) -> Any:
    if rank_zero_only.rank != 0:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(log_dir=str(folder / "tensorboard"), purge_step=start + 1 if start else None)


def _export(recipe: Recipe, module: Any, step: int, scores: dict[str, float]) -> None:
    data = recipe.data
    # A published file tells how it was made, not what the folders of the machine are called.
    told = recipe.dump()
    told["output"] = Path(recipe.output).name
    folders = [("data", key) for key in ("root", "val_root", "boxes", "pack", "leave_out")]
    for section, key in (*folders, ("train", "init_from")):
        if told[section][key]:
            told[section][key] = Path(told[section][key]).name
    for part in told["data"]["mix"]:
        part["root"] = Path(part["root"]).name
        part["leave_out"] = Path(part["leave_out"]).name if part["leave_out"] else None
    trained_on = [(data.root, data.train_split), *((part.root, part.split) for part in data.mix)]
    card = {
        "data": "; ".join(f"{Path(root).name}, split {split}" for root, split in trained_on),
        "validated_on": f"{Path(data.val_root or data.root).name}, split {data.val_split}",
        "steps": step,
        "seed": recipe.train.seed,
        "scores": {name: round(value, 3) for name, value in scores.items() if not math.isnan(value)},
        "settings": _settings(recipe),
        "recipe": told,
    }
    save_model(module.model, Path(recipe.output) / "best.safetensors", card)


def _silence_lightning() -> None:
    """Its remarks are about options that recipes do not have."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")


__all__ = ["TrainResult", "ValidationResult", "train", "validate"]
