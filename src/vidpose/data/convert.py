"""Between PoseTrack17/18/21, COCO, CVAT, Label Studio, MOT, CSV, DeepLabCut and SLEAP, without losing a field
that both know."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from vidpose.data.dataset import Frame, PoseDataset, Video
from vidpose.data.layouts import (
    csv_table,
    deeplabcut,
    mot,
    sleap,
    write_cvat,
    write_hieve,
    write_label_studio,
    write_posetrack,
)
from vidpose.data.layouts.disk import image_size
from vidpose.data.layouts.fields import (
    EXPORTS,
    HOLDS,
    NATIVE,
    Ledger,
    restrict,
    target_skeleton,
    with_joints,
)
from vidpose.data.layouts.recognise import read_labels
from vidpose.data.layouts.write_coco import coco_document
from vidpose.errors import InputError
from vidpose.io.files import atomic_path, check_writable, temporary_folder
from vidpose.progress import track
from vidpose.skeletons import SKELETONS

FORMATS = tuple(name for name in HOLDS if name not in EXPORTS)
"""What can be written and read again."""
IMAGES = ("keep", "copy", "link")
_SUFFIXES = {
    "cvat": ".xml", "mot": ".txt", "csv": ".csv", "deeplabcut": ".csv", "sleap": ".h5", "hieve": ".zip",
}  # fmt: skip
_BY_VIDEO = ("posetrack17", "posetrack18", "posetrack21", "cvat", "mot", "sleap")
_NEED_SIZE = ("cvat", "labelstudio", "mot")
Files = Iterator[tuple[str, Callable[[Path], None]]]


def file_suffix(format: str) -> str:
    """How a file of a format ends, as ``.json``."""
    return _SUFFIXES.get(format, ".json")


@dataclass
class ConvertReport:
    """What :func:`convert` did."""

    source: str
    out: str
    source_format: str
    target: str
    splits: list[str]
    videos: int
    frames: int
    people: int
    joints: str
    """Name of the joint set that was written."""
    dropped: dict[str, int] = field(default_factory=dict)
    """What the target cannot hold, and how many of it."""
    made: dict[str, int] = field(default_factory=dict)
    """What the target demands and the source has not."""
    remarks: list[str] = field(default_factory=list)
    """What the reader left out of the source."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        splits = ", ".join(self.splits)
        lines = [
            f"{self.out}: {self.target} from {self.source_format}, {self.videos} videos, "
            f"{self.frames} frames, {self.people} people in {splits}"
        ]
        lines += [f"left out: {remark}" for remark in self.remarks]
        lines += [f"dropped: {count} {name}" for name, count in self.dropped.items()]
        lines += [f"made: {count} {name}" for name, count in self.made.items()]
        return "\n".join(lines)


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    to: str,
    *,
    source_format: str = "auto",
    split: str | None = None,
    images: str = "keep",
    joints: str | None = None,
    approximate: bool = False,
    quiet: bool = True,
) -> ConvertReport:
    """Writes labels in another format; ``out`` appears whole or not at all.

    Args:
        source: a data set's folder, or one file of labels or of estimated poses.
        out: a new or empty folder; with a suffix (``.json``, ``.xml``, ``.csv``, ``.txt``, ``.h5``) one
            file.
        to: one of :data:`FORMATS`, or ``hieve``: predictions for that data set's test server.
        source_format: ``auto``, or a name of :func:`vidpose.data.layouts.recognise.formats`.
        split: of a folder: this one only; of a file: the split's name.
        images: ``keep``: the labels name the images where they are; ``copy`` or ``link``: images are put into
            ``out`` as well, links being symbolic.
        joints: name of a joint set for COCO, CVAT, Label Studio, CSV, DeepLabCut and SLEAP; ``None``: COCO's
            17 for COCO, else those of the source.
        approximate: joints that the source lacks are made from others
            (:func:`vidpose.skeletons.convert_keypoints`), and counted.

    Raises:
        InputError: wrong options, a source that is not recognised or broken, or an ``out`` that is taken.
    """
    target = Path(out)
    _check_options(target, to, images, joints)
    labels = read_labels(Path(source), source_format, split)
    written, ledger = write_labels(
        labels.splits, target, to, images=images, joints=joints, approximate=approximate, quiet=quiet
    )
    frames = [frame for data in written for _, frame in data.frames()]
    return ConvertReport(
        source=str(source),
        out=str(out),
        source_format=labels.format,
        target=to,
        splits=[data.split for data in written],
        videos=sum(len(data.videos) for data in written),
        frames=len(frames),
        people=sum(len(frame.people) for frame in frames),
        joints=written[0].skeleton.name,
        dropped={name: count for name, count in ledger.dropped.items() if count},
        made={name: count for name, count in ledger.made.items() if count},
        remarks=labels.remarks,
    )


