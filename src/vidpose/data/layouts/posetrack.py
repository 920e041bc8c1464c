"""PoseTrack17, 18 and 21: a folder of JSON or .mat files, one per video, or a merged file per split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vidpose.data.dataset import Frame, PoseDataset, Video
from vidpose.data.faults import MAX_COORDINATE, Faults, Place, parse_numbers
from vidpose.data.layouts.disk import ImageFinder
from vidpose.data.layouts.people import JointOrder, people_by_image
from vidpose.data.layouts.posetrack17 import PLACE, posetrack18_document
from vidpose.data.layouts.posetrack17_mat import read_mat
from vidpose.errors import InputError
from vidpose.io.files import read_json
from vidpose.skeletons import POSETRACK15, POSETRACK18

NAMES = ("posetrack17", "posetrack18", "posetrack21")
_PLACES = ("posetrack_data/annotations/{}", "annotations/{}", "posetrack_data/{}", "{}")
_IMAGE_KEYS = {
    "id", "file_name", "height", "width", "is_labeled", "ignore_regions_x", "ignore_regions_y", PLACE,
}  # fmt: skip
_SUFFIXES = (".json", ".mat")


def list_splits(root: Path) -> list[str]:
    """Names of the splits that a folder holds annotations of."""
    data = root / "posetrack_data"
    for place in (data / "annotations", root / "annotations", data, root):
        folders = sorted(entry for entry in place.glob("*") if entry.is_dir() and _files(entry))
        found = [folder.name for folder in folders if folder != root / "annotations"]
        if not found and place == root / "annotations":
            found = [file.stem for file in _files(place)]  # one merged file per split
        if found:
            return found
    return []


def _files(folder: Path) -> list[Path]:
    """Annotation files, sorted by name; a .mat file only where there is no JSON of it."""
    files = {suffix: sorted(folder.glob(f"*{suffix}")) for suffix in _SUFFIXES}
    stems = {file.stem for file in files[".json"]}
    return sorted([*files[".json"], *(file for file in files[".mat"] if file.stem not in stems)])


def find_annotations(root: Path, split: str) -> list[Path]:
    """The annotation files of a split, sorted by name; an :class:`InputError` lists where it looked."""
    places = [root / place.format(split) for place in _PLACES]
    for place in places:
        files = _files(place) if place.is_dir() else []
        if files:
            return files
    for suffix in _SUFFIXES:
        for place in (root / "annotations" / f"{split}{suffix}", root / f"{split}{suffix}"):
            if place.is_file():
                return [place]
    looked = ", ".join(str(p.relative_to(root)) for p in places)
    raise InputError(f"{root}: no annotation file (*.json) for split {split!r}; looked in {looked}")


def read(root: Path, split: str, faults: Faults) -> PoseDataset:
    """One split, everything as the files have it, in 17 joints (the ears are placeholders)."""
    files = find_annotations(root, split)
    videos: list[Video] = []
    names = set()
    images = ImageFinder(root, faults)
    for file in files:
        content = _parse(file) if faults.strict else faults.at(file).attempt(_parse, file)
        if content is not None:
            names.add(_name(content))
            videos.extend(read_content(content, file, images, faults))
    if not videos:
        faults.at(files[0].parent).error("the annotation files hold no image")
    layout = names.pop() if len(names) == 1 else NAMES[1]
    return PoseDataset(videos, POSETRACK18, root, split, layout)


def _parse(file: Path) -> Any:
    return read_mat(file) if file.suffix == ".mat" else read_json(file)


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
    content = _parse(file)
    if isinstance(content, dict) and "annolist" in content:
        content = posetrack18_document(content, file, Faults())
        for entry in [*content["images"], *content["annotations"]]:
            del entry[PLACE]
    return content


def read_content(content: Any, file: Path, finder: ImageFinder, faults: Faults) -> list[Video]:
    """The videos of one parsed file: one in PoseTrack's own files, several in a merged one."""
    whole = faults.at(file)
    if isinstance(content, dict) and "annolist" in content:
        content = posetrack18_document(content, file, faults)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        hint = "; other labels become it by `vidpose data convert`" if isinstance(content, list) else ""
        whole.error(f"has no list 'images'; a PoseTrack18 file has images, annotations, categories{hint}")
        return []
    annotations = content.get("annotations", [])
    if not isinstance(annotations, list):
        whole.error("'annotations' is not a list")
        annotations = []
    images = index_images(content["images"], file, faults)
    people = people_by_image(annotations, images, _joint_order(content), file, faults)
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in images.values():
        groups[entry["file_name"].rpartition("/")[0]].append(entry)
    videos = []
    for folder, found in groups.items():
        entries = _without_copies(sorted(found, key=_time_key(found)), file, faults)
        names = [entry["file_name"] for entry in entries]
        before = [entry.get("original_file_name") for entry in entries]
        known = [name for name in before if isinstance(name, str)]
        originals = known if len(known) == len(entries) else None
        frames = []
        for index, (entry, path) in enumerate(
            zip(entries, finder.paths(names, file, originals), strict=True)
        ):
            mine = people.get(entry["id"], [])
            labeled = bool(entry.get("is_labeled", bool(mine)))
            if mine and not labeled:
                _place(faults, file, entry).remark(
                    f"{len(mine)} people are annotated although is_labeled is false: they are not used"
                )
            frames.append(
                Frame(
                    path=path,
                    file_name=entry["file_name"],
                    image_id=entry["id"],
                    index=index,
                    size=entry_size(entry),
                    is_labeled=labeled,
                    people=mine,
                    ignore_regions=_ignore_regions(entry, file, faults),
                    extra={key: value for key, value in entry.items() if key not in _IMAGE_KEYS},
                )
            )
        name = file.stem if len(groups) == 1 else PurePosixPath(folder).name
        videos.append(Video(name, frames, file))
    return videos


