"""How many people does a detector find on real pictures, and how often is it wrong?

    python benchmarks/detector_real.py --clips DIR --data posetrack18:val auto runs/detector/best.safetensors

``--clips`` is a folder of videos; of 100 of their frames the boxes of all people were drawn by hand
(clip_boxes.json, per cent of the picture). ``--data`` is any labelled folder that vidpose reads, and its
split. A person is found if a box at the threshold overlaps theirs by IoU 0.5; every box finds one person at
most. A box that finds nobody is false unless half of it lies in a region to ignore or it is smaller than 13
per cent of the picture's height, as nobody drew boxes around people as small.

``--track`` scores the boxes that `vidpose estimate` goes on with, too: those of tracks that begin with a box
of at least these scores, over all frames of the clips. ``--follow`` scores those of
`estimate --tracker poses` with a pose model.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidpose.data.readers import parse_place, read_dataset
from vidpose.errors import InputError
from vidpose.infer.detect import Detection, Detector, FrameKey, build_detector
from vidpose.infer.estimator import PoseEstimator
from vidpose.infer.sparse_detect import SparseDetection, interval_frames
from vidpose.infer.track import Tracker, Tracks
from vidpose.io.files import read_json, write_json
from vidpose.io.video import open_video
from vidpose.train.detector import match

IOU, SMALL = 0.5, 0.13
CLIP_BOXES = Path(__file__).with_name("clip_boxes.json")
Picture = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Image [H, W, 3] RGB, boxes of people [P, 4] and of regions to ignore [R, 4] in pixels."""


def clip_pictures(folder: Path) -> list[Picture]:
    """The frames of the clips that have boxes by hand."""
    pictures = []
    for name, frames in read_json(CLIP_BOXES).items():
        with open_video(folder / name) as video:
            for frame in video:
                if str(frame.index) in frames:
                    pictures.append(drawn_picture(frame.image, frames[str(frame.index)]))
    return pictures


def drawn_picture(image: np.ndarray, drawn: dict[str, list[list[float]]]) -> Picture:
    """An image with its boxes by hand, which are in per cent."""
    h, w = image.shape[:2]
    people, ignored = (
        np.array(drawn.get(kind, [])).reshape(-1, 4) * [w, h, w, h] / 100 for kind in ("people", "ignore")
    )
    return image, people, ignored


def score_tracks(
    folder: Path, detector: Detector, starts: list[float], every: float
) -> list[dict[str, float]]:
    """As :func:`score`, of the clips' boxes after tracking, for every score in ``starts`` of a first box.

    The detector sees a frame in ``every`` seconds.
    """
    pictures: list[Picture] = []
    kept: list[list[Detection]] = [[] for _ in starts]
    for name, frames in read_json(CLIP_BOXES).items():
        with open_video(folder / name) as video:
            trackers = [Tracker(fps=video.fps, min_track_score=start) for start in starts]
            tracked: list[list[Tracks]] = [[] for _ in starts]
            sparse = SparseDetection(detector, interval_frames(every, video.fps))
            found: list[Detection] = []
            for frame in video:
                found += sparse.update([frame.image], [FrameKey(frame.index)])
                if str(frame.index) in frames:
                    pictures.append(drawn_picture(frame.image, frames[str(frame.index)]))
            for seen in [*found, *sparse.flush()]:
                for tracker, whole in zip(trackers, tracked, strict=True):
                    whole += tracker.update(seen)
        for tracker, whole, mine in zip(trackers, tracked, kept, strict=True):
            whole += tracker.flush()
            mine += [
                Detection(whole[int(i)].boxes_xyxy, whole[int(i)].scores) for i in sorted(frames, key=int)
            ]
    return [score(mine, pictures) for mine in kept]


def score_followed(
    folder: Path, model: str, detector: Detector, start: float, every: float | None
) -> dict[str, float]:
    """As :func:`score`, of the clips' boxes that are drawn around poses."""
    estimator = PoseEstimator(
        model,
        detector=detector,
        device="cpu",
        tracker="poses",
        detect_every=every,
        min_track_score=start,
    )
    pictures: list[Picture] = []
    kept: list[Detection] = []
    for name, frames in read_json(CLIP_BOXES).items():
        with estimator.stream(folder / name) as stream:
            for poses in stream:
                if str(poses.index) in frames and stream.image is not None:
                    pictures.append(drawn_picture(stream.image, frames[str(poses.index)]))
                    kept.append(Detection(poses.boxes.astype(np.float64), poses.box_scores))
    return score(kept, pictures)


