"""How often each joint is labelled and visible: bars, and a figure of a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vidpose.data.describe import Measures
from vidpose.skeletons import Skeleton, symmetric_places
from vidpose.view.dataset_charts import COLORS, Cell, Splits

if TYPE_CHECKING:
    from matplotlib.collections import PathCollection
    from matplotlib.colors import Normalize

# A person who faces us, 1 high: x to the right, y down; right joints mirror the left.
_MIDDLE = {
    "head_top": 0.0, "face": 0.08, "nose": 0.09, "head_bottom": 0.165, "neck": 0.165, "chest": 0.2,
    "belly": 0.36,
}  # fmt: skip
_LEFT = {
    "eye": (0.055, 0.01), "ear": (0.125, 0.055), "shoulder": (0.125, 0.205), "elbow": (0.19, 0.345),
    "wrist": (0.235, 0.48), "hip": (0.085, 0.5), "knee": (0.105, 0.73), "ankle": (0.115, 0.95),
}  # fmt: skip


def standing_pose(skeleton: Skeleton) -> np.ndarray | None:
    """[J, 2] x, y of a standing person, 1 high; ``None`` if a joint of the set has no known place."""
    places = symmetric_places(skeleton, _MIDDLE, _LEFT)
    return None if None in places else np.array(places)


def joint_shares(measures: Measures) -> tuple[np.ndarray, np.ndarray]:
    """[J] percent of people whose joint is labelled, and whose joint is labelled and visible."""
    people = max(len(measures.labeled), 1)
    return 100 * measures.labeled.sum(axis=0) / people, 100 * measures.visible.sum(axis=0) / people


def bars_height(splits: Splits) -> float:
    """Inches that :func:`draw_joint_bars` needs."""
    joints = next(iter(splits.values())).skeleton.num_joints
    return max(joints * (0.12 + 0.15 * len(splits)), 1.2) + 0.75


def draw_joint_bars(cell: Cell, splits: Splits) -> None:
    """For each joint and split: visible, occluded, and up to the end not labelled."""
    skeleton = next(iter(splits.values())).skeleton
    axes = cell.axes(1.25, 0.25, 1.0, 0.5)
    thick = 0.78 / len(splits)
    places = np.arange(skeleton.num_joints)
    for k, measures in enumerate(splits.values()):
        labeled, visible = joint_shares(measures)
        at = places + (k - (len(splits) - 1) / 2) * thick
        color = COLORS[k]
        axes.barh(at, 100, thick * 0.86, color=cell.theme.grid, alpha=0.45, linewidth=0)
        axes.barh(at, visible, thick * 0.86, color=color, linewidth=0)
        axes.barh(at, labeled - visible, thick * 0.86, left=visible, color=color, alpha=0.42, linewidth=0)
        for j, y in enumerate(at):
            numbers = f"{visible[j]:.0f} + {labeled[j] - visible[j]:.0f}"
            axes.text(101.5, y, numbers, va="center", fontsize=7.5, color=cell.theme.ink, clip_on=False)
    axes.annotate(
        "% visible + occluded", (1, 1), (68, 2), "axes fraction", "offset points", ha="right", va="bottom",
        fontsize=7.5, color=cell.theme.muted,
    )  # fmt: skip
    axes.set_yticks(places, [name.replace("_", " ") for name in skeleton.joints])
    axes.set_ylim(skeleton.num_joints - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.patch.set_visible(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(colors=cell.theme.muted, labelsize=8.5, length=0, pad=4)
    axes.tick_params(axis="y", labelcolor=cell.theme.ink)
    axes.set_xlabel(
        "% of people: full colour visible, pale occluded, grey not labelled", color=cell.theme.ink, fontsize=9
    )


def can_draw_figures(splits: Splits) -> bool:
    """There are people, and all joints have a known place on a person."""
    known = standing_pose(next(iter(splits.values())).skeleton) is not None
    return known and any(len(measures.labeled) for measures in splits.values())


def draw_figures(cell: Cell, splits: Splits) -> None:
    """A person for each split, joints coloured by the share of people in whom they are visible.

    Only where :func:`can_draw_figures`.
    """
    from matplotlib.colors import Normalize

    shown = {split: measures for split, measures in splits.items() if len(measures.labeled)}
    pose = standing_pose(next(iter(splits.values())).skeleton)
    assert pose is not None and shown
    lowest = min(float(joint_shares(measures)[1].min()) for measures in shown.values())
    norm = Normalize(min(np.floor(lowest / 10) * 10, 90), 100)
    columns = min(len(shown), 2)
    rows = -(-len(shown) // columns)
    width = cell.width / columns
    height = min((cell.height - 0.55) / rows, 1.58 * width)
    for k, (split, measures) in enumerate(shown.items()):
        part = cell.part((k % columns) * width, (k // columns) * height, width, height)
        points = _draw_figure(part, split, measures, pose, norm)
    bar_axes = cell.part(0, rows * height + 0.05, cell.width, 0.5).axes(
        cell.width * 0.2, 0.08, cell.width * 0.2, 0.32
    )
    bar = cell.figure.colorbar(points, cax=bar_axes, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=cell.theme.muted, labelsize=8, length=0)
    bar.ax.set_xlabel("% of people in whom it is visible", fontsize=8.5, color=cell.theme.ink, labelpad=2)


def _draw_figure(
    cell: Cell, split: str, measures: Measures, pose: np.ndarray, norm: Normalize
) -> PathCollection:
    axes = cell.axes(0.05, 0.05, 0.05, 0.05)
    visible = joint_shares(measures)[1]
    for a, b in measures.skeleton.limbs:
        axes.plot(*pose[[a, b]].T, color=cell.theme.grid, linewidth=5, solid_capstyle="round", zorder=1)
    points = axes.scatter(
        pose[:, 0], pose[:, 1], c=visible, norm=norm, cmap="viridis", s=62, edgecolors=cell.theme.muted,
        linewidths=0.6, zorder=2,
    )  # fmt: skip
    for j, (x, y) in enumerate(pose):
        joint = measures.skeleton.joints[j]
        at, align = ((-7, 0), "right") if joint.startswith("right") else ((7, 0), "left")
        if joint in ("head_bottom", "neck", "chest"):  # limbs go to both sides
            at, align = ((0, -11), "center") if joint != "neck" else ((8, 8), "left")
        axes.annotate(
            f"{visible[j]:.0f}", (x, y), at, textcoords="offset points", va="center", ha=align, fontsize=8,
            color=cell.theme.ink,
        )  # fmt: skip
    for x, name in ((-0.3, "right"), (0.3, "left")):
        axes.text(x, 0.02, name, fontsize=8, color=cell.theme.muted, ha="center")
    axes.text(0, 1.06, split, fontsize=9, color=cell.theme.ink, ha="center", va="center")
    axes.set_xlim(-0.36, 0.36)
    axes.set_ylim(1.09, -0.05)
    axes.set_aspect("equal")
    axes.axis("off")
    return points
