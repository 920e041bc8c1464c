"""Whole persons: a body, skin, eyes, hair, and an outfit put together and coloured at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import fabric
from .assets import METRES, Assets, Garment
from .body import (
    BodyShape,
    eye_mesh,
    fit_rig,
    four_largest,
    joint_points,
    sample_shape,
    shape_vertices,
    skin_faces,
    skin_weights,
)
from .garments import (
    Piece,
    Worn,
    covered,
    cut,
    fit,
    garment_weights,
    keep_outside,
    pieces,
    wear,
)
from .skinning import vertex_normals
from .types import Mesh, Rig, Weights

__all__ = ["Part", "Person", "dress", "make_person"]


@dataclass
class Part:
    """One textured mesh of a person; its vertices are only those its triangles use."""

    mesh: Mesh
    weights: Weights
    texture: np.ndarray
    """[H, W, 3 or 4] uint8 RGB or RGBA; the first row is v = 1."""
    kind: str
    """skin, eyes, cloth, shoes, hair or hat."""
    name: str = ""


@dataclass
class Person:
    """All that is needed to move, draw and label one person. At rest the lowest sole is on y = 0."""

    shape: BodyShape
    rig: Rig
    parts: list[Part]
    joints: tuple[str, ...]
    """Names of K joints, all of PoseTrack's and COCO's."""
    joint_bones: np.ndarray
    """[K] int32 row of the rig on which each rides rigidly."""
    joint_places: np.ndarray
    """[K, 3] float32 metres at rest."""
    hip_height: float
    """Metres of the hips' head above the ground at rest, soles included."""
    triangles: int
    """Of all parts."""


def make_person(assets: Assets, rng: np.random.Generator, shape: BodyShape | None = None) -> Person:
    """A dressed person at random, or with a given shape. The same generator state gives the same person."""
    shape = shape if shape is not None else sample_shape(rng)
    vertices = shape_vertices(assets, shape)
    parts = dress(assets, shape, vertices, rng)
    rig = fit_rig(assets, vertices)
    joints = joint_points(assets, rig, vertices)
    lift = -min(float(part.mesh.vertices[:, 1].min()) for part in parts if part.kind in ("skin", "shoes"))
    up = np.array([0, lift, 0], np.float32)
    for part in parts:
        part.mesh.vertices = part.mesh.vertices + up
    rig = Rig(rig.names, rig.parents, rig.heads + up, rig.tails + up)
    hips = rig.names.index("Hips") if "Hips" in rig.names else int(np.argmin(rig.parents))
    total = sum(len(part.mesh.faces) for part in parts)
    return Person(
        shape,
        rig,
        parts,
        joints.names,
        joints.bones,
        joints.rest + up,
        float(rig.heads[hips, 1]),
        total,
    )


@dataclass(frozen=True)
class Outfit:
    """What to wear. Lengths of legs: 0 hip, 1 knee, 2 ankle; of sleeves: 0 shoulder, 1 elbow, 2 wrist."""

    pieces: tuple[Piece, ...]
    """From the inside to the outside."""
    legs: float | None
    """Where trousers end; None as they are."""
    sleeves: float | None
    shoes: Garment | None = None
    hair: Garment | None = None
    hat: Garment | None = None