def write_labels(
    splits: Sequence[PoseDataset],
    out: str | os.PathLike[str],
    to: str,
    *,
    images: str = "keep",
    joints: str | None = None,
    approximate: bool = False,
    quiet: bool = True,
) -> tuple[list[PoseDataset], Ledger]:
    """Writes splits in memory, as :func:`convert`; returns them as written, and what was lost and made."""
    target = Path(out)
    _check_options(target, to, images, joints)
    ledger = Ledger()
    chosen = SKELETONS[joints] if joints is not None else None
    written = []
    for data in splits:
        sized = _with_sizes(data) if to in _NEED_SIZE else data
        posed = with_joints(sized, target_skeleton(data, to, chosen), ledger, approximate=approximate)
        written.append(_with_names(_with_ids(restrict(posed, to, ledger), to, ledger), images, to, ledger))
    if target.suffix:
        if to == "deeplabcut":
            ledger.dropped["videos' bounds"] += sum(map(deeplabcut.count_merged, written))
        _write_file(written, target, to)
    else:
        _write_folder(written, target, to, images, quiet)
    return written, ledger


def _check_options(out: Path, to: str, images: str, joints: str | None) -> None:
    if to not in HOLDS:
        raise InputError(f"--to {to!r} is unknown; known: {', '.join(HOLDS)}")
    if to in EXPORTS and not out.suffix:
        raise InputError(f"{out}: {to} is a file for its test server; name one that ends in {_SUFFIXES[to]}")
    if images not in IMAGES:
        raise InputError(f"--images {images!r} is unknown; known: {', '.join(IMAGES)}")
    if joints is not None and joints not in SKELETONS:
        raise InputError(f"--joints {joints!r} is unknown; known: {', '.join(SKELETONS)}")
    if joints is not None and (to == "mot" or (to in NATIVE and to != "coco" and joints != NATIVE[to].name)):
        what = "has no joints" if to == "mot" else f"has the joints {NATIVE[to].name}"
        raise InputError(f"--joints {joints}: {to} {what}")
    if out.suffix:
        suffix = file_suffix(to)
        if out.suffix.lower() != suffix:
            raise InputError(f"{out}: a file of {to} ends in {suffix}; without a suffix it is a folder")
        if images != "keep":
            raise InputError(f"{out}: is one file; --images {images} needs a folder")
        if out.exists():
            raise InputError(f"{out}: is there already; name a new file")
        check_writable(out.parent)
    else:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out}: is there already and not an empty folder; name a new one")
        check_writable(out.absolute().parent)


# --- what a target demands ---------------------------------------------------------------------------------


def _with_sizes(data: PoseDataset) -> PoseDataset:
    """Sizes that the labels lack, from the images that are there."""

    def sized(frame: Frame) -> Frame:
        known = 0 not in frame.size or frame.video_frame is not None
        return frame if known else replace(frame, size=image_size(frame.path))

    return replace(data, videos=[replace(v, frames=[sized(f) for f in v.frames]) for v in data.videos])


def _with_ids(data: PoseDataset, to: str, ledger: Ledger) -> PoseDataset:
    """Ids of images and people in the target's form."""
    if to in ("posetrack18", "posetrack21"):
        ids = write_posetrack.image_ids(data.videos)
        for video, mine in zip(data.videos, ids, strict=True):
            for frame, number in zip(video.frames, mine, strict=True):
                if frame.image_id != number:
                    ledger.made["image ids of PoseTrack18's form"] += 1
    if to == "posetrack21":
        _number_people(data, ledger)
    if to == "mot":
        ledger.made["frame rates of 25 per second"] += sum(video.fps is None for video in data.videos)
    return data


