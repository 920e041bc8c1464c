"""Reading Acclaim motion capture: a skeleton (ASF) and movements of it (AMC)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidpose.errors import InputError

from .mocap import Clip, at_rate, chain_rotations, fail, numbers, read_text
from .rotations import conjugate, from_euler, multiply

# silent: AMC files name no rate. CMU records at 120 Hz, but the files of these assets are thinned to 30 Hz:
# 01_01.amc holds 688 frames, as many as the same take as BVH (cmu_full_01_01.bvh), which states 0.033333 s,
# and 02_01.amc walks at 1.2 m/s when read at 30 Hz; 120 Hz would make it 4.7 m/s.
AMC_FPS = 30.0


@dataclass
class Skeleton:
    """What an ASF file says. Joint 0 is the root."""

    name: str
    joints: tuple[str, ...]
    parents: np.ndarray
    heads: np.ndarray
    tails: np.ndarray
    axes: np.ndarray
    """[J, 4] quaternions: each bone's own axes at rest."""
    orders: tuple[str, ...]
    """Order of each bone's axes, as letters: the first acts first."""
    channels: tuple[tuple[str, ...], ...]
    """What an AMC row of the bone holds: ``RX`` and so on, for the root also ``TX``; empty: it is fixed."""
    degrees: bool


def read_asf(path: str | os.PathLike[str]) -> Skeleton:
    """Reads an Acclaim skeleton: sections ``:units``, ``:root``, ``:bonedata``, ``:hierarchy``.

    Raises:
        InputError: with file and line.
    """
    source = Path(path)
    section = ""
    degrees = True
    names: list[str] = ["root"]
    fields: dict[str, dict[str, tuple[int, list[str]]]] = {"root": {}}
    children: dict[str, tuple[str, int]] = {}
    current: dict[str, tuple[int, list[str]]] | None = None
    number = 0
    for number, text in enumerate(read_text(source, "an ASF file").splitlines(), 1):
        words = text.split("#")[0].split()
        if not words:
            continue
        if words[0].startswith(":"):
            section, current = words[0][1:].lower(), None
            if section == "skin":
                break
        elif section == "units" and words[0] == "angle":
            degrees = words[1:] == ["deg"]
            if words[1:] not in (["deg"], ["rad"]):
                fail(source, number, "angle must be deg or rad")
        elif section == "root":
            fields["root"][words[0].lower()] = (number, words[1:])
        elif section == "bonedata":
            if words[0] == "begin":
                current = {}
            elif words[0] == "end":
                if current is None or len(current.get("name", (0, []))[1]) != 1:
                    fail(source, number, "a bone without a name, or 'end' without 'begin'")
                name = current["name"][1][0]
                if name in fields:
                    fail(source, number, f"the bone {name} is there twice")
                fields[name] = current
                names.append(name)
                current = None
            elif current is None:
                fail(source, number, f"'{words[0]}' stands outside of begin and end")
            else:
                current.setdefault(words[0].lower(), (number, words[1:]))
        elif section == "hierarchy" and words[0] not in ("begin", "end"):
            for name in words:
                if name not in fields:
                    fail(source, number, f"there is no bone {name} in :bonedata")
            for name in words[1:]:
                if name in children or name == "root":
                    fail(source, number, f"{name} has two parents")
                children[name] = (words[0], number)
    if len(names) < 2 or not children:
        fail(source, number, "an ASF file needs :bonedata and :hierarchy")
    return _asf_skeleton(source, fields, children, degrees)


def _asf_skeleton(
    path: Path,
    fields: dict[str, dict[str, tuple[int, list[str]]]],
    children: dict[str, tuple[str, int]],
    degrees: bool,
) -> Skeleton:
    order = ["root"]
    for name in order:  # grows while it is walked: parents come before children
        order += [child for child, (parent, _) in children.items() if parent == name]
    missing = sorted(set(fields) - set(order))
    if missing:
        raise InputError(f"{path}: not joined to the root in :hierarchy: {', '.join(missing)}")
    row = {name: i for i, name in enumerate(order)}
    heads, tails = np.zeros((len(order), 3)), np.zeros((len(order), 3))
    axes = np.zeros((len(order), 4))
    orders: list[str] = []
    channels: list[tuple[str, ...]] = []
    for i, name in enumerate(order):
        bone = fields[name]

        def need(
            key: str, name: str = name, bone: dict[str, tuple[int, list[str]]] = bone
        ) -> tuple[int, list[str]]:
            if key not in bone:
                raise InputError(f"{path}: {name} has no '{key}'")
            return bone[key]

        line, words = need("axis")
        letters = words[-1].upper() if words else ""
        if sorted(letters) != ["X", "Y", "Z"]:
            fail(path, line, f"axis of {name} must end in an order such as XYZ")
        if i == 0:
            line, words = bone.get("orientation", (line, ["0", "0", "0"]))
            angles = numbers(words, 3, path, line, "orientation")
        else:
            angles = numbers(words[:-1], 3, path, line, f"axis of {name}")
        axes[i] = _asf_rotation(angles if degrees else np.rad2deg(angles), letters)
        orders.append(letters)
        line, words = need("order") if i == 0 else bone.get("dof", (0, []))
        kinds = tuple(word.upper() for word in words)
        if len(set(kinds)) != len(kinds) or set(kinds) - {"RX", "RY", "RZ"} - (
            {"TX", "TY", "TZ"} if i == 0 else set()
        ):
            fail(
                path,
                line,
                f"{name}: '{' '.join(words)}' cannot be used, only rotations (and the root's place)",
            )
        channels.append(kinds)
        if i:
            line, words = need("direction")
            direction = numbers(words, 3, path, line, f"direction of {name}")
            line, words = need("length")
            length = numbers(words, 1, path, line, f"length of {name}")[0]
            norm = np.linalg.norm(direction)
            heads[i] = tails[row[children[name][0]]]
            tails[i] = heads[i] + direction / (norm if norm > 0 else 1.0) * length
    parents = np.array([-1] + [row[children[name][0]] for name in order[1:]], dtype=np.int32)
    return Skeleton(
        path.stem, tuple(order), parents, heads, tails, axes, tuple(orders), tuple(channels), degrees
    )


