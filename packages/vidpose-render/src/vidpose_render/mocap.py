"""Reading motion capture from BVH files; :mod:`.acclaim` reads pairs of ASF and AMC.

Both give a :class:`Clip`: a skeleton at rest and global rotations away from that rest, at 30 frames per
second. Lengths keep the file's unit; :mod:`.retarget` scales by the length of the legs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np

from vidpose.errors import InputError

from .rotations import from_euler, multiply, resample, resample_points

CLIP_FPS = 30.0


@dataclass
class Clip:
    """A recorded movement with its own skeleton; y up, the person at rest faces +z."""

    name: str
    joints: tuple[str, ...]
    """The file's own names, parents before children."""
    parents: np.ndarray
    """[J] int32, -1 for the root."""
    heads: np.ndarray
    """[J, 3] where each joint lies at rest, in the file's unit."""
    tails: np.ndarray
    """[J, 3] where its bone ends at rest; equal to the head where the file gives no length."""
    rotations: np.ndarray
    """[T, J, 4] float32 quaternions: global rotation of each bone away from its rest."""
    root: np.ndarray
    """[T, 3] float32 position of the root joint."""
    fps: float = CLIP_FPS


@dataclass
class _Joint:
    name: str
    parent: int
    offset: np.ndarray
    channels: list[str] = field(default_factory=list)
    end: np.ndarray | None = None
    line: int = 0


def fail(path: Path, line: int, what: str) -> NoReturn:
    raise InputError(f"{path}:{line}: {what}")


def read_text(path: Path, kind: str) -> str:
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not text.strip():
        raise InputError(f"{path}: is empty, {kind} is needed")
    return text


def numbers(words: list[str], count: int, path: Path, line: int, what: str) -> np.ndarray:
    if len(words) != count:
        fail(path, line, f"{what} has {len(words)} numbers, {count} are needed")
    try:
        values = np.array([float(word) for word in words])
    except ValueError:
        fail(path, line, f"{what} must be numbers, not '{' '.join(words)}'")
    if not np.isfinite(values).all():
        fail(path, line, f"{what} must be finite, not '{' '.join(words)}'")
    return values


def at_rate(clip: Clip, fps: float) -> Clip:
    """The clip at ``CLIP_FPS`` where the file has another rate."""
    if abs(fps / CLIP_FPS - 1) > 0.01 and len(clip.root) > 1:
        count = int(np.floor((len(clip.root) - 1) * CLIP_FPS / fps + 1e-3)) + 1
        positions = np.minimum(np.arange(count) * fps / CLIP_FPS, len(clip.root) - 1.0)
        clip.rotations = resample(clip.rotations, positions).astype(np.float32)
        clip.root = resample_points(clip.root, positions).astype(np.float32)
    return clip


def read_clip(path: str | os.PathLike[str], skeleton: str | os.PathLike[str] | None = None) -> Clip:
    """Reads ``.bvh``, or ``.amc`` with the ``.asf`` named by ``skeleton`` or lying in the same folder.

    Raises:
        InputError: another suffix, no skeleton or several, or a file that cannot be read.
    """
    source = Path(path)
    suffix = source.suffix.lower()
    if suffix == ".bvh":
        return read_bvh(source)
    from .acclaim import read_amc, read_asf  # it needs this module's Clip

    if suffix != ".amc":
        raise InputError(f"{source}: motion capture is read from .bvh and .amc files")
    if skeleton is None:
        found = (
            sorted(p for p in source.parent.iterdir() if p.suffix.lower() == ".asf")
            if source.exists()
            else []
        )
        if len(found) != 1:
            raise InputError(f"{source}: needs one .asf skeleton beside it, found {len(found)}")
        skeleton = found[0]
    return read_amc(source, read_asf(skeleton))


