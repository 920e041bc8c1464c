"""A miniature of each data set in its own layout: the same two dotted people everywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from scipy.io import savemat

from tiny_posetrack import as_posetrack17, make_posetrack
from vidpose.data.dataset import PoseDataset
from vidpose.data.readers import read_dataset
from vidpose.skeletons import COCO17, HIEVE14, JHMDB15, LSP14, POSETRACK15

SIZE = (64, 96)
"""(height, width) of every picture."""


def _source(root: Path, videos: int = 2, frames: int = 4) -> dict[str, PoseDataset]:
    """What all miniatures are made from."""
    make_posetrack(root / "source", videos=videos, frames=frames, size=SIZE)
    return {split: read_dataset(root / "source", split) for split in ("train", "val")}


def _points(person, joint: str) -> np.ndarray:
    """[2] of any data set's joint, from PoseTrack's."""
    at = {name: person.keypoints[j, :2] for j, name in enumerate(POSETRACK15.joints)}
    middle = (at["left_hip"] + at["right_hip"]) / 2
    at |= {"neck": at["head_bottom"], "chest": at["head_bottom"], "face": at["nose"]}
    at |= {"belly": (middle + at["head_bottom"]) / 2}
    for side in ("left", "right"):
        shift = np.array([2.0 if side == "left" else -2.0, -1.0])
        at |= {f"{side}_eye": at["nose"] + shift / 2, f"{side}_ear": at["nose"] + shift}
    return at[joint]


def _corners(person) -> list[float]:
    return [float(value) for value in person.box_xyxy]


def make_posetrack17_json(root: Path) -> Path:
    """PoseTrack17's JSON: annolist, images/SOURCE/VIDEO/*.jpg, no person boxes."""
    make_posetrack(root, frames=4, size=SIZE)
    for file in (root / "annotations").glob("*/*.json"):
        file.write_text(json.dumps(as_posetrack17(json.loads(file.read_text()))))
    return root


def make_posetrack17_mat(root: Path) -> Path:
    """PoseTrack17's original: the same as structs of MATLAB."""
    make_posetrack17_json(root)
    for file in (root / "annotations").glob("*/*.json"):
        write_annolist(json.loads(file.read_text()), file.with_suffix(".mat"))
        file.unlink()
    return root


def write_annolist(content: dict, file: Path) -> None:
    """``annolist`` of a JSON file as a .mat file has it: struct arrays, no lists of one."""

    def bare(value: object) -> object:
        if isinstance(value, dict):
            return {key: bare(inner) for key, inner in value.items()}
        if not isinstance(value, list):
            return value
        inner = [bare(entry) for entry in value]
        if len(inner) == 1:
            return inner[0]
        if not inner or not isinstance(inner[0], dict):
            return np.array(inner)
        keys = list(dict.fromkeys(key for entry in inner for key in entry))
        out = np.empty((1, len(inner)), dtype=[(key, object) for key in keys])
        for k, entry in enumerate(inner):
            out[0, k] = tuple(entry.get(key, np.zeros((0, 0))) for key in keys)
        return out

    savemat(str(file), {"annolist": bare(content["annolist"])})


def make_posetrack17_renamed(root: Path) -> Path:
    """The variant that users of detectron-style tools have: images_renamed/…/%08d.jpg from 1, in COCO's
    style with head_box and the original names."""
    make_posetrack(root, frames=4, size=SIZE)
    for file in (root / "annotations").glob("*/*.json"):
        content = json.loads(file.read_text())
        for f, image in enumerate(content["images"]):
            old = image["file_name"]
            image["original_file_name"] = old
            new = Path(old.replace("images/", "images_renamed/", 1)).with_name(f"{f + 1:08d}.jpg")
            image |= {"file_name": str(new), "frame_id": f + 1}
            (root / new).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / old, root / new)
        for annotation in content["annotations"]:
            annotation["head_box"] = annotation["bbox_head"]
        file.write_text(json.dumps(content))
    shutil.rmtree(root / "images")
    return root


def make_posetrack18(root: Path) -> Path:
    return make_posetrack(root, frames=4, size=SIZE)


def make_posetrack21(root: Path) -> Path:
    """posetrack_data/SPLIT/*.json with person_id and has_labeled_person; the images beside."""
    make_posetrack(root / "made", frames=4, size=SIZE)
    for file in (root / "made" / "annotations").glob("*/*.json"):
        content = json.loads(file.read_text())
        for image in content["images"]:
            image["has_labeled_person"] = image["is_labeled"]
        for annotation in content["annotations"]:
            annotation["person_id"] = 100 + annotation["track_id"]
        target = root / "posetrack_data" / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(content))
    shutil.move(root / "made" / "images", root / "images")
    shutil.rmtree(root / "made")
    return root


