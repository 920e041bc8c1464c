"""PoseTrack17, 18 and 21: a folder of JSON files, one per video, or a merged one per split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.faults import MAX_COORDINATE, Faults, Place, parse_box, parse_numbers, parse_whole
from vidpose.data.layouts.posetrack17 import PLACE, posetrack18_document
from vidpose.errors import InputError
from vidpose.geometry import enclosing_box
from vidpose.io.files import read_json
from vidpose.skeletons import POSETRACK15, POSETRACK18

NAMES = ("posetrack17", "posetrack18", "posetrack21")
_PLACES = ("posetrack_data/annotations/{}", "annotations/{}", "posetrack_data/{}", "{}")
_IMAGE_KEYS = {
    "id", "file_name", "height", "width", "is_labeled", "ignore_regions_x", "ignore_regions_y", PLACE,
}  # fmt: skip
_PERSON_KEYS = {
    "id", "image_id", "category_id", "keypoints", "bbox", "bbox_head", "track_id", "person_id", "scores",
    "score", "iscrowd", PLACE,
}  # fmt: skip


def list_splits(root: Path) -> list[str]:
    """Names of the splits that a folder holds annotations of."""
    data = root / "posetrack_data"
    for place in (data / "annotations", root / "annotations", data, root):
        folders = sorted(entry for entry in place.glob("*") if next(entry.glob("*.json"), None) is not None)
        found = [folder.name for folder in folders if folder != root / "annotations"]
        if not found and place == root / "annotations":
            found = sorted(file.stem for file in place.glob("*.json"))  # one merged file per split
        if found:
            return found
    return []


def find_annotations(root: Path, split: str) -> list[Path]:
    """The annotation files of a split, sorted by name; an :class:`InputError` lists where it looked."""
    places = [root / place.format(split) for place in _PLACES]
    for place in places:
        files = sorted(place.glob("*.json")) if place.is_dir() else []
        if files:
            return files
    for place in (root / "annotations" / f"{split}.json", root / f"{split}.json"):
        if place.is_file():
            return [place]
    looked = ", ".join(str(p.relative_to(root)) for p in places)
    raise InputError(f"{root}: no annotation file (*.json) for split {split!r}; looked in {looked}")


def read(root: Path, split: str, faults: Faults) -> PoseDataset:
    """One split, everything as the files have it, in 17 joints (the ears are placeholders)."""
    files = find_annotations(root, split)
    videos: list[Video] = []
    names = set()
    for file in files:
        content = faults.at(file).attempt(read_json, file) if not faults.strict else read_json(file)
        if content is not None:
            names.add(_name(content))
            videos.extend(read_content(content, file, root, faults))
    if not videos:
        faults.at(files[0].parent).error("the annotation files hold no image")
    layout = names.pop() if len(names) == 1 else NAMES[1]
    return PoseDataset(videos, POSETRACK18, root, split, layout)


def _name(content: Any) -> str:
    """Which of the three a file belongs to, as far as it shows."""
    if not isinstance(content, dict) or "annolist" in content:
        return NAMES[0]
    images, people = content.get("images"), content.get("annotations")
    for entries, key in ((images, "has_labeled_person"), (people, "person_id")):
        if isinstance(entries, list) and any(isinstance(e, dict) and key in e for e in entries):
            return NAMES[2]
    return NAMES[1]


def read_document(file: Path) -> Any:
    """A parsed annotation file; one of PoseTrack17 is brought into PoseTrack18's layout."""
    content = read_json(file)
    if isinstance(content, dict) and "annolist" in content:
        content = posetrack18_document(content, file, Faults())
        for entry in [*content["images"], *content["annotations"]]:
            del entry[PLACE]
    return content


def read_content(content: Any, file: Path, root: Path, faults: Faults) -> list[Video]:
    """The videos of one parsed file: one in PoseTrack's own files, several in a merged one."""
    whole = faults.at(file)
    if isinstance(content, dict) and "annolist" in content:
        content = posetrack18_document(content, file, faults)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        whole.error("has no list 'images'; a PoseTrack18 file has images, annotations, categories")
        return []
    annotations = content.get("annotations", [])
    if not isinstance(annotations, list):
        whole.error("'annotations' is not a list")
        annotations = []
    images = _index_images(content["images"], file, faults)
    joints = _joint_order(content)
    people = _people_by_image(annotations, images, joints, file, faults)
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in images.values():
        groups[str(PurePosixPath(entry["file_name"]).parent)].append(entry)
    base = image_base(root, file, [entry["file_name"] for entry in images.values()])
    videos = []
    for folder, entries in groups.items():
        frames = []
        for index, entry in enumerate(sorted(entries, key=_time_key(entries))):
            mine = people.get(entry["id"], [])
            place = _place(faults, file, "images", entry)
            labeled = bool(entry.get("is_labeled", bool(mine)))
            if mine and not labeled:
                place.remark(
                    f"{len(mine)} people are annotated although is_labeled is false: they are not used"
                )
            frames.append(
                Frame(
                    path=base / entry["file_name"],
                    file_name=entry["file_name"],
                    image_id=entry["id"],
                    index=index,
                    size=image_size(entry),
                    is_labeled=labeled,
                    people=mine,
                    ignore_regions=_ignore_regions(entry, place),
                    extra={key: value for key, value in entry.items() if key not in _IMAGE_KEYS},
                )
            )
        name = file.stem if len(groups) == 1 else PurePosixPath(folder).name
        videos.append(Video(name, frames, file))
    return videos


