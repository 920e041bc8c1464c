"""SLEAP's analysis HDF5: a file for each video, dense arrays of all its frames.

``tracks`` holds x, y of each joint of each track in each frame, NaN where there is none; ``point_scores``,
``instance_scores`` and ``tracking_scores`` go with it, NaN where a person and not a network placed the
joints. Beside SLEAP's own data sets we write one, ``vidpose``: JSON with the frames' names, ids and sizes,
which SLEAP passes over.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.faults import MAX_COORDINATE, Faults, check_frame, parse_numbers, parse_whole
from vidpose.data.layouts.disk import IMAGE_SUFFIXES, ImageFinder, find_video, video_size
from vidpose.data.layouts.shared import (
    TRACK_NAME,
    joint_name,
    joint_set,
    make_person,
    plain,
    track_ids,
    track_names,
)
from vidpose.errors import InputError, MissingExtraError
from vidpose.skeletons import Skeleton

SUFFIX = ".analysis.h5"
TRACK = "track_"
TRACKING_SCORE = "tracking_score"
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_OWN = "vidpose"
_AXES = ("frame", "track", "node", "xy")
"""The order that arrays have here."""
_MATLAB = ("track", "xy", "node", "frame")
_ORDERS = (_MATLAB, _AXES, ("frame", "node", "xy", "track"))
"""Orders in files: SLEAP's own, which MATLAB sees reversed; sleap-io's ``standard``, and one that it had
before."""

# silent: the file does not say where a pixel's centre is. SLEAP since 1.0.9 has the centre of the first pixel
# at (0, 0), as here; files of older versions, half a pixel off, cannot be told from others.


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise MissingExtraError("SLEAP's analysis HDF5", "sleap") from None
    return h5py


# --- writing -----------------------------------------------------------------------------------------------


def write_file(video: Video, skeleton: Skeleton, path: Path) -> None:
    """One video; the axis of frames counts those of the video file, or else of the images."""
    h5py = _h5py()
    is_film = _is_film(video)
    place = {i: frame.video_frame or 0 if is_film else i for i, frame in enumerate(video.frames)}
    names = track_names([video], TRACK)
    order = {track: t for t, track in enumerate(names)}
    count = max(place.values(), default=-1) + 1
    own: list[Any] = [None] * count
    shape = (count, len(names), skeleton.num_joints)
    arrays = {"tracks": np.full((*shape, 2), np.nan), "point_scores": np.full(shape, np.nan)}
    arrays |= {name: np.full(shape[:2], np.nan) for name in ("instance_scores", "tracking_scores")}
    for i, frame in enumerate(video.frames):
        own[place[i]] = [frame.file_name, frame.image_id, *frame.size]
        for person in frame.people:
            _fill(arrays, place[i], order[person.track_id], person)
    occupancy = (~np.isnan(arrays["tracks"])).any(axis=(2, 3)).astype(np.uint8)
    about = {"name": video.name, "fps": video.fps, "is_film": is_film, "frames": own}
    try:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                _put(file, name, values, _MATLAB)
            # As in SLEAP, the one array with the frames first.
            _put(file, "track_occupancy", occupancy, _AXES)
            file["track_names"] = _bytes(names.values())
            file["node_names"] = _bytes(skeleton.joints)
            file["edge_names"] = _bytes(name for limb in skeleton.limb_names for name in limb).reshape(-1, 2)
            file["edge_inds"] = np.array(skeleton.limbs, dtype=np.int32).reshape(-1, 2)
            file["video_path"] = _video_path(video, is_film)
            file["video_ind"] = np.int32(0)
            file["labels_path"] = ""
            file["provenance"] = json.dumps({"source": "vidpose"})
            file[_OWN] = json.dumps(about, allow_nan=False)
            file.attrs.update({"preset": "matlab", "format": "analysis"})
    except (OSError, ValueError) as error:  # a name that HDF5 does not take, say
        raise InputError(f"{video.name}: cannot be written as HDF5: {error}") from None


def _bytes(names: Iterable[str]) -> np.ndarray:
    encoded = [name.encode() for name in names]
    return np.array(encoded, dtype=f"S{max(map(len, encoded), default=1)}")


def _is_film(video: Video) -> bool:
    """Whether the frames are those of one video file."""
    numbers = {frame.video_frame for frame in video.frames}
    return (
        None not in numbers and len(numbers) == len(video.frames) and len({f.path for f in video.frames}) == 1
    )


def _video_path(video: Video, is_film: bool) -> str:
    if is_film:
        return str(video.frames[0].path)
    folders = dict.fromkeys(str(PurePosixPath(frame.file_name).parent) for frame in video.frames)
    return next(iter(folders), "")


def _fill(arrays: dict[str, np.ndarray], f: int, t: int, person: Person) -> None:
    labelled = person.keypoints[:, 2] > 0
    arrays["tracks"][f, t, labelled] = person.keypoints[labelled, :2]
    if person.joint_scores is not None:
        arrays["point_scores"][f, t, labelled] = person.joint_scores[labelled]
    if person.score is not None:
        arrays["instance_scores"][f, t] = person.score
    tracking = person.extra.get(TRACKING_SCORE)
    if isinstance(tracking, (int, float)):
        arrays["tracking_scores"][f, t] = tracking


def _put(file: Any, name: str, values: np.ndarray, order: tuple[str, ...]) -> None:
    """An array of :data:`_AXES`, or the first of them, in another order, which is noted."""
    mine = _AXES[: values.ndim]
    dims = [axis for axis in order if axis in mine]
    values = values.transpose([mine.index(axis) for axis in dims])
    made = file.create_dataset(name, data=values, compression="gzip" if values.size else None)
    made.attrs["dims"] = json.dumps(dims)


# --- reading -----------------------------------------------------------------------------------------------


def is_hdf5(head: bytes) -> bool:
    """Whether these are the first bytes of an HDF5 file."""
    return head.startswith(_SIGNATURE)


def looks_like_analysis(file: Path) -> bool:
    """Whether an HDF5 file has ``track_occupancy``, by which SLEAP knows its own; h5py is not needed."""
    with file.open("rb") as stream:
        if not is_hdf5(stream.read(len(_SIGNATURE))):
            return False
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b"track_occupancy") >= 0


def find_files(folder: Path) -> list[Path]:
    """Its analysis files, sorted by name."""
    files = (file for suffix in ("h5", "hdf5") for file in folder.glob(f"*.{suffix}"))
    return sorted(file for file in files if file.is_file() and looks_like_analysis(file))


def read_source(source: Path, split: str, faults: Faults) -> PoseDataset:
    """The files of a folder, or one; each is a video."""
    _h5py()  # before anything is blamed on the files
    files = find_files(source) if source.is_dir() else [source]
    root = source if source.is_dir() else source.parent
    read = []
    for file in files:
        arrays = faults.at(file).attempt(_read_arrays, file)
        if arrays is not None:
            read.append((file, arrays))
    names = [name for _, arrays in read for name in arrays.nodes]
    skeleton = joint_set(names)
    if skeleton.name == "custom":
        edges = dict.fromkeys(edge for _, arrays in read for edge in arrays.edges)
        skeleton = replace(skeleton, limb_names=tuple(edges))
    finder = ImageFinder(root, faults)
    videos = []
    for file, arrays in read:
        made = faults.at(file).attempt(_video, arrays, file, skeleton, finder, faults)
        videos += [] if made is None else [made]
    return PoseDataset(videos, skeleton, root, split, "sleap")


@dataclass
class _Arrays:
    """What a file holds, in our order of axes."""

    points: np.ndarray
    """[F, T, J, 2] pixels, NaN where not labelled."""
    point_scores: np.ndarray
    """[F, T, J], NaN where there is none; so the next two."""
    instance_scores: np.ndarray
    """[F, T]."""
    tracking_scores: np.ndarray
    """[F, T]."""
    nodes: list[str]
    edges: list[tuple[str, str]]
    tracks: list[str]
    """Names; empty: none are given."""
    video_path: str
    own: Any
    """Our own data set, parsed; ``None``: another program wrote the file."""


def _read_arrays(file: Path) -> _Arrays:
    """The messages of its :class:`InputError` do not name the file."""
    h5py = _h5py()
    try:
        if not h5py.is_hdf5(file):
            raise InputError("is not an HDF5 file; needed is SLEAP's analysis export")
        with h5py.File(file, "r") as content:
            return _parse(content)
    except InputError:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, MemoryError) as error:
        raise InputError(f"cannot be read as HDF5, it may be cut off: {error}") from None


def _parse(file: Any) -> _Arrays:
    if "tracks" not in file or not hasattr(file["tracks"], "shape"):
        hint = "; DeepLabCut's labels are read from the CSV beside it" if "df_with_missing" in file else ""
        raise InputError(f"is HDF5, but not SLEAP's analysis export: it has no tracks{hint}")
    dataset = file["tracks"]
    if len(dataset.shape) != 4:
        raise InputError(f"tracks has {len(dataset.shape)} axes, 4 are needed: {', '.join(_MATLAB)}")
    texts = {name: _texts(file, name) for name in ("node_names", "track_names")}
    order = _order(file, dataset, texts["node_names"], texts["track_names"] or [])
    sizes = dict(zip(order, dataset.shape, strict=True))
    check_frame(sizes["frame"], "tracks: frame")
    points = _reordered(_floats(dataset, "tracks"), order, _AXES)
    nodes = texts["node_names"]
    if nodes is None:
        nodes = [f"node_{j}" for j in range(sizes["node"])]
    nodes = [joint_name(name) for name in nodes]
    twice = next((name for name in nodes if nodes.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"node_names: {twice} is there twice")
    tracks = texts["track_names"] or []
    if tracks and len(tracks) != sizes["track"]:
        raise InputError(f"track_names has {len(tracks)} names, tracks has {sizes['track']} tracks")
    return _Arrays(
        points,
        _scores(file, "point_scores", order, sizes, _AXES[:3]),
        _scores(file, "instance_scores", order, sizes, _AXES[:2]),
        _scores(file, "tracking_scores", order, sizes, _AXES[:2]),
        nodes,
        _edges(file, nodes),
        tracks,
        (_texts(file, "video_path") or [""])[0],
        _own(file),
    )


def _texts(file: Any, name: str) -> list[str] | None:
    """Strings of a data set, one or many; ``None``: there is no such data set."""
    if name not in file:
        return None
    values = np.asarray(file[name][()]).reshape(-1).tolist()
    try:
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values]
    except UnicodeDecodeError:
        raise InputError(f"{name} is not UTF-8 text") from None


def _dims(dataset: Any, name: str, count: int) -> tuple[str, ...] | None:
    """The order of axes that a data set notes; ``None``: it notes none."""
    noted = dataset.attrs.get("dims")
    if noted is None:
        return None
    try:
        dims = tuple(json.loads(noted))
    except (ValueError, TypeError):
        dims = ()
    if len(dims) != count or set(dims) != set(_AXES[:count]):
        raise InputError(f"{name}: dims is {noted!r}, needed are {', '.join(_AXES[:count])} in some order")
    return dims


def _order(file: Any, dataset: Any, nodes: list[str] | None, tracks: list[str]) -> tuple[str, ...]:
    """What the axes of ``tracks`` are: as noted, else the known order that fits the other data sets."""
    shape = dataset.shape
    noted = _dims(dataset, "tracks", 4)
    occupied = np.asarray(file["track_occupancy"][()]) if "track_occupancy" in file else None
    if noted is None and occupied is not None and occupied.ndim != 2:
        raise InputError(f"track_occupancy has {occupied.ndim} axes, 2 are needed: frame, track")

    def fits(order: tuple[str, ...]) -> bool:
        sizes = dict(zip(order, shape, strict=True))
        if sizes["xy"] != 2 or (nodes is not None and sizes["node"] != len(nodes)):
            return False
        if noted is None and occupied is not None:
            return occupied.shape == (sizes["frame"], sizes["track"])
        return not tracks or sizes["track"] == len(tracks)

    fitting = [order for order in ((noted,) if noted else _ORDERS) if fits(order)]
    if not fitting:
        known = f"{'?' if nodes is None else len(nodes)} node_names and {len(tracks)} track_names"
        if noted is None and occupied is not None:
            known += f" and a track_occupancy of {occupied.shape}"
        raise InputError(f"tracks has the shape {shape}, which does not fit {known}")
    if len(fitting) > 1 and occupied is not None:
        # As many tracks as frames, say: people must be where track_occupancy says.
        values = _floats(dataset, "tracks")
        for order in fitting:
            found = (~np.isnan(_reordered(values, order, _AXES))).any(axis=(2, 3))
            if np.array_equal(found, occupied != 0):
                return order
    return fitting[0]


def _floats(dataset: Any, name: str) -> np.ndarray:
    if getattr(dataset, "dtype", np.dtype("O")).kind not in "fiu":
        raise InputError(f"{name} holds something that is not a number")
    return np.asarray(dataset[()], dtype=np.float64)


def _reordered(values: np.ndarray, order: tuple[str, ...], wanted: tuple[str, ...]) -> np.ndarray:
    return values.transpose([order.index(axis) for axis in wanted])


def _scores(
    file: Any, name: str, order: tuple[str, ...], sizes: dict[str, int], wanted: tuple[str, ...]
) -> np.ndarray:
    """Scores by the axes ``wanted``, NaN where the file has none."""
    shape = tuple(sizes[axis] for axis in wanted)
    if name not in file:
        return np.full(shape, np.nan)
    mine = tuple(axis for axis in order if axis in wanted)
    if getattr(file[name], "ndim", 0) != len(wanted):
        raise InputError(f"{name} needs {len(wanted)} axes: {', '.join(mine)}")
    mine = _dims(file[name], name, len(wanted)) or mine
    values = _reordered(_floats(file[name], name), mine, wanted)
    if values.shape != shape:
        raise InputError(f"{name} has the shape {file[name].shape}, which does not fit that of tracks")
    if np.isinf(values).any():
        raise InputError(f"{name} holds an infinite number")
    return values


def _edges(file: Any, nodes: list[str]) -> list[tuple[str, str]]:
    """Limbs, as far as they can be used."""
    pairs = np.asarray(file["edge_inds"][()]) if "edge_inds" in file else np.zeros((0, 2), dtype=int)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        return []
    return [(nodes[a], nodes[b]) for a, b in pairs.tolist() if min(a, b) >= 0 and max(a, b) < len(nodes)]


def _own(file: Any) -> Any:
    found = _texts(file, _OWN)
    if not found:
        return None
    try:
        return json.loads(found[0])
    except (json.JSONDecodeError, RecursionError):
        raise InputError(f"{_OWN} is not valid JSON") from None


# --- frames and people -------------------------------------------------------------------------------------


def _video(arrays: _Arrays, file: Path, skeleton: Skeleton, finder: ImageFinder, faults: Faults) -> Video:
    count = len(arrays.points)
    if not count:
        raise InputError("tracks holds no frame")
    video, frames = (_foreign if arrays.own is None else _own_frames)(arrays, file, finder, count)
    tracks = arrays.tracks or [f"{TRACK}{t}" for t in range(arrays.points.shape[1])]
    ids = track_ids(tracks, TRACK)
    given = ~np.isnan(arrays.points)
    wrong = (given[..., 0] != given[..., 1]) | (np.abs(arrays.points) > MAX_COORDINATE).any(axis=3)
    for f, t in np.argwhere(given.any(axis=(2, 3))).tolist():
        place = faults.at(file, note=f"frame {f}, track {tracks[t]}")
        frame = frames[f]
        if wrong[f, t].any():
            j = int(np.argmax(wrong[f, t]))
            place.error(_fault(arrays.nodes[j], arrays.points[f, t, j]))
        elif frame is None:
            place.error(f"{_OWN} says that there is no such frame")
        else:
            frame.people.append(_person(arrays, f, t, ids[t], tracks[t], skeleton))
            frame.is_labeled = True
    return video


def _fault(joint: str, point: np.ndarray) -> str:
    """What is wrong with a joint's x, y."""
    if np.isnan(point).any():
        return f"{joint} has only one of x and y"
    if np.isinf(point).any():
        return f"{joint} is at an infinite place"
    return f"{joint} is at {point[0]:g}, {point[1]:g}; pixels of at most {MAX_COORDINATE:g} make sense"


