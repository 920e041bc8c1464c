"""Joints for video without labels, from MediaPipe's networks, kept where four judges agree.

    python tools/teacher_labels.py DATA OUT --mediapipe-python mp-venv/bin/python [--every 2]

DATA is a folder of tools/hmdb_clips.py: frames, a box and a mask of one person in each, no joints. The
teacher (MediaPipe Pose, Apache-2.0; benchmarks/mediapipe_poses.py says how to install it) sees every N-th
frame as it is and mirrored. A joint becomes a label, the mean of both answers, where

- the teacher says that it sees the joint (``--visible``);
- both answers lie together;
- it lies on the mask, or close to it;
- optical flow carries it to where the teacher sees it in the next or in the last labelled frame.

Distances are shares of the longer side of the box. Frames with fewer than ``--least`` such joints are left
out, and the other joints of a frame stay unlabelled. What the teacher said is kept in OUT/teacher, clip by
clip: a run that was stopped goes on. OUT/annotations are PoseTrack18's files, pictures stay in DATA.
``--against TRUTH`` scores the labels on the frames that another data set labels, by name of the clip.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidpose.data.readers import read_dataset
from vidpose.infer.propagation.motion import create_flow, sample
from vidpose.io.files import write_json
from vidpose.skeletons import POSETRACK18

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks/mediapipe_poses.py"
LABELLED = [
    f"{side}_{part}"
    for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    for side in ("left", "right")
]
CLIPS_AT_ONCE = 20


def ask_teacher(python: Path, data: Path, documents: list[Path], out: Path, every: int) -> None:
    """Writes OUT/CLIP.json for each annotation file: frames, boxes and both answers [F, 2, J, 3]."""
    jobs: list[dict[str, Any]] = []
    clips: list[tuple[str, list[dict[str, Any]]]] = []
    for path in documents:
        content = json.loads(path.read_text())
        boxes = {row["image_id"]: row["bbox"] for row in content["annotations"]}
        frames = [image for image in content["images"] if image["id"] in boxes][::every]
        clips.append((path.stem, [{**image, "bbox": boxes[image["id"]]} for image in frames]))
        for image in clips[-1][1]:
            x, y, w, h = image["bbox"]
            job = {"image": str(data / image["file_name"]), "box_xyxy": [x, y, x + w - 1, y + h - 1]}
            jobs += [job, {**job, "mirrored": True}]
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "jobs.json", Path(folder) / "poses.json"
        asked.write_text(json.dumps(jobs))
        command = [str(python), str(SCRIPT), str(asked), str(answered), "--ways", "detector"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        content = json.loads(answered.read_text())
    answers = iter(content["ways"]["detector"])
    rows = [content["joints"].index(joint) for joint in LABELLED]
    for stem, frames in clips:
        poses = [[[answer[row] for row in rows] for answer in (next(answers), next(answers))] for _ in frames]
        write_json(out / f"{stem}.json", {"joints": LABELLED, "frames": frames, "poses": poses})


def carried(images: list[np.ndarray], points: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """[F, 2, J] how far points [F, J, 2] are from where flow takes those of the frame before, and after."""
    flow = create_flow("dis")
    missed = np.full((len(points), 2, points.shape[1]), np.inf)
    for i in range(len(points) - 1):
        for start, end, side in ((i, i + 1, 0), (i + 1, i, 1)):
            moved = points[start] + sample(
                flow(images[start], images[end]), points[start], np.full(points.shape[1], reach[start])
            )
            missed[end, side] = np.linalg.norm(moved - points[end], axis=-1)
    return missed


def label_clip(data: Path, teacher: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """The labels of one clip: {image id: keypoints [J, 3]}, and how many joints each judge let through."""
    frames = teacher["frames"]
    poses = np.array(teacher["poses"], dtype=np.float64)  # [F, 2, J, 3]
    labels: dict[int, np.ndarray] = {}
    passed = np.zeros(6)
    if not len(frames):
        return {"labels": labels, "passed": passed}
    side = np.array([max(frame["bbox"][2:]) for frame in frames], dtype=np.float64)
    points = poses[..., :2].mean(axis=1)  # [F, J, 2]
    names = [frame["file_name"] for frame in frames]
    images = [cv2.imread(str(data / name), cv2.IMREAD_GRAYSCALE) for name in names]
    width, height = images[0].shape[1], images[0].shape[0]
    inside = ((points >= 0) & (points <= (width - 1, height - 1))).all(axis=-1)
    seen = (poses[..., 2].min(axis=1) >= options.visible) & inside
    alike = np.linalg.norm(poses[:, 0, :, :2] - poses[:, 1, :, :2], axis=-1) <= options.mirror * side[:, None]
    on_mask = np.zeros_like(seen)
    for i, name in enumerate(names):
        mask = cv2.imread(str(data / name.replace("images/", "masks/").replace(".jpg", ".png")), 0)
        far = cv2.distanceTransform((mask == 0).astype(np.uint8), cv2.DIST_L2, 5)
        x, y = points[i].round().astype(int).T
        on_mask[i] = far[y.clip(0, height - 1), x.clip(0, width - 1)] <= options.mask * side[i]
    missed = carried(images, points, 0.02 * side).min(axis=1)
    steady = missed <= options.time * side[:, None]
    kept = seen & alike & on_mask & steady
    for i, frame in enumerate(frames):
        passed += [len(LABELLED), *(float(judge[i].sum()) for judge in (seen, alike, on_mask, steady, kept))]
        if kept[i].sum() >= options.least:
            labels[frame["id"]] = np.column_stack([points[i], kept[i]])
    return {"labels": labels, "passed": passed}


def write_labels(data: Path, document: Path, labels: dict[int, np.ndarray], out: Path) -> int:
    """Writes the annotation file of a clip with its labels; returns the number of labelled joints."""
    content = json.loads(document.read_text())
    order = [POSETRACK18.index[joint] for joint in LABELLED]
    kept = []
    for row in content["annotations"]:
        if row["image_id"] not in labels:
            continue
        keypoints = np.zeros((POSETRACK18.num_joints, 3))
        found = labels[row["image_id"]]
        keypoints[order] = found * found[:, 2:]
        kept.append({**row, "keypoints": [round(float(v), 1) for v in keypoints.reshape(-1)]})
    for image in content["images"]:
        image["is_labeled"] = image["id"] in labels
        image["file_name"] = os.path.relpath(data / image["file_name"], out)
    if kept:
        path = out / "annotations" / document.parent.name / document.name
        write_json(path, {**content, "annotations": kept})
    return int(sum(found[:, 2].sum() for found in labels.values()))


def score(out: Path, truth_root: Path) -> None:
    """Prints how many labels lie within shares of the box's longer side of those of another data set."""
    truth = {}
    for split in ("train", "val"):
        data = read_dataset(truth_root, split)
        for video in data.videos:
            stem = video.frames[0].path.parent.name.split("_", 1)[1]
            truth[stem] = {int(frame.path.stem): frame.people for frame in video.frames}
    names = data.skeleton.index
    errors, raw = [], []
    for path in sorted((out / "teacher").glob("*.json")):
        people = truth.get(path.stem.split("_", 1)[1])
        if people is None:
            continue
        teacher = json.loads(path.read_text())
        labels = json.loads((out / "labels" / path.name).read_text())
        for frame, pose in zip(teacher["frames"], np.array(teacher["poses"]), strict=True):
            found = people.get(int(Path(frame["file_name"]).stem), [])
            if len(found) != 1:
                continue
            want = found[0].keypoints[[names[joint] for joint in LABELLED]]
            error = np.linalg.norm(pose[:, :, :2].mean(0) - want[:, :2], axis=-1) / max(frame["bbox"][2:])
            known = want[:, 2] > 0
            raw += error[known].tolist()
            kept = labels.get(str(frame["id"]))
            if kept is not None:
                errors += error[known & (np.array(kept)[:, 2] > 0)].tolist()
    for name, found in (("all answers", np.array(raw)), ("labels", np.array(errors))):
        shares = [f"{100 * (found <= limit).mean():.1f}" for limit in (0.05, 0.1, 0.2)]
        print(f"{name}: {len(found)} joints, {' / '.join(shares)} % within 0.05 / 0.1 / 0.2")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--mediapipe-python", type=Path, help="Python that has MediaPipe; else only labels")
    parser.add_argument("--splits", nargs="+", default=["train"])
    parser.add_argument("--every", type=int, default=2, help="every n-th frame of a clip (default 2)")
    parser.add_argument("--visible", type=float, default=0.5, help="least visibility (default 0.5)")
    parser.add_argument("--mirror", type=float, default=0.05, help="distance to the mirrored answer")
    parser.add_argument("--mask", type=float, default=0.03, help="distance to the mask")
    parser.add_argument("--time", type=float, default=0.06, help="distance to where flow takes it")
    parser.add_argument("--least", type=int, default=5, help="fewest joints of a labelled frame (default 5)")
    parser.add_argument("--against", type=Path, help="a data set with labels of some of the clips")
    options = parser.parse_args()
    if options.every < 1:
        parser.error(f"--every is {options.every}: 1 or more is needed")
    documents = sorted(p for s in options.splits for p in (options.data / "annotations" / s).glob("*.json"))
    if not documents:
        parser.error(f"{options.data}: no annotations of {' or '.join(options.splits)} (tools/hmdb_clips.py)")
    teacher = options.out / "teacher"
    (options.out / "labels").mkdir(parents=True, exist_ok=True)
    missing = [path for path in documents if not (teacher / path.name).exists()]
    for start in range(0, len(missing) if options.mediapipe_python else 0, CLIPS_AT_ONCE):
        part = missing[start : start + CLIPS_AT_ONCE]
        ask_teacher(options.mediapipe_python, options.data, part, teacher, options.every)
        print(f"teacher: {start + len(part)} of {len(missing)} clips", flush=True)
    passed, joints, frames, clips = np.zeros(6), 0, 0, 0
    for document in documents:
        if not (teacher / document.name).exists():
            continue
        result = label_clip(options.data, json.loads((teacher / document.name).read_text()), options)
        labels = result["labels"]
        write_json(options.out / "labels" / document.name, {str(k): v.tolist() for k, v in labels.items()})
        joints += write_labels(options.data, document, labels, options.out)
        passed, frames, clips = passed + result["passed"], frames + len(labels), clips + bool(labels)
    judges = ("seen", "mirror", "mask", "time", "all four")
    print(f"{clips} clips, {frames} frames, {joints} joints labelled; of {int(passed[0])} joints asked:")
    print(
        ", ".join(f"{n} {100 * v / max(passed[0], 1):.0f} %" for n, v in zip(judges, passed[1:], strict=True))
    )
    if options.against:
        score(options.out, options.against)


if __name__ == "__main__":
    main()
