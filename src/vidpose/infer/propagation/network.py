"""Poses between labels by a network that takes the labels of two frames: STDPose, PoseWarper."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from vidpose import progress
from vidpose.device import resolve_precision
from vidpose.errors import InputError
from vidpose.geometry import (
    apply_affine,
    crop_affine,
    decode_heatmaps,
    gaussian_heatmaps,
    heatmap_to_input,
    input_to_heatmap,
    invert_affine,
    normalize_frames,
    warp_image,
)
from vidpose.models.video_model import PoseModel
from vidpose.skeletons import POSETRACK15, Skeleton, convert_keypoints

from .columns import Columns
from .frames import NumberedFrames
from .people import Track
from .store import Arrays, BlockStore

NETWORKS = {"stdpose": "stdpose", "stdpose-estimation": "stdpose", "posewarper": "posewarper"}
"""Methods that are a network alone -> its model. ``stdpose-estimation`` is shown no label."""


@dataclass
class _Ask:
    """One person in one frame between two labels; T frames of the model."""

    frame: int
    person: int
    affine: np.ndarray
    numbers: list[int]
    """[T] video frames of the clip."""
    points: np.ndarray
    """[T, J, 3] labels in heatmap pixels, 0 in the last column where there are none."""
    at: np.ndarray
    """[G, J, 3] other guesses in heatmap pixels, 0 in the last column where there are none."""


def by_network(
    columns: Columns,
    tracks: list[Track],
    frames: NumberedFrames,
    model: PoseModel,
    joints: Skeleton,
    *,
    shown: bool = True,
    others: Sequence[np.ndarray] = (),
    store: BlockStore | None = None,
    batch_size: int = 8,
    title: str = "",
    quiet: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[F, K, 2] points, NaN where a joint is not open, [F, K] heatmap peaks, and [G, F, K] what the heatmaps
    are at G other guesses.

    The first frame of a clip is the label before, its last the label after, all others are the frame itself;
    a frame with a label on one side has it on both. PoseWarper takes the nearer label alone.

    Args:
        model: in eval mode on the CPU or another device. joints: of the labels.
        shown: whether it is shown the labels; if not, it estimates poses from the pictures alone.
        others: G guesses [F, K, 2], NaN where there is none; they come from the labels alone.
        store: for finished parts.

    Raises:
        InputError: the model takes no labels.
    """
    if not model.takes_labels:
        known = " or ".join(dict.fromkeys(NETWORKS.values()))
        raise InputError(f"{model.name} takes no labels; {known} is needed")
    store = store or BlockStore(None, "")
    points = np.full(columns.points.shape, np.nan, dtype=np.float32)
    peaks = np.zeros(columns.left.shape, dtype=np.float32)
    heats = np.zeros((len(others), *peaks.shape), dtype=np.float32)
    asker = _Asker(columns, tracks, model, joints, shown, others)
    count = joints.num_joints
    pieces = [piece for whole in columns.pieces() for piece in whole]
    labels = columns.at_left(), columns.at_right()
    for start, end in progress.track(pieces, title, unit="intervals", quiet=quiet):
        here = slice(start, end + 1)

        def block(start: int = start, end: int = end) -> Arrays:
            found = np.full_like(points[start : end + 1], np.nan)
            heights = np.zeros_like(peaks[start : end + 1])
            there_too = np.zeros_like(heats[:, start : end + 1])
            asked = asker.between(start, end)
            for k in range(0, len(asked), batch_size):
                part = asked[k : k + batch_size]
                for ask, (place, peak, heat) in zip(part, _answer(part, frames, model), strict=True):
                    whole = np.column_stack([place, np.maximum(peak, 1e-6)])
                    whole = convert_keypoints(whole, asker.own, joints)
                    there = ask.frame - start, slice(ask.person * count, (ask.person + 1) * count)
                    mine = asker.open[ask.frame, there[1]] & (whole[:, 2] > 0)
                    found[there][mine] = whole[mine, :2]
                    heights[there][mine] = whole[mine, 2].clip(0, 1)
                    for row, values in zip(there_too, heat, strict=True):
                        at = convert_keypoints(np.column_stack([place, values]), asker.own, joints)
                        row[there][mine] = at[mine, 2].clip(0, 1)
            return found, heights, there_too

        given = tuple(side[here] for side in labels)
        points[here], peaks[here], heats[:, here] = store.get(start, end, block, given)
    return points, peaks, heats


def joints_of(model: PoseModel) -> Skeleton:
    """The joints that a model's heatmaps are of."""
    return getattr(model, "skeleton", None) or POSETRACK15


def check_joints(method: str, model: PoseModel | None, joints: Skeleton, labels: str) -> str | None:
    """A remark about joints that a network alone does not know; ``None``: it knows all, or others help.

    Args:
        joints: of the labels. labels: what they are called.

    Raises:
        InputError: it knows none of them.
    """
    if method not in NETWORKS or model is None:
        return None
    own = joints_of(model)
    knows = convert_keypoints(np.ones((own.num_joints, 3)), own, joints)[:, 2] > 0
    if not knows.any():
        raise InputError(
            f"{labels}: {method} knows none of their joints ({_some(joints.joints)}); it was trained on "
            f"{_some(own.joints)}; auto and dis carry any joints"
        )
    unknown = [name for name, known in zip(joints.joints, knows, strict=True) if not known]
    return f"{method} does not know {_some(unknown)}: not propagated" if unknown else None


def _some(names: Sequence[str], count: int = 4) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")


