"""Breaks a data set at random, one thing at a time, and asks `data check` for it: found, and named?

A data set of 10,000 annotations over some videos is made (labels only, tiny images); then, so many times, one
file is read, one thing in it spoilt, the data set checked, and the file put back.

    python benchmarks/data_check_breakages.py --runs 1000
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidpose.data.check import check_dataset
from vidpose.skeletons import POSETRACK18

Content = dict[str, Any]


def make(root: Path, annotations: int = 10_000, videos: int = 20, people: int = 5) -> list[Path]:
    """A PoseTrack18 data set; returns its annotation files."""
    rng = np.random.default_rng(0)
    frames = annotations // (videos * people)
    picture = cv2.imencode(".jpg", np.zeros((48, 64, 3), dtype=np.uint8))[1].tobytes()
    files = []
    for v in range(videos):
        name = f"{v:06d}_mpii_test"
        images, entries = [], []
        (root / "images" / "val" / name).mkdir(parents=True)
        for f in range(frames):
            image_id = 10_000_000_000 + v * 10_000 + f
            file_name = f"images/val/{name}/{f:06d}.jpg"
            (root / file_name).write_bytes(picture)
            images.append(
                {"id": image_id, "file_name": file_name, "frame_id": image_id, "is_labeled": True,
                 "height": 48, "width": 64}
            )  # fmt: skip
            for p in range(people):
                points = np.column_stack([rng.uniform(1, 47, (17, 2)).round(2), np.ones(17)])
                points[3:5] = 0
                entries.append(
                    {
                        "id": image_id * 100 + p, "image_id": image_id, "category_id": 1, "track_id": p,
                        "bbox": [1.0, 2.0, 40.0, 44.0], "bbox_head": [5, 5, 9, 9], "scores": [],
                        "keypoints": points.reshape(-1).tolist(),
                    }
                )  # fmt: skip
        category = {"id": 1, "name": "person", "keypoints": list(POSETRACK18.joints)}
        file = root / "annotations" / "val" / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"images": images, "annotations": entries, "categories": [category]}, indent=0)
        file.write_text(text if v % 2 else json.dumps(json.loads(text)))  # of many lines, and of one
        files.append(file)
    return files


# --- ways of breaking one annotation: each says what was done, and where it must be found -------------------


def _labelled(rng: random.Random, entry: Content) -> int:
    """Position in ``keypoints`` of a labelled joint's x or y."""
    joint = rng.choice([j for j in range(17) if j not in (3, 4)])
    return 3 * joint + rng.randrange(2)


def missing_key(rng: random.Random, content: Content, k: int) -> str:
    key = rng.choice(["keypoints", "bbox", "bbox_head", "image_id", "id", "track_id", "category_id"])
    del content["annotations"][k][key]
    return f"no {key}"


def wrong_length(rng: random.Random, content: Content, k: int) -> str:
    key = rng.choice(["keypoints", "bbox", "bbox_head"])
    values = content["annotations"][k][key]
    if rng.random() < 0.5:
        del values[rng.randrange(len(values))]
    else:
        values.insert(rng.randrange(len(values)), 1.0)
    return f"{key} of {len(values)}"


def not_finite(rng: random.Random, content: Content, k: int) -> str:
    key = rng.choice(["keypoints", "bbox", "bbox_head"])
    values = content["annotations"][k][key]
    values[rng.randrange(len(values))] = value = rng.choice([math.nan, math.inf, -math.inf])
    return f"{value} in {key}"


def duplicate_id(rng: random.Random, content: Content, k: int) -> str:
    entries = content["annotations"]
    other = rng.choice([i for i in range(len(entries)) if i != k])
    entries[k]["id"] = entries[other]["id"]
    return f"id of annotation {other}"


def duplicate_track(rng: random.Random, content: Content, k: int) -> str:
    entries = content["annotations"]
    mates = [e for i, e in enumerate(entries) if i != k and e["image_id"] == entries[k]["image_id"]]
    entries[k]["track_id"] = rng.choice(mates)["track_id"]
    return "track_id of another in the frame"


def absent_image(rng: random.Random, content: Content, k: int) -> str:
    content["annotations"][k]["image_id"] = rng.choice([5, -1, 10**15, "10000000000", None, 1.5])
    return f"image_id {content['annotations'][k]['image_id']!r}"


def huge_coordinate(rng: random.Random, content: Content, k: int) -> str:
    entry = content["annotations"][k]
    value = rng.choice([-1, 1]) * 10.0 ** rng.uniform(2.5, 30)
    if rng.random() < 0.7:
        entry["keypoints"][_labelled(rng, entry)] = value
    else:
        entry["bbox"][rng.randrange(2)] = value
    return f"{value:g}"