def choose_outfit(assets: Assets, shape: BodyShape, rng: np.random.Generator) -> Outfit:
    """An outfit at random; children and women always wear a top, everybody at least trunks.

    # silent: real videos of sport show many bare arms and legs; about two in three outfits have bare calves.
    """
    female, adult = shape.sex < 0.5, shape.age >= 16
    sex = "female" if female else "male"
    worn = [piece for g in assets.garments if g.kind == "cloth" for piece in pieces(assets, g)]
    suits = {piece.garment for piece in worn if piece.place == "whole"}
    tops = [p for p in worn if p.garment not in suits and (adult or _covers_belly(assets, p))]
    uppers = _for(tops, "upper", sex, rng.random() < 0.2)
    lowers = _for(worn, "lower", sex, female and rng.random() < 0.2)
    wholes = _for(worn, "whole", sex, rng.random() < 0.3)
    legs = _length(rng, (0.34, 0.14, 0.34, 0.18), ((1.2, 1.9), (0.55, 1.1), (0.28, 0.5)))
    sleeves = _length(rng, (0.35, 0.2, 0.25, 0.2), ((0.8, 1.9), (0.35, 0.8), (0.12, 0.3)))
    chosen: tuple[Piece, ...] = ()
    bare = adult and not female and rng.random() < (0.5 if legs is not None and legs < 0.6 else 0.12)
    if wholes and rng.random() < (0.14 if lowers else 1.0) and not bare:
        whole = wholes[rng.integers(len(wholes))]
        chosen = tuple(
            piece for piece in worn if piece.garment == whole.garment and piece.place == "upper"
        ) + (whole,)
    elif lowers:
        lower = lowers[rng.integers(len(lowers))]
        chosen = (lower,)
        if uppers and not bare:
            upper = uppers[rng.integers(len(uppers))]
            if rng.random() < 0.4:  # as MakeHuman's artist put them together
                together = [piece for piece in lowers if piece.garment == upper.garment]
                lower = together[0] if together else lower
            chosen = (upper, lower) if rng.random() < 0.2 else (lower, upper)
    shoes = _any(assets, "shoes", sex, rng, 0.55 if bare else 0.88)
    hat = _any(assets, "hat", sex, rng, 0.08)
    hair = _hair(assets, female, adult, rng)
    return Outfit(chosen, legs, sleeves, shoes, hair, hat)


def _covers_belly(assets: Assets, piece: Piece) -> bool:
    """Whether a top reaches down to the hips."""

    def reach() -> bool:
        points = assets.base.vertices * np.float32(METRES)
        rig = fit_rig(assets, points)
        lowest = fit(assets, piece.garment, points)[np.unique(piece.faces), 1].min()
        return bool(lowest < rig.heads[rig.names.index("Hips"), 1] + 0.1)

    return assets.keep(("reach", piece.garment.path, piece.place), reach)


def _length(
    rng: np.random.Generator, shares: tuple[float, ...], ranges: tuple[tuple[float, float], ...]
) -> float | None:
    kind = rng.choice(len(shares), p=shares)
    return None if kind == 0 else float(rng.uniform(*ranges[kind - 1]))


def _for(worn: list[Piece], place: str, sex: str, others: bool) -> list[Piece]:
    """Pieces for a place that suit a sex, or all of them."""
    there = [piece for piece in worn if piece.place == place]
    suits = [piece for piece in there if others or piece.garment.sex in (sex, "any")]
    return suits or there


def _any(assets: Assets, kind: str, sex: str, rng: np.random.Generator, share: float) -> Garment | None:
    there = [g for g in assets.garments if g.kind == kind and g.sex in (sex, "any")]
    wanted = rng.random() < share
    return there[rng.integers(len(there))] if there and wanted else None


def _hair(assets: Assets, female: bool, adult: bool, rng: np.random.Generator) -> Garment | None:
    bald = rng.random() < (0.02 if female or not adult else 0.2)
    sex = "female" if female != (rng.random() < 0.08) else "male"
    there = [g for g in assets.garments if g.kind == "hair" and g.sex in (sex, "any")]
    return there[rng.integers(len(there))] if there and not bald else None