def make_coco(root: Path) -> Path:
    """annotations/person_keypoints_SPLIT2017.json, SPLIT2017/*.jpg; joints hidden and unlabelled, a crowd."""
    for split, data in _source(root).items():
        folder = root / f"{split}2017"
        folder.mkdir(parents=True)
        images, annotations = [], []
        for n, (_, frame) in enumerate(data.frames()):
            image_id = 1000 + n
            shutil.copy(frame.path, folder / f"{image_id:012d}.jpg")
            images.append(
                {"id": image_id, "file_name": f"{image_id:012d}.jpg", "height": SIZE[0], "width": SIZE[1]}
            )
            for person in frame.people:
                triples = np.array([[*_points(person, joint), 2] for joint in COCO17.joints])
                triples[3, 2] = 1
                triples[4] = 0
                x1, y1, x2, y2 = _corners(person)
                annotations.append(
                    {
                        "id": 5000 + len(annotations), "image_id": image_id, "category_id": 1, "iscrowd": 0,
                        "bbox": [x1, y1, x2 - x1, y2 - y1], "area": 0.6 * (x2 - x1) * (y2 - y1),
                        "keypoints": triples.reshape(-1).tolist(), "num_keypoints": 16,
                    }
                )  # fmt: skip
        annotations.append(
            {
                "id": 9999, "image_id": 1000, "category_id": 1, "iscrowd": 1, "bbox": [0, 0, 9, 9],
                "area": 81, "keypoints": [0] * 51, "num_keypoints": 0,
                "segmentation": {"size": list(SIZE), "counts": [6144]},
            }
        )  # fmt: skip
        category = {"id": 1, "name": "person", "keypoints": list(COCO17.joints), "skeleton": [[16, 14]]}
        content = {"images": images, "annotations": annotations, "categories": [category]}
        target = root / "annotations" / f"person_keypoints_{split}2017.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(content))
    shutil.rmtree(root / "source")
    return root


def make_hieve(root: Path) -> Path:
    """labels/SPLIT/NUMBER/%06d.xml (JSON, whatever its name), videos/NUMBER.mp4."""
    for split, data in _source(root).items():
        for v, video in enumerate(data.videos):
            name = str(v + 1 + (20 if split == "val" else 0))
            folder = root / "labels" / split / name
            folder.mkdir(parents=True)
            for n, frame in enumerate(video.frames):
                if n == 2:
                    continue  # a frame without annotations
                (folder / f"{n:06d}.xml").write_text(json.dumps(hieve_frame(name, n, frame.people)))
            write_video(root / "videos" / f"{name}.mp4", [frame.path for frame in video.frames])
    shutil.rmtree(root / "source")
    return root


def hieve_frame(name: str, number: int, people: list) -> dict:
    """What a frame's file holds."""
    objects = []
    for k, person in enumerate(people):
        box = dict(zip(("xmin", "ymin", "xmax", "ymax"), map(str, _corners(person)), strict=True))
        for j, joint in enumerate(HIEVE14.joints):
            x, y = _points(person, joint)
            flag = {3: 1, 4: -1}.get(j, 0)  # right_elbow hidden, right_wrist not annotated
            box[joint.replace("_", "-").capitalize()] = f"{x:.2f},{y:.2f},{flag}"
        objects.append({"name": f"P-{k + 1}", "action": "walking-alone", "bndbox": box})
    size = {"width": str(SIZE[1]), "height": str(SIZE[0]), "depth": "3"}
    return {"annotation": {"folder": name, "filename": f"{number}.jpg", "size": size, "object": objects}}


def make_hieve_tracks(root: Path) -> Path:
    """track2/NUMBER.json, annolist with HiEve's joint ids; images/NUMBER/%06d.jpg."""
    for split, data in _source(root).items():
        for v, video in enumerate(data.videos):
            name = str(v + 1)
            frames = []
            for n, frame in enumerate(video.frames):
                target = root / split / "images" / name / f"{n:06d}.jpg"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(frame.path, target)
                rects = []
                for person in frame.people:
                    at = [_points(person, joint) for joint in HIEVE14.joints]
                    points = [{"id": [j], "x": [float(x)], "y": [float(y)]} for j, (x, y) in enumerate(at)]
                    rects.append({"track_id": [person.track_id], "annopoints": [{"point": points}]})
                frames.append({"image": [{"name": f"{n:06d}.jpg"}], "annorect": rects})
            file = root / split / "track2" / f"{name}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"annolist": frames}))
    shutil.rmtree(root / "source")
    return root