def _person(arrays: _Arrays, f: int, t: int, track_id: int, name: str, skeleton: Skeleton) -> Person:
    joints: dict[str, tuple[float, float, bool]] = {}
    scores: dict[str, float] = {}
    for j in np.flatnonzero(~np.isnan(arrays.points[f, t, :, 0])).tolist():
        x, y = arrays.points[f, t, j].tolist()
        joints[arrays.nodes[j]] = (x, y, True)
        if not np.isnan(arrays.point_scores[f, t, j]):
            scores[arrays.nodes[j]] = float(arrays.point_scores[f, t, j])
    score, tracking = float(arrays.instance_scores[f, t]), float(arrays.tracking_scores[f, t])
    extra: dict[str, Any] = {} if name == f"{TRACK}{track_id}" else {TRACK_NAME: name}
    if not np.isnan(tracking):
        extra[TRACKING_SCORE] = plain(tracking)
    return make_person(
        skeleton,
        joints=joints,
        scores=scores,
        track_id=track_id,
        score=None if np.isnan(score) else score,
        extra=extra,
    )


def _foreign(
    arrays: _Arrays, file: Path, finder: ImageFinder, count: int
) -> tuple[Video, list[Frame | None]]:
    """Every frame of the axis, by its number in the video file; nobody is in it yet."""
    source = arrays.video_path.replace("\\", "/")
    name = PurePosixPath(source).name
    stem = PurePosixPath(name).stem or file.name.removesuffix(SUFFIX)
    is_image = count == 1 and name.lower().endswith(IMAGE_SUFFIXES)
    near = (finder.root, file.parent, finder.root.parent)
    places = [Path(source), *(folder / name for folder in near)] if name else []
    path = next((place for place in places if place.is_file()), None) or find_video(stem, near)
    path = path or Path(source or f"{stem}.mp4")
    size = (0, 0) if is_image else video_size(path)
    # silent: an export without the empty frames at the start does not say how many they were, and SLEAP
    # itself reads it as starting at frame 0.
    frames = [
        Frame(
            path,
            source if is_image else f"{stem}/{f:06d}.jpg",
            f,
            f,
            size,
            False,
            video_frame=None if is_image else f,
        )
        for f in range(count)
    ]
    return Video(stem, frames, file), list(frames)


