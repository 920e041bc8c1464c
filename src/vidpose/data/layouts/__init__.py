"""The data sets and label formats that can be read, each in a file of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vidpose.data.dataset import PoseDataset
from vidpose.data.faults import Faults
from vidpose.data.layouts import coco, hieve, jhmdb, lsp, posetrack
from vidpose.errors import InputError
from vidpose.skeletons import COCO17, HIEVE14, JHMDB15, LSP14, POSETRACK15, Skeleton


@dataclass(frozen=True)
class Layout:
    """How one data set lies on disk."""

    name: str
    title: str
    protocol: str
    """Name of the evaluation, of ``vidpose.evaluate.PROTOCOLS``."""
    skeleton: Skeleton
    """Joints that models are trained for."""
    list_splits: Callable[[Path], list[str]]
    """Names of the splits in a folder; empty where it is not of this layout."""
    read: Callable[[Path, str, Faults], PoseDataset]
    """One split with everything that the files say."""


def _posetrack(name: str) -> Layout:
    title, protocol = f"PoseTrack{name[-2:]}", "posetrack21" if name == "posetrack21" else "posetrack"
    return Layout(name, title, protocol, POSETRACK15, posetrack.list_splits, posetrack.read)


LAYOUTS: dict[str, Layout] = {
    "jhmdb": Layout("jhmdb", "JHMDB", "jhmdb", JHMDB15, jhmdb.list_splits, jhmdb.read),
    "lsp": Layout("lsp", "Leeds Sports Pose", "lsp", LSP14, lsp.list_splits, lsp.read),
    "coco": Layout("coco", "COCO keypoints", "coco", COCO17, coco.list_splits, coco.read),
    "hieve": Layout("hieve", "HiEve", "hieve", HIEVE14, hieve.list_splits, hieve.read),
    # PoseTrack last: a folder of JSON files is all that marks it.
    **{name: _posetrack(name) for name in posetrack.NAMES},
}


def find_layout(root: Path, name: str = "auto") -> Layout:
    """The layout that a folder has.

    Args:
        name: ``auto``: found by looking; else a name of ``LAYOUTS``, which the folder must have.

    Raises:
        InputError: an unknown name, no such folder, or nothing in it that is known.
    """
    if name != "auto" and name not in LAYOUTS:
        raise InputError(f"layout {name!r} is unknown; known: auto, {', '.join(LAYOUTS)}")
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; name the one that holds the annotations")
    for layout in [LAYOUTS[name]] if name != "auto" else LAYOUTS.values():
        if layout.list_splits(root):
            return layout
    what = "" if name == "auto" else f" of {LAYOUTS[name].title}"
    raise InputError(
        f"{root}: no annotations{what} found; PoseTrack, for one, has annotations/SPLIT/*.json; "
        "labels of CVAT, Label Studio, MOT, CSV, DeepLabCut or SLEAP become a data set by "
        "`vidpose data convert`"
    )