def wrong_type(rng: random.Random, content: Content, k: int) -> str:
    entry = content["annotations"][k]
    key = rng.choice(["keypoints", "bbox", "bbox_head", "image_id", "id", "track_id", "category_id"])
    value = rng.choice(["x", "12", {"a": 1}, [[1, 2], [3]], True, {}])
    if isinstance(entry[key], list) and rng.random() < 0.5:
        at = _labelled(rng, entry) if key == "keypoints" else rng.randrange(4)
        entry[key][at] = value if value is not True else None
        return f"{key}[{at}] {entry[key][at]!r}"
    entry[key] = value
    return f"{key} {value!r}"


def not_an_object(rng: random.Random, content: Content, k: int) -> str:
    content["annotations"][k] = value = rng.choice([None, 3, "x", [1, 2], True])
    return f"{value!r} in its place"


def negative_box(rng: random.Random, content: Content, k: int) -> str:
    key = rng.choice(["bbox", "bbox_head"])
    content["annotations"][k][key][rng.choice([2, 3])] = -rng.uniform(1, 50)
    return f"negative side of {key}"


def empty_or_outside_box(rng: random.Random, content: Content, k: int) -> str:
    box = rng.choice([[200.0, 5.0, 10.0, 10.0], [5.0, 5.0, 0.0, 10.0], [-90.0, 3.0, 20.0, 20.0]])
    content["annotations"][k]["bbox"] = box
    return f"bbox {box}"


BREAKAGES: tuple[Callable[[random.Random, Content, int], str], ...] = (
    missing_key, wrong_length, not_finite, duplicate_id, duplicate_track, absent_image, huge_coordinate,
    wrong_type, not_an_object, negative_box, empty_or_outside_box,
)  # fmt: skip


def named(problems: list[str], file: Path, before: Content, k: int) -> bool:
    """Whether a line names the file and the annotation: by its position, or by image and track."""
    entry = before["annotations"][k]
    image = next(i["file_name"] for i in before["images"] if i["id"] == entry["image_id"])
    position, name = f"annotations[{k}]", f"image {image}, track_id {entry['track_id']}"
    return any(p.startswith(str(file)) and (position in p or name in p) for p in problems)


def attempt(rng: random.Random, root: Path, files: list[Path]) -> tuple[str, str, str]:
    """One breakage: (its name, what was done, ``found`` or what went wrong)."""
    file, how = rng.choice(files), rng.choice(BREAKAGES)
    text = file.read_text()
    content, before = json.loads(text), json.loads(text)
    k = rng.randrange(len(content["annotations"]))
    done = f"{file.name} annotations[{k}]: {how(rng, content, k)}"
    file.write_text(json.dumps(content, indent=0 if "\n" in text else None))
    try:
        problems = check_dataset(root).problems
    except Exception:
        return how.__name__, done, f"traceback: {traceback.format_exc(limit=-1).splitlines()[-1]}"
    finally:
        file.write_text(text)
    if not problems:
        return how.__name__, done, "not found"
    if any("\n" in problem for problem in problems):
        return how.__name__, done, "more than one line"
    if named(problems, file, before, k):
        located = [p for p in problems if re.match(rf"{re.escape(str(file))}:\d+:", p)]
        return how.__name__, done, "found with its line" if located else "found"
    return how.__name__, done, f"not named: {problems[0]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--annotations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    counts: dict[str, Counter[str]] = {how.__name__: Counter() for how in BREAKAGES}
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        files = make(root, options.annotations)
        assert not check_dataset(root).problems, "the whole data set must be without fault"
        start = time.perf_counter()
        for _ in range(options.runs):
            name, done, outcome = attempt(rng, root, files)
            good = outcome.startswith("found")
            counts[name][outcome if good else "failed"] += 1
            if not good:
                failures.append(f"{done}: {outcome}")
        took = time.perf_counter() - start
    print("| breakage | runs | found and named | with line | failed |\n| --- | --: | --: | --: | --: |")
    for name, counter in counts.items():
        lined, plain = counter["found with its line"], counter["found"]
        print(
            f"| {name.replace('_', ' ')} | {counter.total()} | {lined + plain} | {lined} "
            f"| {counter['failed']} |"
        )
    print(
        f"{options.runs} breakages, {options.annotations} annotations, {len(failures)} failures, {took:.0f} s"
    )
    for failure in failures[:20]:
        print(failure)


if __name__ == "__main__":
    main()