def _own_frames(
    arrays: _Arrays, file: Path, finder: ImageFinder, count: int
) -> tuple[Video, list[Frame | None]]:
    """The frames that our own data set tells of; ``None`` for places between them."""
    own = arrays.own if isinstance(arrays.own, dict) else {}
    entries, fps = own.get("frames"), own.get("fps")
    if not isinstance(entries, list) or len(entries) != count or not isinstance(own.get("name"), str):
        raise InputError(f"{_OWN} does not tell the video's name and its {count} frames")
    rate = None if fps is None else float(parse_numbers(fps, f"{_OWN}: fps", 1)[0])
    is_film = own.get("is_film") is True
    frames: list[Frame | None] = []
    for f, entry in enumerate(entries):
        if entry is None:
            frames.append(None)
            continue
        if not isinstance(entry, list) or len(entry) != 4 or not isinstance(entry[0], str):
            raise InputError(f"{_OWN}: frame {f} is not a name, an id, a height and a width")
        image_id, height, width = (parse_whole(value, f"{_OWN}: frame {f}") for value in entry[1:])
        number = f if is_film else None
        frames.append(Frame(file, entry[0], image_id, 0, (height, width), False, video_frame=number))
    mine = [frame for frame in frames if frame is not None]
    for index, frame in enumerate(mine):
        frame.index = index
    if is_film:
        film = Path(arrays.video_path)
        near = (film, finder.root / film.name, file.parent / film.name)
        paths = [next((place for place in near if place.is_file()), film)] * len(mine)
    else:
        paths = finder.paths([frame.file_name for frame in mine], file) if mine else []
    for frame, path in zip(mine, paths, strict=True):
        frame.path = path
    return Video(own["name"], mine, file, fps=rate), frames