def data_pictures(folder: str, split: str) -> list[Picture]:
    """The labelled frames of a data set; a region to ignore counts as the box around it."""
    pictures = []
    for _, frame in read_dataset(folder, split).frames():
        people = [person for person in frame.people if person.box_xyxy.any()]
        if not frame.is_labeled or not people:
            continue
        image = cv2.imread(str(frame.path))
        if image is None:
            raise InputError(f"{frame.path}: cannot be decoded as an image")
        regions = [np.concatenate([r.min(0), r.max(0)]) for r in frame.ignore_regions]
        crowds = [person.box_xyxy for person in people if person.is_crowd]
        boxes = [person.box_xyxy for person in people if not person.is_crowd]
        ignored = np.array(regions + crowds).reshape(-1, 4)
        pictures.append((image[..., ::-1], np.array(boxes).reshape(-1, 4), ignored))
    return pictures


def score(detections: Iterable[Detection], pictures: list[Picture]) -> dict[str, float]:
    """Per cent of people found, and false boxes for each picture."""
    people = found = false = 0
    for seen, (image, truth, ignored) in zip(detections, pictures, strict=True):
        whom = match(seen.boxes_xyxy, seen.scores, truth, [], iou=IOU)
        people += len(truth)
        found += int((whom >= 0).sum())
        for box in seen.boxes_xyxy[whom < 0]:
            false += box[3] - box[1] >= SMALL * image.shape[0] and not _inside(box, ignored)
    return {
        "found": 100 * found / people,
        "false": false / len(pictures),
        "people": people,
        "pictures": len(pictures),
    }


def _inside(box: np.ndarray, regions: np.ndarray) -> bool:
    low, high = np.maximum(box[:2], regions[:, :2]), np.minimum(box[2:], regions[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    return bool((shared > 0.5 * (box[2:] - box[:2]).prod()).any())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("detectors", nargs="+", help="as of `vidpose estimate --detector`")
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--data", action="append", default=[], metavar="DIR:SPLIT")
    parser.add_argument("--min-score", type=float, nargs="*", default=[0.2], help="of single frames")
    parser.add_argument("--track", type=float, nargs="+", default=[], help="scores at which tracks begin")
    parser.add_argument("--follow", metavar="MODEL", help="with --track, boxes from this model's poses")
    parser.add_argument(
        "--detect-every",
        type=float,
        help="seconds, with --track; 0: all frames; default: 0.15, with --follow 0.5",
    )
    parser.add_argument("--engine", default="torch", help="as of `vidpose estimate`")
    parser.add_argument("--precision", default="auto", help="as of `vidpose estimate`")
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    how = {"device": "cpu", "engine": options.engine, "precision": options.precision}

    def add(spec: str, name: str, threshold: float, scores: dict[str, float]) -> None:
        results.append({"detector": spec, "source": name, "min_score": threshold, **scores})
        print(
            f"{spec[-33:]:34}{name[-27:]:28}{threshold:7.2f}{scores['people']:8}"
            f"{scores['found']:9.1f}{scores['false']:17.2f}",
            flush=True,
        )

    try:
        sources = [("clips", clip_pictures(options.clips))] if options.clips else []
        sources += [(place, data_pictures(*parse_place(place))) for place in options.data]
        if not sources:
            parser.error("nothing to score: give --clips or --data")
        if options.track and not options.clips:
            parser.error("--track needs --clips")
        print(f"{'':34}{'pictures of':28}{'score':>7}{'people':>8}{'found %':>9}{'false a picture':>17}")
        for spec in options.detectors:
            for threshold in options.min_score:
                detector = build_detector(spec, min_score=threshold, **how)
                for name, pictures in sources:
                    seen = (detector([image])[0] for image, _, _ in pictures)
                    add(spec, name, threshold, score(seen, pictures))
            if options.follow:
                detector = build_detector(spec, **how)
                for start in options.track:
                    scores = score_followed(
                        options.clips, options.follow, detector, start, options.detect_every
                    )
                    add(spec, f"clips, poses of {options.follow}", start, scores)
            elif options.track:
                every = 0.15 if options.detect_every is None else options.detect_every
                detector = build_detector(spec, **how)
                for start, scores in zip(
                    options.track,
                    score_tracks(options.clips, detector, options.track, every),
                    strict=True,
                ):
                    add(spec, "clips, tracked", start, scores)
    except InputError as error:
        parser.error(str(error))
    if options.out:
        write_json(options.out, results)


if __name__ == "__main__":
    main()
