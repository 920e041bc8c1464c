"""A detector over the frames of a data set's split: the file of boxes that validation takes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vidpose import progress
from vidpose.data.boxes import read_boxes
from vidpose.data.dataset import Frame, PoseDataset
from vidpose.data.frames import read_frame
from vidpose.data.readers import read_dataset
from vidpose.errors import InputError
from vidpose.geometry import box_iou, xyxy_to_xywh
from vidpose.infer.detect import FrameKey, build_detector
from vidpose.io.boxes import PERSON_CATEGORY
from vidpose.io.files import atomic_path, check_writable
from vidpose.io.outputs import check_replaceable, unless_marked
from vidpose.weight_sets import tell_weights

_MARK = b'"detector": "'
"""In what is written here, near the beginning."""
MATCH_IOU = 0.5
SHOWN_SCORES = (0.2, 0.4)
"""Least scores for which recall and precision are told, besides the file's own."""


@dataclass
class SplitBoxes:
    """What was detected, and how well it agrees with the labels."""

    output: str
    detector: str
    split: str
    frames: int
    boxes: int
    people: int
    """Labelled people; 0 where the split has no labels."""
    agreement: list[dict[str, float]] = field(default_factory=list)
    """For each least score: ``min_score``, ``recall`` and ``precision`` in percent (NaN without boxes)."""
    made_boxes: bool = False
    """The labels have no person boxes: they were made from the joints."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{self.output}: {self.boxes} boxes of {self.frames} frames of split {self.split} "
            f"(detector {self.detector})"
        ]
        source = "boxes made from the joints" if self.made_boxes else "labelled boxes"
        for row in self.agreement:
            right = f"{row['precision']:.1f} % of boxes right" if row["precision"] >= 0 else "no boxes"
            lines.append(
                f"score >= {row['min_score']:g}: {row['recall']:.1f} % of {self.people} people found, "
                f"{right} ({source}, IoU {MATCH_IOU:g})"
            )
        return "\n".join(lines)


def detect_split(
    root: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    split: str = "val",
    layout: str = "auto",
    detector: str = "auto",
    min_score: float = 0.05,
    nms_iou: float = 0.65,
    batch_size: int = 8,
    all_frames: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "torch",
    quiet: bool = True,
) -> SplitBoxes:
    """Detects the people of a split's labelled frames and writes them as the field's list of boxes.

    Each entry has ``image_name``, ``image_id``, ``bbox`` [x, y, w, h], ``score``, ``category_id`` 1, and
    ``detector``, which tells who found it and with what settings. The file appears when all frames are done;
    until then what was found lies in ``OUTPUT.part``, from which ``resume`` goes on.

    Args:
        root: the data set's folder.
        output: the JSON file.
        detector, min_score, nms_iou, device, precision, engine: as of
            :func:`vidpose.infer.detect.build_detector`.
        batch_size: frames that the detector gets at a time.
        all_frames: unlabelled frames too.
        resume: go on where an earlier call with the same settings stopped.
        overwrite: replace whatever is there, but nothing of the data set; otherwise only such a list.

    Raises:
        InputError: data set, detector or output cannot be used, an earlier part has other settings, or
            another file would be replaced.
    """
    if batch_size < 1:
        raise InputError(f"--batch is {batch_size}: it must be at least 1")
    target = Path(output)
    part = target.with_name(target.name + ".part")
    read = [root, *([detector] if Path(detector).is_file() else [])]
    check_replaceable(target, overwrite=overwrite, inputs=read, objection=unless_marked(_MARK))
    check_replaceable(part, overwrite=overwrite, objection=unless_marked(b"{" + _MARK))
    check_writable(target.parent)
    data = read_dataset(root, split, layout)
    frames = [frame for _, frame in data.frames() if all_frames or frame.is_labeled]
    if not frames:
        raise InputError(f"{root}: split {split!r} has no labelled frame; --all-frames takes the others too")
    made_by = f"{detector}, score >= {min_score:g}, NMS {nms_iou:g}"
    header = {"detector": made_by, "root": str(Path(root).resolve()), "split": split, "frames": len(frames)}
    done = _open_part(part, header, resume)
    if done < len(frames):
        find = build_detector(
            detector,
            device=device,
            precision=precision,
            engine=engine,
            min_score=min_score,
            nms_iou=nms_iou,
        )
        tell_weights(None, detector=getattr(find, "weights", None), quiet=quiet)
        with part.open("a", encoding="utf-8") as file:
            rows = _rows(frames[done:], find, batch_size, made_by)
            for row in progress.track(
                rows, "detecting", total=len(frames) - done, unit="frames", quiet=quiet
            ):
                file.write(json.dumps(row) + "\n")
                file.flush()
    boxes = _finish(part, target)
    part.unlink()
    return _agreement(data, frames, target, boxes, made_by, min_score)


def _rows(frames: list[Frame], find: Any, batch_size: int, made_by: str) -> Iterator[list[dict[str, Any]]]:
    """For each frame its entries; the next frames are decoded while the detector works."""
    rest = iter(frames)

    def read(batch: list[Frame]) -> list[np.ndarray]:
        return [read_frame(frame) for frame in batch]

    with ThreadPoolExecutor(max_workers=1) as pool:
        batch = list(islice(rest, batch_size))
        coming = pool.submit(read, batch)
        while batch:
            images = coming.result()
            following = list(islice(rest, batch_size))
            coming = pool.submit(read, following)
            keys = [FrameKey(frame.index, frame.file_name) for frame in batch]
            for frame, found in zip(batch, find(images, keys), strict=True):
                yield [
                    {
                        "image_name": frame.file_name, "image_id": frame.image_id,
                        "bbox": [round(float(value), 2) for value in xyxy_to_xywh(box)],
                        "score": round(float(score), 5), "category_id": PERSON_CATEGORY, "detector": made_by,
                    }
                    for box, score in zip(found.boxes_xyxy, found.scores, strict=True)
                ]  # fmt: skip
            batch = following


def _open_part(part: Path, header: dict[str, Any], resume: bool) -> int:
    """Frames that an earlier call has done; the part is there afterwards, cut to whole lines."""
    if resume and part.is_file():
        lines = part.read_bytes().split(b"\n")[:-1]  # what follows the last line end was cut off
        try:
            old = json.loads(lines[0]) if lines else header
        except ValueError:
            raise InputError(f"{part}: is damaged; delete it and start without --resume") from None
        if old != header:
            different = ", ".join(key for key in header if old.get(key) != header[key])
            raise InputError(
                f"{part}: was begun with another {different}; delete it, or start without --resume"
            )
        if lines:
            with part.open("r+b") as file:
                file.truncate(sum(len(line) + 1 for line in lines))
            return len(lines) - 1
    part.write_text(json.dumps(header) + "\n", encoding="utf-8")
    return 0


def _finish(part: Path, target: Path) -> int:
    """Writes the list, entry by entry; the number of boxes."""
    count = 0
    with atomic_path(target) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("[")
        with part.open(encoding="utf-8") as lines:
            next(lines)
            for line in lines:
                for entry in json.loads(line):
                    file.write((",\n" if count else "\n") + json.dumps(entry))
                    count += 1
        file.write("\n]\n")
    return count


# --- agreement with the labels ---------------------------------------------------------------------------


def _agreement(
    data: PoseDataset, frames: list[Frame], target: Path, boxes: int, made_by: str, min_score: float
) -> SplitBoxes:
    found = read_boxes(target, data, 0.0) if boxes else {}
    people = [person for frame in frames for person in frame.people]
    scores: list[float] = []
    right: list[bool] = []
    for frame in frames:
        if frame.is_labeled:
            mine = sorted(found.get(frame.image_id, []), key=lambda entry: -entry[1])
            for score, good in _match(mine, frame):
                scores.append(score)
                right.append(good)
    agreement = []
    if people:
        for least in sorted({min_score, *(s for s in SHOWN_SCORES if s > min_score)}):
            counted = [good for score, good in zip(scores, right, strict=True) if score >= least]
            hits = sum(counted)
            agreement.append(
                {
                    "min_score": least,
                    "recall": 100 * hits / len(people),
                    "precision": 100 * hits / len(counted) if counted else float("nan"),
                }
            )
    return SplitBoxes(
        str(target),
        made_by,
        data.split,
        len(frames),
        boxes,
        len(people),
        agreement,
        bool(people) and not any(person.box_is_given for person in people),
    )


def _match(boxes: list[tuple[np.ndarray, float]], frame: Frame) -> Iterator[tuple[float, bool]]:
    """(score, whether it is a labelled person's) of boxes, best first; each person has one box at most.

    Boxes of nobody whose centre lies in an ignored region are passed over.
    """
    import cv2

    free = [person.box_xyxy for person in frame.people]
    for box, score in boxes:
        overlaps = box_iou(box[None], np.array(free).reshape(-1, 4))[0]
        best = int(overlaps.argmax()) if len(free) else -1
        if best >= 0 and overlaps[best] >= MATCH_IOU:
            free.pop(best)
            yield score, True
            continue
        centre = float((box[0] + box[2]) / 2), float((box[1] + box[3]) / 2)
        regions = [region.astype(np.float32) for region in frame.ignore_regions if len(region) >= 3]
        if not any(cv2.pointPolygonTest(region, centre, False) >= 0 for region in regions):
            yield score, False