def dress(
    assets: Assets,
    shape: BodyShape,
    vertices: np.ndarray,
    rng: np.random.Generator,
    outfit: Outfit | None = None,
) -> list[Part]:
    """The parts of a person: skin that shows, eyes, cloth from the inside to the outside, shoes, hair, hat.

    Arguments: vertices [V, 3] metres of :func:`shape_vertices`; outfit: None for one at random.
    """
    outfit = outfit if outfit is not None else choose_outfit(assets, shape, rng)
    rig = fit_rig(assets, vertices)
    worn = [_tailored(assets, piece, vertices, rig, outfit) for piece in outfit.pieces]
    if [each.piece.place for each in worn] == ["upper", "lower"]:  # tucked in
        belt = worn[1].vertices[np.unique(worn[1].faces), 1].max()
        worn[0] = cut(worn[0], _below(worn[0].vertices, worn[0].weights, rig, belt - 0.05))
    if outfit.shoes is not None:
        worn.insert(0, wear(assets, pieces(assets, outfit.shoes)[0], vertices))
    faces, uv_faces = skin_faces(assets)
    hidden = np.zeros(len(vertices), bool)
    for each in worn:
        hidden[each.hides] = True
    normals = vertex_normals(vertices, faces)
    bare = np.unique(faces[~hidden[faces].all(1)])
    for number, outer in enumerate(worn):
        rows = np.unique(outer.faces)
        if outer.piece.place != "shoes":
            keep_outside(outer.vertices, rows, vertices, normals, bare, 0.005)
        for inner in worn[:number]:
            inside = vertex_normals(inner.vertices, inner.faces)
            keep_outside(outer.vertices, rows, inner.vertices, inside, np.unique(inner.faces), 0.006)
            under = covered(outer, inner.vertices, np.unique(inner.faces))[inner.faces].all(1)
            inner.faces, inner.uv_faces = inner.faces[~under], inner.uv_faces[~under]
        hidden |= covered(outer, vertices, bare)
    shown = ~hidden[faces].all(1)
    hair = fabric.hair_colour(shape.age, rng)
    skin = fabric.skin_texture(assets, shape, hair, rng)
    out = [
        _part(vertices, faces[shown], assets.base.uvs, uv_faces[shown], skin_weights(assets), skin, "skin")
    ]
    eyes = eye_mesh(assets, vertices)
    if eyes is not None:
        look = fabric.eye_texture(assets, rng)
        out.append(_part(vertices, eyes.faces, eyes.uvs, eyes.uv_faces, skin_weights(assets), look, "eyes"))
    for each in worn:
        shoes = each.piece.place == "shoes"
        if shoes:
            picture = fabric.shoe_texture(assets, each.piece.garment, rng)
        else:
            picture = fabric.cloth_texture(assets, each.piece, rng)
        out.append(_worn_part(each, picture, "shoes" if shoes else "cloth"))
    return out + _headgear(assets, hair, vertices, rng, outfit, worn)


def _headgear(
    assets: Assets,
    colour: np.ndarray,
    vertices: np.ndarray,
    rng: np.random.Generator,
    outfit: Outfit,
    worn: list[Worn],
) -> list[Part]:
    """Hair and hat; hair that a hat covers goes, long hair lies outside the cloth."""
    out: list[Part] = []
    hat = wear(assets, pieces(assets, outfit.hat)[0], vertices) if outfit.hat is not None else None
    if outfit.hair is not None:
        hair = wear(assets, pieces(assets, outfit.hair)[0], vertices)
        if hat is not None:
            low = hat.vertices[np.unique(hat.faces), 1].min()
            below = hair.vertices[hair.faces][:, :, 1].max(1) < low + 0.03
            hair.faces, hair.uv_faces = hair.faces[below], hair.uv_faces[below]
        for cloth in worn:
            if cloth.piece.place in ("upper", "whole"):
                outside, rows = vertex_normals(cloth.vertices, cloth.faces), np.unique(cloth.faces)
                keep_outside(hair.vertices, np.unique(hair.faces), cloth.vertices, outside, rows, 0.008, 0.05)
        if len(hair.faces):
            out.append(_worn_part(hair, fabric.hair_texture(assets, outfit.hair, colour, rng), "hair"))
    if hat is not None and outfit.hat is not None:
        path = assets.garment_texture(outfit.hat)
        if path is not None:
            look = fabric.change_hue(assets.texture(path)[..., :3], rng)
        else:
            look = fabric.plain_texture(fabric.cloth_colour(rng), rng)
        out.append(_worn_part(hat, look, "hat"))
    return out


