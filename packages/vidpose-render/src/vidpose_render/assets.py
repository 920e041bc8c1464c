"""The folder of assets: what is there, found by looking, read when first used and kept in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from vidpose.errors import InputError

from .files import (
    MhcloFile,
    ObjFile,
    RigBone,
    read_mhclo,
    read_mhmat,
    read_obj,
    read_rig,
    read_target,
    read_weights,
)

METRES = 0.1
"""Metres in MakeHuman's unit, the decimetre."""
TEXTURE_SIZE = 512
"""Pixels of the longer side to which textures are reduced."""
_PICTURES = (".png", ".jpg", ".jpeg")
_HATS = ("hat", "hats", "cap", "caps", "fedora", "helmet", "beanie")

_T = TypeVar("_T")


@dataclass(frozen=True)
class Garment:
    """Something to wear: a ``.mhclo`` and what it was recognised as."""

    path: Path
    kind: str
    """cloth, shoes, hair or hat."""
    sex: str
    """male, female or any."""


@dataclass
class Assets:
    """What a folder of assets offers. Made by :meth:`load`; pickles without what it keeps in memory."""

    root: Path
    base_path: Path
    targets: dict[str, Path]
    """Name without ``.target`` and ``.gz`` to file, as ``caucasian-male-young``."""
    rig_path: Path
    weights_path: Path
    skins: list[Path]
    eyes: list[Path]
    garments: list[Garment]
    panoramas: list[Path]
    mocap: list[Path]
    """Clips, ``.bvh`` and ``.amc``, by path."""

    def __post_init__(self) -> None:
        self._kept: dict[Any, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}

    @classmethod
    def load(cls, folder: str | Path) -> Assets:
        """Looks through ``folder``: one that holds ``makehuman/``, ``mocap/`` and ``panoramas/``, or
        MakeHuman's own data folder (with ``3dobjs/``, ``targets/``, ``rigs/``) alone.

        Raises:
            InputError: the folder, the base mesh, the rig, its weights or the targets are not there.
        """
        root = Path(folder)
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; MakeHuman's assets are needed there")
        places = [root / "makehuman", root / "data", root]
        data = next((place for place in places if any(place.glob("3dobjs/base.obj"))), None)
        if data is None:
            raise InputError(
                f"{root}: no 3dobjs/base.obj there, in makehuman/ or in data/; "
                f"name the folder of MakeHuman's assets"
            )
        files = sorted(path for path in data.rglob("*") if path.is_file())
        outside = files if data == root else sorted(path for path in root.rglob("*") if path.is_file())
        targets = {
            path.name.removesuffix(".gz").removesuffix(".target"): path
            for path in files
            if path.name.endswith((".target", ".target.gz"))
        }
        if not targets:
            raise InputError(f"{data}: no targets/**/*.target.gz there, the body shapes are needed")

        def only(name: str, what: str) -> Path:
            found = [path for path in files if path.name == name]
            if not found:
                raise InputError(f"{data}: no {name} below rigs/, {what} is needed")
            return found[0]

        return cls(
            root,
            data / "3dobjs" / "base.obj",
            targets,
            only("rig.cmu_mb.json", "the skeleton"),
            only("weights.cmu_mb.json", "the skin weights of the skeleton"),
            [
                path
                for path in files
                if _below(path, data, "skins") and "diffuse" in path.name.lower() and _picture(path)
            ],
            [path for path in files if _below(path, data, "eyes") and _picture(path)],
            [
                garment
                for path in files
                if path.suffix == ".mhclo" and (garment := recognise(path, data)) is not None
            ],
            [path for path in outside if "panoramas" in path.relative_to(root).parts and _picture(path)],
            [
                path
                for path in outside
                if "mocap" in path.relative_to(root).parts and path.suffix.lower() in (".bvh", ".amc")
            ],
        )

    def keep(self, key: Any, make: Callable[[], _T]) -> _T:
        """What ``make`` returns, made once per process and key."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    @property
    def base(self) -> ObjFile:
        """The base mesh in decimetres."""
        return self.keep("base", lambda: read_obj(self.base_path))

    @property
    def vertex_count(self) -> int:
        """Vertices of the base mesh, helpers included."""
        return len(self.base.vertices)

    @property
    def bones(self) -> dict[str, RigBone]:
        """The rig's bones, parents before their children."""
        return self.keep("bones", lambda: _parents_first(read_rig(self.rig_path)))

    @property
    def dense_weights(self) -> np.ndarray:
        """[V, B] float32 skin weights of the base mesh, columns in the order of :attr:`bones`."""
        return self.keep(
            "weights", lambda: read_weights(self.weights_path, list(self.bones), self.vertex_count)
        )

    def target(self, name: str) -> np.ndarray:
        """[V, 3] float32 decimetres of a target by name; raises InputError where it is not there."""
        if name not in self.targets:
            raise InputError(
                f"{self.base_path.parent.parent}: no {name}.target.gz below targets/, it is needed"
            )
        return self.keep(("target", name), lambda: read_target(self.targets[name], self.vertex_count))

    def mhclo(self, garment: Garment) -> MhcloFile:
        """How a garment hangs on the base mesh."""
        return self.keep(("mhclo", garment.path), lambda: read_mhclo(garment.path, self.vertex_count))

    def obj(self, garment: Garment) -> ObjFile:
        """A garment's mesh; raises InputError where its vertices are not those of the ``.mhclo``."""

        def read() -> ObjFile:
            cloth = self.mhclo(garment)
            mesh = read_obj(garment.path.parent / cloth.obj_file)
            if len(mesh.vertices) > len(cloth.indices):
                raise InputError(
                    f"{garment.path}: {len(cloth.indices)} vertices are fitted, "
                    f"{cloth.obj_file} has {len(mesh.vertices)}"
                )
            return mesh

        return self.keep(("obj", garment.path), read)

    def garment_texture(self, garment: Garment) -> Path | None:
        """The picture a garment's material names, with another ending where that is what is there."""
        material = garment.path.parent / self.mhclo(garment).material
        if not self.mhclo(garment).material or not material.is_file():
            return None
        name = read_mhmat(material).get("diffuseTexture")
        if name is None:
            return None
        named = material.parent / name
        candidates = [named] + [named.with_suffix(ending) for ending in _PICTURES]
        return next((path for path in candidates if path.is_file()), None)

    def texture(self, path: Path) -> np.ndarray:
        """[H, W, 3 or 4] uint8 RGB or RGBA, its longer side at most :data:`TEXTURE_SIZE`. Read only.

        With alpha, colour spreads into what is clear, so that edges do not take a colour that nobody sees.
        """
        return self.keep(("texture", path), lambda: _read_texture(path))