def read_bvh(path: str | os.PathLike[str]) -> Clip:
    """Reads a BVH file: y up, channels in the order written (the last rotation acts first).

    A first frame whose root is not rotated at all, while the second is, is the rest pose that converters of
    CMU's files put in front: it is dropped.

    Raises:
        InputError: with file and line, whatever the file does that a BVH file must not.
    """
    source = Path(path)
    lines = read_text(source, "a BVH file").splitlines()
    joints, line = _bvh_hierarchy(source, lines)
    frames, period, first = _bvh_header(source, lines, line)
    width = sum(len(joint.channels) for joint in joints)
    rows = _bvh_rows(source, lines, first, frames, width)

    local = np.zeros((frames, len(joints), 4))
    root = np.tile(joints[0].offset, (frames, 1))
    column = 0
    for j, joint in enumerate(joints):
        part = rows[:, column : column + len(joint.channels)]
        column += len(joint.channels)
        turns = [i for i, name in enumerate(joint.channels) if name.endswith("rotation")]
        local[:, j] = from_euler(part[:, turns], "".join(joint.channels[i][0] for i in turns))
        if j == 0:
            for i, name in enumerate(joint.channels):
                if name.endswith("position"):
                    root[:, "XYZ".index(name[0])] = part[:, i]
    if frames > 1 and abs(local[0, 0, 0]) > 1 - 1e-12 and abs(local[1, 0, 0]) < 1 - 1e-9:
        local, root = local[1:], root[1:]

    parents = np.array([joint.parent for joint in joints], dtype=np.int32)
    heads = np.zeros((len(joints), 3))
    for j, joint in enumerate(joints):
        if joint.parent >= 0:
            heads[j] = heads[joint.parent] + joint.offset
    clip = Clip(
        source.stem,
        tuple(joint.name for joint in joints),
        parents,
        heads,
        _bvh_tails(joints, heads),
        chain_rotations(local, parents).astype(np.float32),
        root.astype(np.float32),
    )
    return at_rate(clip, 1.0 / period)