def _place(faults: Faults, file: Path, group: str, entry: dict[str, Any], number: int | None = None) -> Place:
    """Where an entry stands: in the original of a converted one."""
    keys = entry.get(PLACE) or ((group, number) if number is not None else ())
    name = entry.get("file_name")
    return faults.at(file, *keys, note=f"image {name}" if isinstance(name, str) else "")


def _index_images(images: list[Any], file: Path, faults: Faults) -> dict[int, dict[str, Any]]:
    known: dict[int, dict[str, Any]] = {}
    for k, entry in enumerate(images):
        if not isinstance(entry, dict):
            faults.at(file, "images", k).error("is not an object")
            continue
        place = faults.at(file, *entry.get(PLACE, ("images", k)))
        before = faults.errors
        for key, kind in (("id", int), ("file_name", str)):
            if not isinstance(entry.get(key), kind) or isinstance(entry.get(key), bool):
                place.error(f"{key} is missing or not {'a number' if kind is int else 'text'}")
        if faults.errors > before:
            continue
        if entry["id"] in known:
            place.error(f"id {entry['id']} is used twice")
            continue
        known[entry["id"]] = entry
    return known


def image_size(entry: dict[str, Any]) -> tuple[int, int]:
    """(height, width) of an entry of ``images``; (0, 0) where it does not say."""
    sides = [entry.get("height"), entry.get("width")]
    if not all(isinstance(s, (int, float)) and 1 <= s <= MAX_COORDINATE for s in sides):
        return 0, 0
    return int(sides[0]), int(sides[1])  # type: ignore[arg-type]


def _time_key(entries: list[dict[str, Any]]) -> Callable[[dict[str, Any]], Any]:
    """Order of time: frame_id where every image has its own, else the file name."""
    ids = [entry.get("frame_id") for entry in entries]
    if all(isinstance(i, int) for i in ids) and len(set(ids)) == len(ids):
        return lambda entry: entry["frame_id"]
    return lambda entry: entry["file_name"]


def _joint_order(content: dict[str, Any]) -> list[int] | None:
    """Positions of the 17 joints in the file's keypoints, from its category, -1 for one that it lacks;
    ``None``: by the usual order."""
    categories = content.get("categories")
    if not isinstance(categories, list) or not categories or not isinstance(categories[0], dict):
        return None
    names = categories[0].get("keypoints")
    if not isinstance(names, list):
        return None
    known = {str(name): i for i, name in enumerate(names)}
    if all(joint in known for joint in POSETRACK15.joints):
        return [known.get(joint, -1) for joint in POSETRACK18.joints]
    return None


# --- people ----------------------------------------------------------------------------------------------


def _people_by_image(
    annotations: list[Any],
    images: dict[int, dict[str, Any]],
    joints: list[int] | None,
    file: Path,
    faults: Faults,
) -> dict[int, list[Person]]:
    people: dict[Any, list[Person]] = defaultdict(list)
    seen: set[Any] = set()
    for k, annotation in enumerate(annotations):
        if not isinstance(annotation, dict):
            faults.at(file, "annotations", k).error("is not an object")
            continue
        image_id, number = annotation.get("image_id"), annotation.get("id")
        odd = [key for key in ("image_id", "id") if isinstance(annotation.get(key), (list, dict))]
        image = images.get(image_id) if not odd else None  # type: ignore[arg-type]
        note = PurePosixPath(image["file_name"]).name if image is not None else ""
        place = faults.at(file, *annotation.get(PLACE, ("annotations", k)), note=note)
        before = faults.errors
        for key in odd:
            place.error(f"{key} is not a number")
        if not odd:
            if image is None:
                place.error(f"image_id {image_id!r} is not among the images")
            if number is not None and number in seen:
                place.error(f"id {number} is used twice")
            seen.add(number)
        person = read_person(annotation, place, joints, len(people[image_id]) if image is not None else 0)
        if person is None or faults.errors > before:
            continue
        others = people[image_id]
        if not person.is_crowd and any(
            other.track_id == person.track_id for other in others if not other.is_crowd
        ):
            place.error(f"track_id {person.track_id} is used twice in one frame")
            continue
        others.append(person)
    return people