def _tailored(assets: Assets, piece: Piece, vertices: np.ndarray, rig: Rig, outfit: Outfit) -> Worn:
    """A piece on the body, cut to the outfit's lengths."""
    worn = wear(assets, piece, vertices)
    weights = garment_weights(assets, piece.garment)
    if piece.place in ("lower", "whole") and outfit.legs is not None:
        worn = cut(worn, _past_leg(worn.vertices, weights, rig, outfit.legs))
    if piece.place in ("upper", "whole") and outfit.sleeves is not None:
        for side in ("Left", "Right"):
            worn = cut(worn, _past_arm(worn.vertices, weights, rig, side, outfit.sleeves))
    return worn


def _share(
    weights: np.ndarray, rig: Rig, endings: tuple[str, ...], sides: tuple[str, ...] = ("Left", "Right")
) -> np.ndarray:
    names = {side + ending for side in sides for ending in endings}
    return weights[:, [i for i, name in enumerate(rig.names) if name in names]].sum(1)


def _past_leg(points: np.ndarray, weights: np.ndarray, rig: Rig, level: float) -> np.ndarray:
    """[N] metres below where trousers end; level 0 hip, 1 knee, 2 ankle."""
    at = [
        np.mean([rig.heads[rig.names.index(side + bone), 1] for side in ("Left", "Right")])
        for bone in ("UpLeg", "Leg", "Foot")
    ]
    return _below(points, weights, rig, float(np.interp(level, [0, 1, 2], at)))


def _below(points: np.ndarray, weights: np.ndarray, rig: Rig, height_m: float) -> np.ndarray:
    """[N] metres below a height, at most −0.05 for what moves with an arm."""
    below = height_m - points[:, 1]
    arm = _share(weights, rig, ("Arm", "ForeArm", "Hand"))
    return np.where(arm > 0.3, np.minimum(below, -0.05), below)


def _past_arm(points: np.ndarray, weights: np.ndarray, rig: Rig, side: str, level: float) -> np.ndarray:
    """[N] how far past where a sleeve ends, in lengths of the bone; level 0 shoulder, 1 elbow, 2 wrist."""
    shoulder, elbow, wrist = (rig.heads[rig.names.index(side + bone)] for bone in ("Arm", "ForeArm", "Hand"))

    def along(start: np.ndarray, end: np.ndarray) -> np.ndarray:
        axis = end - start
        return (points - start) @ axis / (axis @ axis)

    upper, fore = along(shoulder, elbow), along(elbow, wrist)
    past = np.where(fore > 0, 1 + fore, np.minimum(upper, 1)) - level
    arm = _share(weights, rig, ("Arm", "ForeArm", "Hand"), (side,))
    return np.where(arm > 0.2, past, np.minimum(past, -0.05))


def _worn_part(worn: Worn, texture: np.ndarray, kind: str) -> Part:
    used = np.unique(worn.faces)
    weights = Weights(
        np.zeros((len(worn.vertices), 4), np.int32), np.zeros((len(worn.vertices), 4), np.float32)
    )
    four = four_largest(worn.weights[used])
    weights.bones[used], weights.values[used] = four.bones, four.values
    name = f"{worn.piece.garment.path.stem} {worn.piece.place}"
    return _part(worn.vertices, worn.faces, worn.uvs, worn.uv_faces, weights, texture, kind, name)


def _part(
    vertices: np.ndarray,
    faces: np.ndarray,
    uvs: np.ndarray,
    uv_faces: np.ndarray,
    weights: Weights,
    texture: np.ndarray,
    kind: str,
    name: str = "",
) -> Part:
    """A part with only the vertices and texture coordinates that its triangles use."""
    used, row = np.unique(faces, return_inverse=True)
    uv_used, uv_row = np.unique(uv_faces, return_inverse=True)
    mesh = Mesh(
        vertices[used].astype(np.float32),
        row.reshape(-1, 3).astype(np.int32),
        uvs[uv_used].astype(np.float32),
        uv_row.reshape(-1, 3).astype(np.int32),
    )
    return Part(mesh, Weights(weights.bones[used], weights.values[used]), texture, kind, name)