def _without_copies(entries: list[dict[str, Any]], file: Path, faults: Faults) -> list[dict[str, Any]]:
    """The frames without cut copies of their neighbours, such as 0012_crop.jpg beside 0012.jpg."""
    names = {entry["file_name"] for entry in entries}
    copies = {name for name in names if "_crop." in name and name.replace("_crop.", ".") in names}
    if copies:
        faults.assume(f"{file}: {len(copies)} frames called *_crop.* are copies of others and left out")
    return [entry for entry in entries if entry["file_name"] not in copies]


def _place(faults: Faults, file: Path, entry: dict[str, Any]) -> Place:
    """Where an entry of ``images`` stands: in the original of a converted one."""
    return faults.at(file, *entry[PLACE], note=f"image {entry['file_name']}")


def index_images(images: list[Any], file: Path, faults: Faults) -> dict[int, dict[str, Any]]:
    """Id -> entry of ``images``; what is wrong is told to ``faults``, and left out."""
    known: dict[int, dict[str, Any]] = {}
    for k, entry in enumerate(images):
        if not isinstance(entry, dict):
            faults.at(file, "images", k).error("is not an object")
            continue
        place = faults.at(file, *entry.setdefault(PLACE, ("images", k)))
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
        if not faults.strict:
            _odd_image(entry, place)
    return known


def _odd_image(entry: dict[str, Any], place: Place) -> None:
    sides = [entry.get(key) for key in ("height", "width")]
    if sides != [None, None] and entry_size(entry) == (0, 0):
        place.remark(f"height {sides[0]!r} and width {sides[1]!r} are not a picture's size")
    if entry.get("is_labeled", 0) not in (0, 1):
        place.remark(f"is_labeled {entry['is_labeled']!r} is neither true nor false")


def entry_size(entry: dict[str, Any]) -> tuple[int, int]:
    """(height, width) of an entry of ``images``; (0, 0) where it does not say."""
    height, width = entry.get("height"), entry.get("width")
    if not isinstance(height, (int, float)) or not isinstance(width, (int, float)):
        return 0, 0
    if not (1 <= height <= MAX_COORDINATE and 1 <= width <= MAX_COORDINATE):
        return 0, 0
    return int(height), int(width)


def _time_key(entries: list[dict[str, Any]]) -> Callable[[dict[str, Any]], Any]:
    """Order of time: frame_id where every image has its own, else the file name."""
    ids = [entry.get("frame_id") for entry in entries]
    if all(isinstance(i, int) for i in ids) and len(set(ids)) == len(ids):
        return lambda entry: entry["frame_id"]
    return lambda entry: entry["file_name"]


def _joint_order(content: dict[str, Any]) -> JointOrder:
    """The 17 joints by the names of the file's category, else in the usual order of 17 or 15 joints."""
    orders = {
        POSETRACK18.num_joints: list(range(POSETRACK18.num_joints)),
        POSETRACK15.num_joints: [POSETRACK15.index.get(joint, -1) for joint in POSETRACK18.joints],
    }
    names = category_joints(content)
    known = {name: i for i, name in enumerate(names)}
    if all(joint in known for joint in POSETRACK15.joints):
        own = [known.get(joint, -1) for joint in POSETRACK18.joints]
        orders |= {count: own for count in orders if max(own) < count}
    return JointOrder(orders, flagged=False)


def category_joints(content: dict[str, Any]) -> list[str]:
    """Names of the joints by the first category that has them."""
    categories = content.get("categories")
    for category in categories if isinstance(categories, list) else []:
        names = category.get("keypoints") if isinstance(category, dict) else None
        if isinstance(names, list):
            return [str(name) for name in names]
    return []


def _ignore_regions(entry: dict[str, Any], file: Path, faults: Faults) -> list[np.ndarray]:
    xs, ys = entry.get("ignore_regions_x"), entry.get("ignore_regions_y")
    if not xs and not ys:
        return []
    return _place(faults, file, entry).attempt(_polygons, xs, ys) or []


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