def _number_people(data: PoseDataset, ledger: Ledger) -> None:
    """A person id for everybody; the people here are already copies."""
    everyone = [(v, p) for v, video in enumerate(data.videos) for f in video.frames for p in f.people]
    known = {(v, p.track_id): p.person_id for v, p in everyone if p.person_id is not None}
    free = max((number for number in known.values()), default=-1) + 1
    for v, person in everyone:
        if person.person_id is None:
            # silent: nobody says who is who across videos; each track is somebody new.
            if (v, person.track_id) not in known:
                known[v, person.track_id] = free
                free += 1
            person.person_id = known[v, person.track_id]
            ledger.made["person ids, one for each track"] += 1


def _with_names(data: PoseDataset, images: str, to: str, ledger: Ledger) -> PoseDataset:
    """Image names that lie within the target's folder and are each used once; names of videos likewise."""
    names = _unique([_safe(video.name) for video in data.videos])
    taken: set[str] = set()
    videos = []
    for video, name in zip(data.videos, names, strict=True):
        own = [frame.file_name for frame in video.frames]
        unique = len(set(own)) == len(own) and not taken & set(own)
        one_folder = to not in NATIVE or to == "coco" or len({n.rpartition("/")[0] for n in own}) <= 1
        fits = deeplabcut.is_in_project if to == "deeplabcut" else _is_within
        usable = images == "keep" or all(fits(n) for n in own)
        taken |= set(own)
        if unique and one_folder and usable:
            videos.append(video)
            continue
        frames = []
        for frame in video.frames:
            suffix = ".jpg" if frame.video_frame is not None else PurePosixPath(frame.file_name).suffix
            folder = deeplabcut.FOLDER if to == "deeplabcut" else f"images/{data.split}"
            new = f"{folder}/{name}/{frame.index:06d}{suffix or '.jpg'}"
            ledger.made["image names"] += 1
            frames.append(replace(frame, file_name=new))
        videos.append(replace(video, frames=frames))
    return replace(data, videos=videos)