def write_video(target: Path, images: list[Path]) -> None:
    """An MP4 of pictures, one after the other, at 10 frames a second."""
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter.fourcc(*"mp4v"), 10, (SIZE[1], SIZE[0]))
    for path in images:
        picture = cv2.imread(str(path))
        assert picture is not None
        writer.write(picture)
    writer.release()


def make_jhmdb(root: Path) -> Path:
    """joint_positions, puppet_mask, Rename_Images and splits of two classes; the second video has no mask."""
    both = _source(root, videos=1)
    for c, (split, data) in enumerate(both.items()):
        action = ("clap", "jump")[c]
        lines = []
        for v, video in enumerate(data.videos * 2):
            name = f"{action}_{v}_u_nm_np1_ba_goo_0"
            person = [frame.people[v] for frame in video.frames]
            points = np.array([[_points(p, joint) for joint in JHMDB15.joints] for p in person])
            file = root / "joint_positions" / action / name / "joint_positions.mat"
            file.parent.mkdir(parents=True)
            positions = {"pos_img": points.transpose(2, 1, 0) + 1, "scale": np.ones((1, len(person)))}
            savemat(str(file), {**positions, "viewpoint": "W"})
            if v == 0:
                mask = np.zeros((*SIZE, len(person)), dtype=np.uint8)
                for t, p in enumerate(person):
                    x1, y1, x2, y2 = (round(value) for value in _corners(p))
                    mask[y1 : y2 + 1, x1 : x2 + 1, t] = 1
                target = root / "puppet_mask" / action / name / "puppet_mask.mat"
                target.parent.mkdir(parents=True)
                savemat(str(target), {"part_mask": mask})
            folder = root / "Rename_Images" / action / name
            folder.mkdir(parents=True)
            for t, frame in enumerate(video.frames):
                cv2.imwrite(str(folder / f"{t + 1:05d}.png"), cv2.imread(str(frame.path)))
            lines.append(f"{name}.avi {v + 1}")
        lists = root / "splits"
        lists.mkdir(exist_ok=True)
        (lists / f"{action}_test_split1.txt").write_text("\n".join(lines) + "\n")
        assert split
    shutil.rmtree(root / "source")
    return root


def make_lsp(root: Path) -> Path:
    """joints.mat (3 x 14 x N), images/im0001.jpg; the last number is 1 for a hidden joint."""
    people = [(frame.path, frame.people[0]) for data in _source(root).values() for _, frame in data.frames()]
    joints = np.zeros((3, LSP14.num_joints, len(people)))
    (root / "images").mkdir(parents=True)
    for n, (path, person) in enumerate(people):
        joints[:2, :, n] = np.array([_points(person, joint) for joint in LSP14.joints]).T + 1
        joints[2, 0, n] = 1
        shutil.copy(path, root / "images" / f"im{n + 1:04d}.jpg")
    savemat(str(root / "joints.mat"), {"joints": joints})
    shutil.rmtree(root / "source")
    return root


def make_lsp_extended(root: Path) -> Path:
    """joints.mat (14 x 3 x N), images/im00001.jpg; the last number is 0 for a joint that is not labelled."""
    make_lsp(root)
    from scipy.io import loadmat

    joints = loadmat(str(root / "joints.mat"))["joints"].transpose(1, 0, 2)
    joints[:, 2] = 1 - joints[:, 2]
    joints[0, :2] = 0
    savemat(str(root / "joints.mat"), {"joints": joints})
    for path in (root / "images").iterdir():
        path.rename(path.with_name(f"im{int(path.stem[2:]):05d}.jpg"))
    return root


MAKERS: dict[str, tuple[Callable[[Path], Path], str, str, str]] = {
    "posetrack17": (make_posetrack17_json, "posetrack17", "train", "val"),
    "posetrack17_mat": (make_posetrack17_mat, "posetrack17", "train", "val"),
    "posetrack17_renamed": (make_posetrack17_renamed, "posetrack18", "train", "val"),
    "posetrack18": (make_posetrack18, "posetrack18", "train", "val"),
    "posetrack21": (make_posetrack21, "posetrack21", "train", "val"),
    "coco": (make_coco, "coco", "train2017", "val2017"),
    "hieve": (make_hieve, "hieve", "train", "val"),
    "hieve_tracks": (make_hieve_tracks, "hieve", "train", "val"),
    "jhmdb": (make_jhmdb, "jhmdb", "train1", "test1"),
    "lsp": (make_lsp, "lsp", "train", "test"),
    "lsp_extended": (make_lsp_extended, "lsp", "train", "train"),
}
"""Name -> (maker, layout, training split, validation split)."""