def chain_rotations(local: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """Rotations relative to the parents [T, J, 4] -> global ones."""
    out = local.copy()
    for j, parent in enumerate(parents):
        if parent >= 0:
            out[:, j] = multiply(out[:, parent], local[:, j])
    return out


def _bvh_tails(joints: list[_Joint], heads: np.ndarray) -> np.ndarray:
    """A bone ends at the first descendant, by first children, that lies elsewhere."""
    tails = heads.copy()
    for j in reversed(range(len(joints))):
        end = joints[j].end
        if end is not None:
            tails[j] = heads[j] + end
            continue
        for child in (c for c in range(j + 1, len(joints)) if joints[c].parent == j):
            target = heads[child] if np.abs(heads[child] - heads[j]).max() > 1e-6 else tails[child]
            if np.abs(target - heads[j]).max() > 1e-6:
                tails[j] = target
                break
    return tails


def _bvh_hierarchy(path: Path, lines: list[str]) -> tuple[list[_Joint], int]:
    """The joints and the row after the hierarchy."""
    joints: list[_Joint] = []
    stack: list[int] = []  # open braces: a joint's number, or -1 for an end site
    opened: int | None = None  # what the next brace belongs to
    started = False
    for row, text in enumerate(lines):
        words = text.split()
        number = row + 1
        if not words:
            continue
        key = words[0].upper()
        if not started:
            if key != "HIERARCHY":
                fail(path, number, "a BVH file begins with HIERARCHY")
            started = True
        elif key in ("ROOT", "JOINT"):
            if (key == "ROOT") != (not joints):
                fail(path, number, "one ROOT comes first, JOINTs below it; one skeleton a file is read")
            if len(words) < 2:
                fail(path, number, f"{key} needs a name")
            if key == "JOINT" and (not stack or stack[-1] < 0):
                fail(path, number, f"JOINT {words[1]} stands outside of any joint")
            name = " ".join(words[1:])
            if any(joint.name == name for joint in joints):
                fail(path, number, f"the name {name} is used twice")
            joints.append(_Joint(name, stack[-1] if stack else -1, np.zeros(3), line=number))
            opened = len(joints) - 1
        elif key == "END":
            if not stack or stack[-1] < 0:
                fail(path, number, "End Site stands outside of any joint")
            opened = -1
        elif key == "{":
            if opened is None:
                fail(path, number, "a brace that belongs to no joint")
            stack.append(opened)
            opened = None
        elif key == "}":
            if not stack:
                fail(path, number, "a closing brace too many")
            closed = stack.pop()
            if closed >= 0 and not joints[closed].channels:
                fail(path, joints[closed].line, f"{joints[closed].name} has no CHANNELS")
        elif key == "OFFSET" and stack:
            offset = numbers(words[1:], 3, path, number, "OFFSET")
            if stack[-1] >= 0:
                joints[stack[-1]].offset = offset
            else:
                owner = joints[stack[-2]]
                owner.end = offset if np.abs(offset).max() > 1e-6 else None
        elif key == "CHANNELS" and stack and stack[-1] >= 0:
            joints[stack[-1]].channels = _bvh_channels(path, number, words, stack[-1] == 0)
        elif key == "MOTION":
            if stack or not joints:
                fail(path, number, "MOTION before the hierarchy is closed")
            return joints, row
        else:
            fail(path, number, f"'{text.strip()[:40]}' is not understood in the hierarchy")
    fail(path, len(lines), "ends without MOTION")


def _bvh_channels(path: Path, number: int, words: list[str], is_root: bool) -> list[str]:
    names = [word[:1].upper() + word[1:].lower() for word in words[2:]]
    if len(words) < 2 or words[1] != str(len(names)):
        fail(
            path,
            number,
            f"CHANNELS announces {words[1] if len(words) > 1 else 'nothing'}, names {len(names)}",
        )
    for name in names:
        if name[1:] not in ("position", "rotation") or name[0] not in "XYZ" or names.count(name) > 1:
            fail(path, number, f"channel {name}: needed are X, Y, Z with position or rotation, each once")
        if name.endswith("position") and not is_root:
            fail(path, number, "positions below the root cannot be used, only rotations")
    if not any(name.endswith("rotation") for name in names):
        fail(path, number, "CHANNELS has no rotation")
    return names


def _bvh_header(path: Path, lines: list[str], row: int) -> tuple[int, float, int]:
    """Number of frames, seconds a frame, row of the first frame."""
    found: list[tuple[int, list[str]]] = []
    for i in range(row + 1, len(lines)):
        if lines[i].strip():
            found.append((i, lines[i].replace(":", " : ").split()))
        if len(found) == 2:
            break
    if len(found) < 2:
        fail(path, len(lines), "ends before 'Frames:' and 'Frame Time:'")
    (i, a), (k, b) = found
    if [w.lower() for w in a[:2]] != ["frames", ":"] or len(a) != 3 or not a[2].isdigit() or int(a[2]) < 1:
        fail(path, i + 1, f"needs 'Frames: <count>', found '{lines[i].strip()[:40]}'")
    if [w.lower() for w in b[:3]] != ["frame", "time", ":"] or len(b) != 4:
        fail(path, k + 1, f"needs 'Frame Time: <seconds>', found '{lines[k].strip()[:40]}'")
    period = float(numbers(b[3:], 1, path, k + 1, "Frame Time")[0])
    if not 0 < period <= 1:
        fail(path, k + 1, f"Frame Time {period} is not between 0 and 1 second")
    return int(a[2]), period, k + 1


def _bvh_rows(path: Path, lines: list[str], first: int, frames: int, width: int) -> np.ndarray:
    words = " ".join(lines[first:]).split()
    try:
        values = np.array(words, dtype=np.float64)
        if len(values) == frames * width and np.isfinite(values).all():
            return values.reshape(frames, width)
    except ValueError:
        pass
    rows = [(i + 1, line.split()) for i, line in enumerate(lines) if i >= first and line.strip()]
    for number, row in rows:  # the slow way, for the line to blame
        numbers(row, width, path, number, "a frame")
    fail(path, len(lines), f"holds {len(rows)} frames, 'Frames:' announces {frames}")
