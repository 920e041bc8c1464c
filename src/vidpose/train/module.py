"""What is optimised and how: the loss of a batch, the optimiser, the schedule of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn

from vidpose.data.clips import prepare_clips
from vidpose.geometry import gaussian_heatmaps
from vidpose.models.video_model import Features, PoseModel
from vidpose.train.feature_cache import FeatureCache, cached_features, given_features
from vidpose.train.recipe import TrainSection


class TrainedModule(lightning.LightningModule):
    """A model, its optimiser, and the losses of its last step; subclasses say what a step is.

    Args:
        model: what is trained.
        train: the recipe's section.
        steps_per_epoch: for milestones.
        total_steps: of the whole run.
    """

    def __init__(
        self, model: nn.Module, train: TrainSection, *, steps_per_epoch: int, total_steps: int
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.options = train
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = total_steps
        self.last_losses: dict[str, Tensor] = {}

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """The loss to minimise; all of them are kept for the log."""
        self.last_losses = {name: value.detach() for name, value in losses.items()}
        return losses["total"]

    def configure_optimizers(self) -> Any:
        return configure_optimizers(self.model, self.options, self.steps_per_epoch, self.total_steps)


class PoseModule(TrainedModule):
    """One training step of a pose model that ``create_model`` built.

    ``propagates``: clips reach from label to label, see ``data.interval`` of recipes.
    """

    propagates = False
    cache: FeatureCache | None = None
    """Of ``train.cache_features``."""

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        model: PoseModel = self.model
        clips, features = self._clips(batch)
        key = clips.shape[1] // 2
        points, weights = batch["points"], batch["weights"]
        targets = gaussian_heatmaps(points[:, key], weights[:, key], model.heatmap_size, model.sigma)
        extra: dict[str, Any] = {}
        if model.needs_sequence_targets:
            # [B, T, J, h, w] and [B, T, J]: labels of every frame of the clip, where they exist.
            extra["sequence_heatmaps"] = gaussian_heatmaps(points, weights, model.heatmap_size, model.sigma)
            extra["sequence_weights"] = weights
        given: dict[str, Any] = {}
        if self.propagates:
            chance = torch.rand(len(clips), 1, device=clips.device) < self.options.given_labels
            given = given_labels(model, points, weights, batch["times"], chance)
        with given_features(model, features) if features is not None else nullcontext():
            out = model(clips, **given)
        return self.total(model.losses(out, targets, weights[:, key], **extra))

    def _clips(self, batch: dict[str, Tensor]) -> tuple[Tensor, Features | None]:
        """Normalised clips [B, T, 3, H, W], and their features where they are kept: then clips are empty."""
        features = cached_features(batch)
        if features is not None:
            shape = (*batch["times"].shape, 3, *self.model.input_size)
            return batch["points"].new_zeros(()).expand(shape), features
        clips = prepare_clips(batch["clips"], channels_last=self.options.channels_last)
        if self.cache is not None:
            features = self.model.extract(clips.flatten(0, 1))
            features = self.cache.write(batch["rows"].cpu().numpy(), features, batch)
        return clips, features


def given_labels(
    model: PoseModel, points: Tensor, weights: Tensor, times: Tensor, chance: Tensor | None = None
) -> dict[str, Any]:
    """What a model that propagates takes beside the clips: labels of all frames but the key frame.

    Args:
        points: [B, T, J, 2] heatmap pixels. weights: [B, T, J], 0 where a joint is not labelled.
        times: [B, T] frames from the key frame.
        chance: [B, 1] bool, of which clips; ``None``: of all. Frames without a labelled joint give nothing.
    """
    mask = (weights > 0).any(dim=-1)
    mask[:, mask.shape[1] // 2] = False
    if chance is not None:
        mask = mask & chance
    heatmaps = gaussian_heatmaps(points, weights, model.heatmap_size, model.sigma)
    return {"given_heatmaps": heatmaps, "given_mask": mask, "times": times}


def configure_optimizers(
    model: nn.Module, train: TrainSection, steps_per_epoch: int, total_steps: int
) -> dict[str, Any]:
    """Adam or AdamW over what takes gradients, and the learning rate as a function of the step."""
    backbone = {id(p) for p in model.backbone_parameters()} if isinstance(model, PoseModel) else set()
    groups = [
        {
            "params": [p for p in model.parameters() if p.requires_grad and id(p) not in backbone],
            "lr": train.lr,
        },
        {
            "params": [p for p in model.parameters() if p.requires_grad and id(p) in backbone],
            "lr": train.lr * train.backbone_lr_factor,
        },
    ]
    kind = torch.optim.Adam if train.optimizer == "adam" else torch.optim.AdamW
    optimizer = kind(
        [group for group in groups if group["params"]], eps=train.adam_eps, weight_decay=train.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, rate_function(train, steps_per_epoch, total_steps)
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def rate_function(train: TrainSection, steps_per_epoch: int, total_steps: int) -> Callable[[int], float]:
    """The learning rate's factor at a step: linear warm-up, then decay at milestones or along a cosine."""

    def factor(step: int) -> float:
        ramp = min((step + 1) / train.warmup_steps, 1.0) if train.warmup_steps else 1.0
        if train.schedule == "cosine":
            return ramp * 0.5 * (1 + math.cos(math.pi * min(step / max(total_steps, 1), 1.0)))
        epoch = step // steps_per_epoch
        return ramp * train.gamma ** sum(epoch >= milestone for milestone in train.milestones)

    return factor


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """The seed of everything random in the network at one step: a function of (seed, step, process)."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, dtype=np.uint64)[0] >> 1)