def fingerprint(model: PoseModel | None) -> str:
    """What tells a model from others: a hash of its weights; empty for ``None``."""
    if model is None:
        return ""
    digest = hashlib.blake2b()
    for tensor in model.state_dict().values():
        digest.update(tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


class _Asker:
    """What a network is asked about a video.

    Args:
        model: that answers. joints: of the labels. shown: whether it sees them. others: G guesses [F, K, 2].
    """

    def __init__(
        self,
        columns: Columns,
        tracks: list[Track],
        model: PoseModel,
        joints: Skeleton,
        shown: bool,
        others: Sequence[np.ndarray],
    ) -> None:
        self.columns, self.tracks, self.model, self.joints, self.shown = columns, tracks, model, joints, shown
        self.own = joints_of(model)
        self.open, self.others = columns.open, others
        self.labels = [dict(zip(track.frames.tolist(), track.people, strict=True)) for track in tracks]

    def between(self, start: int, end: int) -> list[_Ask]:
        """All that is open from frame ``start`` to ``end``, in order of time."""
        count = self.joints.num_joints
        people = self.open[start : end + 1].reshape(end + 1 - start, -1, count).any(axis=2)
        return [self._ask(start + t, p) for t, p in np.argwhere(people).tolist()]

    def _ask(self, t: int, p: int) -> _Ask:
        mine = slice(p * self.joints.num_joints, (p + 1) * self.joints.num_joints)
        model, own = self.model, self.own
        left, right = (_usual(side[t, mine]) for side in (self.columns.left, self.columns.right))
        sides = [left if left >= 0 else right, right if right >= 0 else left]
        affine = crop_affine(self.tracks[p].box_at(t), model.input_size)
        numbers = [t] * model.num_frames
        numbers[0], numbers[-1] = sides
        points = np.zeros((model.num_frames, own.num_joints, 3))
        nearest = min(sides, key=lambda side: abs(side - t))
        for slot, side in ((0, sides[0]), (-1, sides[1])):
            if not self.shown or (model.name == "posewarper" and side != nearest):
                continue
            points[slot] = self._in_heatmap(self.labels[p][side].keypoints, affine)
        at = np.zeros((len(self.others), own.num_joints, 3))
        for row, other in zip(at, self.others, strict=True):
            there = other[t, mine]
            known = ~np.isnan(there[:, :1])
            row[:] = self._in_heatmap(np.concatenate([np.nan_to_num(there), known], axis=1), affine)
        return _Ask(t, p, affine, numbers, points, at)

    def _in_heatmap(self, keypoints: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """Joints [J, 3] of the labels in image pixels -> the network's in heatmap pixels, last 1 or 0."""
        found = convert_keypoints(keypoints, self.joints, self.own)
        crop = apply_affine(affine, found[:, :2])
        places = input_to_heatmap(crop, self.model.input_size, self.model.heatmap_size)
        return np.column_stack([places, found[:, 2] > 0])


def _usual(frames: np.ndarray) -> int:
    """The label [J] that most joints have on one side, -1 where none has any: a frame in which one joint was
    set does not take the place of one with them all."""
    found, counts = np.unique(frames[frames >= 0], return_counts=True)
    return int(found[counts.argmax()]) if len(found) else -1


def _answer(
    part: list[_Ask], frames: NumberedFrames, model: PoseModel
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Keypoints [J, 2] in image pixels, peaks [J] and heat at other guesses [G, J] of each."""
    device = next(model.parameters()).device
    crops: list[np.ndarray] = []
    for ask in part:
        frames.read_ahead(min(ask.numbers), max(ask.numbers))
        for slot, number in enumerate(ask.numbers):
            if not slot or number != ask.numbers[slot - 1]:
                crop = warp_image(frames.image(number), ask.affine, model.input_size)
            crops.append(crop)
    pictures = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).to(device)
    clips = normalize_frames(pictures.unflatten(0, (len(part), -1)))
    labels = torch.from_numpy(np.stack([ask.points for ask in part])).float().to(device)
    given = gaussian_heatmaps(labels[..., :2], labels[..., 2], model.heatmap_size, model.sigma)
    times = [[number - ask.frame for number in ask.numbers] for ask in part]
    extra = {
        "given_heatmaps": given,
        "given_mask": (labels[..., 2] > 0).any(dim=-1),
        "times": torch.tensor(times, dtype=torch.float32, device=device),
    }
    dtype = resolve_precision("auto", device)
    mixed = torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)
    with torch.inference_mode():
        with mixed:
            heatmaps = model(clips, **extra).heatmaps.float()
        points, peaks = decode_heatmaps(heatmaps, "dark", model.sigma)
        at = torch.from_numpy(np.stack([ask.at for ask in part])).float().to(device)
        heats = _heat(heatmaps, at).cpu().numpy()
    places = heatmap_to_input(points.cpu().numpy(), model.input_size, model.heatmap_size)
    return [
        (apply_affine(invert_affine(ask.affine), place), height, heat)
        for ask, place, height, heat in zip(part, places, peaks.cpu().numpy(), heats, strict=True)
    ]


def _heat(heatmaps: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """[B, G, J] heatmaps [B, J, h, w] at points [B, G, J, 3] in their pixels (bilinear), 0 outside and where
    the last number of a point is."""
    h, w = heatmaps.shape[-2:]
    grid = 2 * at[..., :2] / at.new_tensor([max(w - 1, 1), max(h - 1, 1)]) - 1
    grid = grid.transpose(1, 2).flatten(0, 1)[:, None]  # [B·J, 1, G, 2]
    found = F.grid_sample(heatmaps.flatten(0, 1)[:, None], grid, align_corners=True)  # [B·J, 1, 1, G]
    return found.reshape(*heatmaps.shape[:2], -1).transpose(1, 2) * at[..., 2]
