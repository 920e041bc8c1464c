"""Scores predictions with the protocols of the field: files in, numbers out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidpose.evaluate.posetrack_files import Sources

__all__ = ["evaluate", "make_challenging"]


def evaluate(
    gt: Sources,
    predictions: Sources,
    protocol: str = "posetrack",
    *,
    by: str | Iterable[str] = (),
    frames: str | os.PathLike[str] | Iterable[str] | None = None,
    images: str | os.PathLike[str] | None = None,
    thresholds: Iterable[float] | None = None,
    normalizer: str | None = None,
    similarity: str | None = None,
    frame_weights: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Scores predictions against ground truth.

    Args:
        gt: annotations: a file, a folder of files, parsed JSON, or a list of these.
        predictions: the same for the predictions, or ``VideoPoses``.
        protocol: ``posetrack``: the official evaluation of PoseTrack17, 18 and 21 (15 joints);
            ``posetrack21``: PoseTrack21's own; ``hieve``; ``coco`` (OKS); ``pck``, ``pckh``, ``jhmdb``,
            ``lsp``; ``hota``: tracking of whole people.
        by: any of ``joint``, ``video``, ``difficulty``: also the scores of these parts, under ``by``.
        frames: a list of frame names, or a file with one (text or JSON): only these are scored.
        images: folder of the frames' images, for the blur of people in the breakdown by difficulty.
        thresholds: of pck, pckh, jhmdb and lsp in units, of hieve (three) in head sizes.
        normalizer: of pck and lsp: ``head``, ``torso`` or ``box``.
        similarity: of hota: ``box`` (IoU), ``oks`` or ``pckh``.
        frame_weights: of hieve: JSON ``{frame name: weight}``.

    Returns:
        ``{metric: {name: percentage, ..., "Mean": percentage}, ..., "summary": {"protocol", "main", ...}}``;
        NaN where undefined, ``summary["main"]`` is the metric that papers quote. For ``posetrack``: ``ap``,
        ``precision``, ``recall``, ``mota``, ``motp`` of the 15 joints, the seven columns and ``Mean``.

    Raises:
        InputError: for an unknown protocol or option, or naming file, frame and problem of what cannot be
            scored.
    """
    from vidpose.evaluate.breakdown import break_down, check_breakdowns
    from vidpose.evaluate.frame_lists import read_frame_list, select_frames
    from vidpose.evaluate.protocols import Options, check_options, find_protocol

    parts = find_protocol(protocol)
    options = Options(
        tuple(thresholds) if thresholds is not None else None, normalizer, similarity, frame_weights
    )
    by = (by,) if isinstance(by, str) else tuple(by)
    check_options(protocol, parts, options)
    check_breakdowns(by, parts, protocol)
    if protocol == "posetrack" and not by and frames is None:  # nothing needs details of people
        from vidpose.evaluate.posetrack import evaluate_posetrack

        return evaluate_posetrack(gt, predictions)
    chosen = parts.load(gt, predictions)
    if isinstance(frames, str | os.PathLike):
        chosen = select_frames(chosen, read_frame_list(frames), str(frames))
    elif frames is not None:
        chosen = select_frames(chosen, frames, "the list of frames")
    scores = parts.score(chosen, options)
    if by:
        scores["by"] = break_down(scores, chosen, parts, options, by, images)
    return scores


def make_challenging(
    gt: Sources,
    output: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> int:
    """Writes a list of the hard frames of a data set, for ``frames`` of :func:`evaluate`.

    Args:
        gt: annotations with joints, as for :func:`evaluate`.
        output: a JSON file ``{"rule", "frames"}``; with another ending than .json a text file.
        images: folder of the frames' images: blurred people are hard, too.
        overwrite: replace whatever is there, but no annotations; otherwise only such a list.

    Returns:
        how many frames were written.

    Raises:
        InputError: the annotations or images cannot be read, no frame is hard, or another file would be
            replaced.
    """
    from vidpose.errors import InputError
    from vidpose.evaluate.difficulty import RULE_BEGINS, challenging
    from vidpose.evaluate.people import assemble, remove_ignored
    from vidpose.evaluate.posetrack_files import load_truth
    from vidpose.io.files import write_json, write_text
    from vidpose.io.outputs import check_replaceable, unless_marked

    read = [gt] if isinstance(gt, str | os.PathLike) else []
    objection = unless_marked(RULE_BEGINS.encode())
    check_replaceable(
        output, overwrite=overwrite, inputs=read, objection=objection, instead="name another file"
    )
    frames = assemble(load_truth(gt))
    remove_ignored(frames)
    found = challenging(frames, images)
    if not found["frames"]:
        raise InputError(f"no frame is challenging by the rule: {found['rule']}; nothing was written")
    if os.fspath(output).endswith(".json"):
        write_json(output, found, indent=1)
    else:
        write_text(output, f"# {found['rule']}\n" + "".join(f"{name}\n" for name in found["frames"]))
    return len(found["frames"])


class _CallablePackage(ModuleType):
    """Lets ``vidpose.evaluate(...)`` be the function also where this package was imported first."""

    def __call__(
        self, gt: Sources, predictions: Sources, protocol: str = "posetrack", **options: Any
    ) -> dict[str, Any]:
        return evaluate(gt, predictions, protocol, **options)


sys.modules[__name__].__class__ = _CallablePackage