def recognise(path: Path, root: Path) -> Garment | None:
    """What a ``.mhclo`` is, by its folders, its tags and its name; None for eyes, teeth and the like."""
    parts = [part.lower() for part in path.relative_to(root).parts]
    tags = _tags(path)
    name = path.stem.lower()
    if any(part in ("eyes", "eyebrows", "eyelashes", "teeth", "tongue", "proxymeshes") for part in parts):
        return None
    if "hair" in parts:
        kind = "hair"
    elif "shoes" in tags or name.startswith("shoe"):
        kind = "shoes"
    elif any(word in tags or word in name for word in _HATS):
        kind = "hat"
    else:
        kind = "cloth"
    sexes = {sex for sex in ("male", "female") if sex in tags or name.startswith(sex)}
    return Garment(path, kind, sexes.pop() if len(sexes) == 1 else "any")


def _tags(path: Path) -> set[str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace")[:4000].splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return {line.split(None, 1)[1].strip().lower() for line in lines if line.startswith("tag ")}


def _below(path: Path, root: Path, name: str) -> bool:
    return name in path.relative_to(root).parts[:-1]


def _picture(path: Path) -> bool:
    return path.suffix.lower() in _PICTURES


def _parents_first(bones: dict[str, RigBone]) -> dict[str, RigBone]:
    out: dict[str, RigBone] = {}
    while len(out) < len(bones):
        out.update({n: b for n, b in bones.items() if n not in out and (not b.parent or b.parent in out)})
    return out


def _read_texture(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise InputError(f"{path}: is not a picture that can be read")
    if image.dtype != np.uint8:
        image = (image.astype(np.float64) * (255.0 / np.iinfo(image.dtype).max)).astype(np.uint8)
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    elif image.shape[2] == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    else:
        image = cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)
    scale = min(TEXTURE_SIZE / max(image.shape[:2]), 1.0)
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    if image.shape[2] == 3:
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    alpha = image[..., 3:].astype(np.float32) / 255
    solid = cv2.resize(image[..., :3] * alpha, size, interpolation=cv2.INTER_AREA)
    clear = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)[..., None]
    spread = clear + 1e-4
    wide = cv2.blur(solid, (31, 31)) + 1e-4 * (solid.sum((0, 1)) / spread.sum((0, 1)))
    wide /= cv2.blur(clear, (31, 31))[..., None] + 1e-4
    colour = (solid + wide * 1e-2) / (clear + 1e-2)
    return np.concatenate([colour.clip(0, 255), clear * 255], axis=2).round().astype(np.uint8)