def _asf_rotation(degrees: np.ndarray, order: str) -> np.ndarray:
    """Angles [..., 3] about x, y, z; ``order`` XYZ turns about x first."""
    letters = order[::-1]
    return from_euler(degrees[..., ["XYZ".index(letter) for letter in letters]], letters)


def read_amc(path: str | os.PathLike[str], skeleton: Skeleton, fps: float = AMC_FPS) -> Clip:
    """Reads the movement that belongs to a skeleton. ``fps``: the file's rate, which it does not name itself.

    Raises:
        InputError: with file and line.
    """
    source = Path(path)
    text = read_text(source, "an AMC file")
    start, degrees = 0, skeleton.degrees
    lines = text.splitlines()
    for start, line in enumerate(lines):  # noqa: B007 (the row is used below)
        words = line.split("#")[0].split()
        if words and words[0].upper() in (":DEGREES", ":RADIANS"):
            degrees = words[0].upper() == ":DEGREES"
        elif words and not words[0].startswith(":"):
            break
    else:
        fail(source, len(lines), "holds no frames")
    moving = {
        name: len(kinds) for name, kinds in zip(skeleton.joints, skeleton.channels, strict=True) if kinds
    }
    values = _amc_fast(lines[start:], moving)
    if values is None:
        values = _amc_slow(source, lines, start, moving)

    frames = len(values["root"])
    local = np.zeros((frames, len(skeleton.joints), 4))
    local[..., 0] = 1.0
    root = np.zeros((frames, 3))
    for j, (name, kinds) in enumerate(zip(skeleton.joints, skeleton.channels, strict=True)):
        if not kinds:
            continue
        angles = np.zeros((frames, 3))
        for column, kind in enumerate(kinds):
            (root if kind[0] == "T" else angles)[:, "XYZ".index(kind[1])] = values[name][:, column]
        turn = _asf_rotation(angles if degrees else np.rad2deg(angles), skeleton.orders[j])
        # From the bone's own axes to those of the skeleton at rest.
        local[:, j] = multiply(multiply(skeleton.axes[j], turn), conjugate(skeleton.axes[j]))
    clip = Clip(
        source.stem,
        skeleton.joints,
        skeleton.parents,
        skeleton.heads,
        skeleton.tails,
        chain_rotations(local, skeleton.parents).astype(np.float32),
        root.astype(np.float32),
    )
    return at_rate(clip, fps)


def _amc_fast(lines: list[str], moving: dict[str, int]) -> dict[str, np.ndarray] | None:
    """All frames at once where each lists the same bones in the same order, as all do in practice."""
    per = 1 + len(moving)
    if not lines or len(lines) % per:
        lines = [line for line in lines if line.strip()]
    names = [line.split(None, 1)[0] for line in lines[1:per] if line.strip()]
    if len(lines) % per or sorted(names) != sorted(moving):
        return None
    frames = len(lines) // per
    words = " ".join(lines).split()
    width = 1 + sum(1 + moving[name] for name in names)
    if len(words) != frames * width:
        return None
    table = [words[i::width] for i in range(width)]
    try:
        if np.any(np.array(table[0], dtype=np.int64) - int(table[0][0]) != np.arange(frames)):
            return None
        out: dict[str, np.ndarray] = {}
        column = 1
        for name in names:
            if table[column].count(name) != frames:
                return None
            block = table[column + 1 : column + 1 + moving[name]]
            out[name] = np.array([list(map(float, numbers)) for numbers in block]).T
            if not np.isfinite(out[name]).all():
                return None
            column += 1 + moving[name]
    except ValueError:
        return None
    return out


def _amc_slow(path: Path, lines: list[str], start: int, moving: dict[str, int]) -> dict[str, np.ndarray]:
    """Line by line: any order of the bones, and the line to blame for an error."""
    frames: list[dict[str, np.ndarray]] = []
    began = start
    for row in range(start, len(lines)):
        words = lines[row].split("#")[0].split()
        if not words:
            continue
        if len(words) == 1 and words[0].isdigit():
            if frames and len(frames[-1]) != len(moving):
                fail(path, began + 1, f"frame lacks {', '.join(sorted(set(moving) - set(frames[-1])))}")
            frames.append({})
            began = row
            continue
        if not frames:
            fail(path, row + 1, f"a frame begins with its number, found '{lines[row].strip()[:40]}'")
        if words[0] not in moving:
            fail(path, row + 1, f"the skeleton has no moving bone '{words[0]}'")
        if words[0] in frames[-1]:
            fail(path, row + 1, f"{words[0]} is there twice in one frame")
        frames[-1][words[0]] = numbers(words[1:], moving[words[0]], path, row + 1, words[0])
    if len(frames[-1]) != len(moving):
        fail(path, began + 1, f"frame lacks {', '.join(sorted(set(moving) - set(frames[-1])))}")
    return {name: np.stack([frame[name] for frame in frames]) for name in moving}