def read_person(
    annotation: dict[str, Any], place: Place, joints: list[int] | None, position: int
) -> Person | None:
    """One annotation; ``None`` where a fault was found in it.

    Args:
        position: track id of a person without one.
    """
    before = place.faults.errors
    keypoints = place.attempt(parse_keypoints, annotation.get("keypoints", []), joints)
    box = place.attempt(parse_box, annotation.get("bbox"), "bbox")
    head = place.attempt(parse_box, annotation.get("bbox_head"), "bbox_head")
    track_id = place.attempt(parse_whole, annotation.get("track_id", position), "track_id")
    person_id = annotation.get("person_id")
    if person_id is not None:
        person_id = place.attempt(parse_whole, person_id, "person_id")
    scores = place.attempt(_joint_scores, annotation.get("scores"), joints)
    score = annotation.get("score")
    if score is not None:
        numbers = place.attempt(parse_numbers, score, "score", 1)
        score = float(numbers[0]) if numbers is not None else None
    if place.faults.errors > before or keypoints is None or track_id is None:
        return None
    points, visible = keypoints
    given = box is not None
    if box is None:
        # silent: the public conversion of PoseTrack17 takes 1.3 times the extent of the joints.
        box = enclosing_box(points[:, :2], points[:, 2] > 0, margin=0.15)
    return Person(
        keypoints=points,
        box_xyxy=np.zeros(4) if box is None else box,
        head_box_xyxy=head,
        track_id=track_id,
        visible=visible,
        box_is_given=given,
        is_crowd=bool(annotation.get("iscrowd")),
        person_id=person_id,
        score=score,
        joint_scores=scores,
        extra={key: value for key, value in annotation.items() if key not in _PERSON_KEYS},
    )


_POSITIONS = {
    POSETRACK18.num_joints: list(range(POSETRACK18.num_joints)),
    POSETRACK15.num_joints: [POSETRACK15.index.get(joint, -1) for joint in POSETRACK18.joints],
}


def _ordered(values: np.ndarray, joints: list[int] | None) -> np.ndarray:
    """Rows in PoseTrack18's order; zeros for a joint that the file lacks."""
    order = joints if joints is not None and max(joints) < len(values) else _POSITIONS[len(values)]
    return np.stack([values[i] if i >= 0 else np.zeros_like(values[0]) for i in order])


def parse_keypoints(values: Any, joints: list[int] | None) -> tuple[np.ndarray, np.ndarray]:
    """[17, 3] with 1 where labelled, and [17] visible."""
    numbers = parse_numbers(values, "keypoints")
    count = POSETRACK18.num_joints
    if len(numbers) == 0:
        return np.zeros((count, 3)), np.zeros(count, dtype=bool)
    if len(numbers) % 3 or len(numbers) // 3 not in _POSITIONS:
        raise InputError(f"keypoints has {len(numbers)} numbers; 17 joints need 51, 15 joints need 45")
    triples = _ordered(numbers.reshape(-1, 3), joints)
    # The official evaluation counts a joint as annotated unless all three numbers are 0.
    labelled = (triples != 0).any(axis=1)
    visible = labelled & (triples[:, 2] > 0)
    triples[:, 2] = labelled
    return triples, visible


def _joint_scores(values: Any, joints: list[int] | None) -> np.ndarray | None:
    if values is None or (isinstance(values, list) and not values):
        return None
    numbers = parse_numbers(values, "scores")
    if len(numbers) not in _POSITIONS:
        raise InputError(f"scores has {len(numbers)} numbers, one for each joint is needed")
    return _ordered(numbers[:, None], joints)[:, 0]


def _ignore_regions(entry: dict[str, Any], place: Place) -> list[np.ndarray]:
    return place.attempt(_polygons, entry.get("ignore_regions_x"), entry.get("ignore_regions_y")) or []


def _polygons(xs: Any, ys: Any) -> list[np.ndarray]:
    xs, ys = xs or [], ys or []
    if not isinstance(xs, list) or not isinstance(ys, list):
        raise InputError("ignore_regions_x and ignore_regions_y must be lists of lists")
    if len(xs) != len(ys):
        raise InputError(f"ignore_regions_x has {len(xs)} regions, ignore_regions_y {len(ys)}")
    regions = []
    for x, y in zip(xs, ys, strict=True):
        px, py = parse_numbers(x, "ignore_regions_x"), parse_numbers(y, "ignore_regions_y")
        if len(px) != len(py):
            raise InputError(f"an ignore region has {len(px)} x and {len(py)} y")
        regions.append(np.stack([px, py], axis=-1))
    return regions


def image_base(root: Path, file: Path, names: list[str]) -> Path:
    """The folder that the file's image names are relative to; ``root`` where no image is found at all."""
    candidates = [root, root / "posetrack_data", root / "images", root.parent, *list(file.parents)[:4]]
    for name in names[:3] + names[len(names) // 2 : len(names) // 2 + 2]:
        for base in candidates:
            if (base / name).is_file():
                return base
    return root