def _is_within(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and bool(path.parts)


def _safe(name: str) -> str:
    """A video's name as that of a file."""
    clean = re.sub(r"[/\\:\0\n\r]", "_", name).strip()
    return (
        clean.encode()[:200].decode(errors="ignore")
        if clean.strip(".")
        else "video" + clean.replace(".", "_")
    )


def _unique(names: list[str]) -> list[str]:
    """The same names, with a number behind those that come again."""
    out: list[str] = []
    taken = {name.lower() for name in names}
    seen: set[str] = set()
    for name in names:
        new, number = name, 2
        while new.lower() in seen or (new != name and new.lower() in taken):
            new, number = f"{name}_{number}", number + 1
        seen.add(new.lower())
        out.append(new)
    return out


# --- writing -----------------------------------------------------------------------------------------------


def _contents(data: PoseDataset, to: str) -> Files:
    """(path within the target's folder, what writes that file) of one split."""
    names = _unique([_safe(video.name) for video in data.videos])
    if to in ("posetrack18", "posetrack21"):
        ids = write_posetrack.image_ids(data.videos)
        people = write_posetrack.annotation_ids(data.videos, ids)
        for name, video, mine, numbers in zip(names, data.videos, ids, people, strict=True):
            document = write_posetrack.posetrack18_document(video, mine, numbers, is_21=to == "posetrack21")
            yield f"annotations/{data.split}/{name}.json", _json(document)
    elif to == "coco":
        yield f"annotations/person_keypoints_{data.split}.json", _json(coco_document(data))
    elif to == "labelstudio":
        yield f"annotations/{data.split}.json", _json(list(write_label_studio.tasks(data)))
    elif to == "csv":
        yield f"annotations/{data.split}.csv", _table(csv_table.rows(data))
    elif to == "deeplabcut":
        for path, rows in deeplabcut.files(data, names):
            yield f"{data.split}/{path}", _table(rows)
    for name, video in zip(names, data.videos, strict=True):
        if to == "posetrack17":
            document = write_posetrack.posetrack17_document(video)
            yield f"annotations/{data.split}/{name}.json", _json(document)
        elif to == "cvat":
            lines = write_cvat.cvat_document(video, data.skeleton)
            yield f"annotations/{data.split}/{name}.xml", _text("".join(f"{line}\n" for line in lines))
        elif to == "sleap":
            yield f"{data.split}/{name}{sleap.SUFFIX}", _analysis(video, data)
        elif to == "mot":
            for path, text in mot.sequence_files(video).items():
                yield f"{data.split}/{name}/{path}", _text(text)


def _json(value: Any) -> Callable[[Path], None]:
    try:
        return _text(json.dumps(value, allow_nan=False, ensure_ascii=False))
    except ValueError:
        raise InputError(f"{_not_finite(value)} is not finite: JSON cannot hold it") from None


def _not_finite(value: Any, where: str = "labels") -> str | None:
    """Where the first number lies that is not finite, as ``labels.images[3].note``."""
    parts: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        parts = ((f"{where}.{key}", part) for key, part in value.items())
    elif isinstance(value, list):
        parts = ((f"{where}[{k}]", part) for k, part in enumerate(value))
    elif isinstance(value, float) and not math.isfinite(value):
        return where
    return next((found for name, part in parts if (found := _not_finite(part, name))), None)


def _text(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(text.encode())

    return write


def _table(rows: Iterator[list[Any]]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)

    return write


def _analysis(video: Video, data: PoseDataset) -> Callable[[Path], None]:
    return lambda path: sleap.write_file(video, data.skeleton, path)


def _write_file(splits: list[PoseDataset], out: Path, to: str) -> None:
    videos = sum(len(data.videos) for data in splits)
    if len(splits) > 1:
        raise InputError(f"{out}: there are {len(splits)} splits; choose one with --split, or name a folder")
    if to == "hieve":
        with atomic_path(out) as temporary:
            write_hieve.write_submission(splits[0], temporary)
        return
    if to in _BY_VIDEO and videos != 1:
        raise InputError(f"{out}: a file of {to} is one video, here are {videos}; name a folder")
    files = [(path, write) for path, write in _contents(splits[0], to) if not path.endswith(".ini")]
    if to == "deeplabcut":
        files = [("", _table(deeplabcut.whole(splits[0])))]
    with atomic_path(out) as temporary:
        files[0][1](temporary)


def _write_folder(splits: list[PoseDataset], out: Path, to: str, images: str, quiet: bool) -> None:
    with _new_folder(out) as folder:
        for data in splits:
            for path, write in _contents(data, to):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                write(folder / path)
            if images != "keep":
                _place_images(data, folder, to, images, quiet)
        if to == "labelstudio":
            config = write_label_studio.config(splits[0].skeleton)
            (folder / "labeling_config.xml").write_text(config, encoding="utf-8")


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that takes its place when the block ends without an error."""
    target = out.absolute()
    try:
        with temporary_folder(target) as temporary:
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o777 & ~umask)
            os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror or error}") from error


# --- images ------------------------------------------------------------------------------------------------


def _place_images(data: PoseDataset, folder: Path, to: str, how: str, quiet: bool) -> None:
    names = _unique([_safe(video.name) for video in data.videos])
    for video, name in zip(
        track(data.videos, f"images of {data.split}", unit="video", quiet=quiet), names, strict=True
    ):
        places = []
        for frame in video.frames:
            in_sequence = f"{data.split}/{name}/{mot.IMAGES}/{mot.image_name(frame)}"
            within = f"{data.split}/{frame.file_name}" if to == "deeplabcut" else frame.file_name
            places.append(folder / (in_sequence if to == "mot" else within))
        if any(frame.video_frame is not None for frame in video.frames):
            _extract(video, places, how)
            continue
        for frame, path in zip(video.frames, places, strict=True):
            if not frame.path.is_file():
                raise InputError(f"{frame.path}: no such image; --images keep converts the labels alone")
            path.parent.mkdir(parents=True, exist_ok=True)
            if how == "link":
                path.symlink_to(frame.path.resolve())
            else:
                shutil.copyfile(frame.path, path)


def _extract(video: Video, places: list[Path], how: str) -> None:
    """Decodes the frames of a video file, in one pass."""
    import cv2

    from vidpose.io.video import open_video

    source = video.frames[0].path
    if how == "link":
        raise InputError(f"{source}: frames within a video file cannot be linked; use --images copy")
    if not source.is_file():
        raise InputError(f"{source}: no such video; --images keep converts the labels alone")
    wanted = {frame.video_frame: path for frame, path in zip(video.frames, places, strict=True)}
    with open_video(str(source)) as reader:
        for picture in reader:
            path = wanted.pop(picture.index, None)
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), cv2.cvtColor(picture.image, cv2.COLOR_RGB2BGR))
            if not wanted:
                return
    raise InputError(f"{source}: has no frame {min(k for k in wanted if k is not None)}")
