"""Augmentation of clips: one draw for all frames of a clip, a function of (seed, epoch, sample)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidpose.geometry import enclosing_box
from vidpose.skeletons import Skeleton

MODES = ("uniform", "gaussian", "none")

MAX_ROTATION_DEG = 45.0
SCALE_RANGE = (0.65, 1.35)
HALF_BODY_PROBABILITY = 0.3
HALF_BODY_MIN_JOINTS = 8
HALF_BODY_PADDING = 1.5


def clip_generator(seed: int, epoch: int, sample: int) -> np.random.Generator:
    """The generator of a sample in an epoch: the same three numbers give the same draws in any process."""
    return np.random.default_rng(np.random.SeedSequence((seed, epoch, sample)))


@dataclass(frozen=True)
class ClipAugmentation:
    """The geometric draw of one clip, as arguments of :func:`vidpose.geometry.crop_affine`."""

    box_xyxy: np.ndarray
    padding: float
    rotation_deg: float = 0.0
    scale: float = 1.0
    flip: bool = False


def draw_augmentation(
    rng: np.random.Generator,
    box_xyxy: np.ndarray,
    keypoints: np.ndarray,
    skeleton: Skeleton,
    *,
    mode: str = "uniform",
    padding: float = 1.25,
    strength: float = 1.0,
) -> ClipAugmentation:
    """Draws rotation, scale, half body and flip for one clip.

    Args:
        box_xyxy: [4] the person's box in the key frame.
        keypoints: [J, 3] of the key frame; last column > 0 where labelled.
        mode: ``uniform``: rotation in ±45 degrees and scale in 0.65..1.35, the papers' ranges, drawn evenly.
            ``gaussian``: what public code does: scale 1 + 0.35 N clipped to the range; with probability 0.6
            rotation 45 N degrees clipped at ±90; the upper body with probability P(N < 0.5).
            ``none``: no change.
        strength: 0 to 1, by which rotation, the range of scales and the probability of a half body are
            multiplied: small networks and short trainings learn more from less.
    """
    if mode == "none":
        return ClipAugmentation(box_xyxy, padding)
    if mode not in MODES:
        raise ValueError(f"unknown augmentation {mode!r}; known: {', '.join(MODES)}")
    half_draw, upper_draw, flip_draw, rotate_draw = rng.random(4)
    upper_normal, scale_normal, rotation_normal = rng.standard_normal(3)
    scale_even, rotation_even = rng.random(2)

    labelled = keypoints[:, 2] > 0
    if labelled.sum() > HALF_BODY_MIN_JOINTS and half_draw < HALF_BODY_PROBABILITY * strength:
        upper = upper_draw < 0.5 if mode == "uniform" else upper_normal < 0.5
        half = _half_body_box(keypoints, skeleton.upper_body if upper else skeleton.lower_body)
        if half is not None:
            box_xyxy, padding = half, HALF_BODY_PADDING
    low, high = SCALE_RANGE
    if mode == "uniform":
        # silent: how often; the papers give ranges only, so every clip is rotated and scaled.
        rotation = (2 * rotation_even - 1) * MAX_ROTATION_DEG
        scale = low + (high - low) * scale_even
    else:
        turn = np.clip(rotation_normal * MAX_ROTATION_DEG, -2 * MAX_ROTATION_DEG, 2 * MAX_ROTATION_DEG)
        rotation = turn if rotate_draw < 0.6 else 0.0
        scale = np.clip(1 + 0.35 * scale_normal, low, high)
    return ClipAugmentation(
        box_xyxy,
        padding,
        float(strength * rotation),
        float(1 + strength * (scale - 1)),
        bool(flip_draw < 0.5),
    )


def _half_body_box(keypoints: np.ndarray, joints: tuple[int, ...]) -> np.ndarray | None:
    """The extent of some joints, centred on their mean; ``None`` for fewer than three labelled ones."""
    chosen = keypoints[list(joints)]
    chosen = chosen[chosen[:, 2] > 0, :2].astype(np.float64)
    # silent: public code asks for more than two joints.
    if len(chosen) <= 2:
        return None
    extent = enclosing_box(chosen, np.ones(len(chosen), dtype=bool))
    assert extent is not None
    centre, half = chosen.mean(axis=0), np.maximum((extent[2:] - extent[:2]) / 2, 1.0)
    return np.concatenate([centre - half, centre + half])


# --- pixels ----------------------------------------------------------------------------------------------


def draw_photometric(rng: np.random.Generator, frames: np.ndarray, strength: float) -> np.ndarray:
    """Changes a clip's pixels: light, contrast, colour, noise, blur and coarseness.

    No paper does this; it helps a model trained on rendered people to meet real video.

    Args:
        frames: uint8 RGB [T, h, w, 3]; not changed.
        strength: 0 (nothing) to 1 (strong). One draw per clip; light and noise vary a little per frame.

    Returns:
        uint8 [T, h, w, 3].
    """
    if strength <= 0:
        return frames
    import cv2

    coarse, blur, noise, gray = rng.random(4)
    gain = np.exp(rng.uniform(-0.4, 0.4, 3) * strength * np.array([1.0, 0.35, 0.35]))
    contrast = np.exp(rng.uniform(-0.4, 0.4) * strength)
    gamma = np.exp(rng.uniform(-0.4, 0.4) * strength)
    middle = rng.uniform(90, 160)
    flicker = 1 + 0.05 * strength * rng.standard_normal(len(frames))
    factor, blur_sigma, noise_std = (
        rng.uniform(1.3, 3.0),
        rng.uniform(0.4, 1.5),
        rng.uniform(2, 14) * strength,
    )

    levels = np.arange(256, dtype=np.float64)
    colour = gain[0] * np.array([1.0, gain[1], gain[2]])
    out = np.empty_like(frames)
    height, width = frames.shape[1:3]
    for t, frame in enumerate(frames):
        curve = 255 * (levels / 255) ** gamma
        curve = (curve - middle) * contrast + middle
        table = (curve[:, None] * colour * flicker[t]).clip(0, 255).round().astype(np.uint8)
        frame = cv2.LUT(frame, table[None])
        if gray < 0.1 * strength:
            frame = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        if coarse < 0.25 * strength:
            small = (max(int(width / factor), 8), max(int(height / factor), 8))
            frame = cv2.resize(cv2.resize(frame, small, interpolation=cv2.INTER_AREA), (width, height))
        if blur < 0.25 * strength:
            frame = cv2.GaussianBlur(frame, (0, 0), blur_sigma)
        if noise < 0.35 * strength:
            grain = rng.standard_normal(frame.shape, dtype=np.float32) * np.float32(noise_std)
            frame = (frame + grain).clip(0, 255).astype(np.uint8)
        out[t] = frame
    return out


def hide_heads(
    rng: np.random.Generator, frames: np.ndarray, keypoints: np.ndarray, skeleton: Skeleton, share: float
) -> np.ndarray:
    """Makes a person's face unknowable in some clips, as in anonymised video: coarse, blurred or one colour.

    Most of what tells a front from a back is the face; a model that has always seen one calls left right
    where it is hidden.

    Args:
        rng: its draws are made only where ``share`` is above 0.
        frames: uint8 RGB [T, h, w, 3]; not changed.
        keypoints: [T, J, 3] in pixels of the frames; last column > 0 where labelled.
        skeleton: of the joints.
        share: of the clips, 0 to 1.

    Returns:
        uint8 [T, h, w, 3]; frames whose labels do not say where the head is are as they were.
    """
    if share <= 0 or rng.random() >= share:
        return frames
    import cv2

    way, grow, cells = rng.integers(3), rng.uniform(0.55, 1.1), rng.uniform(1.5, 5.0)
    height, width = frames.shape[1:3]
    heads = [_head_of(joints, skeleton) for joints in keypoints]
    if not any(heads):
        return frames
    out = frames.copy()
    for image, head in zip(out, heads, strict=True):
        if head is None:
            continue
        centre, radius = head[0], grow * head[1]
        x0, y0 = np.maximum(np.round(centre - radius), 0).astype(int)
        x1, y1 = np.minimum(np.round(centre + radius) + 1, (width, height)).astype(int)
        if x1 - x0 < 2 or y1 - y0 < 2:
            continue
        part = image[y0:y1, x0:x1]
        if way == 0:
            size = [max(round(cells * side / (2 * radius)), 1) for side in (x1 - x0, y1 - y0)]
            coarse = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
            hidden = cv2.resize(coarse, (x1 - x0, y1 - y0), interpolation=cv2.INTER_NEAREST)
        elif way == 1:
            hidden = cv2.GaussianBlur(part, (0, 0), radius / cells)
        else:
            hidden = np.broadcast_to(part.reshape(-1, 3).mean(axis=0).round().astype(np.uint8), part.shape)
        if way:  # blurred round, or one colour: an ellipse; a mosaic is square
            rows, columns = np.mgrid[y0:y1, x0:x1]
            inside = (columns - centre[0]) ** 2 + (rows - centre[1]) ** 2 <= radius**2
            hidden = np.where(inside[..., None], hidden, part)
        image[y0:y1, x0:x1] = hidden
    return out


def _head_of(joints: np.ndarray, skeleton: Skeleton) -> tuple[np.ndarray, float] | None:
    """The middle [2] of a face and its distance from the top of the head, from what is labelled of [J, 3].

    Without nose and head_top the trunk says how large a head is.
    """

    def middle(*names: str) -> np.ndarray | None:
        if not all(name in skeleton.index and joints[skeleton.index[name], 2] > 0 for name in names):
            return None
        return np.asarray(joints[[skeleton.index[name] for name in names], :2].mean(axis=0))

    nose, top, bottom = middle("nose"), middle("head_top"), middle("head_bottom")
    shoulders, hips = middle("left_shoulder", "right_shoulder"), middle("left_hip", "right_hip")
    if top is not None and nose is not None:
        return nose, float(np.linalg.norm(nose - top))
    if top is not None and bottom is not None:
        return 0.5 * (top + bottom), 0.6 * float(np.linalg.norm(top - bottom))
    if shoulders is None or hips is None:
        return None
    trunk = shoulders - hips
    return (shoulders + 0.45 * trunk if nose is None else nose), 0.35 * float(np.linalg.norm(trunk))


def paste_occluders(
    rng: np.random.Generator, frames: np.ndarray, joints: np.ndarray, texture: np.ndarray
) -> np.ndarray:
    """Puts one to three pieces of another picture before a person: blobs, and bars such as poles and sticks.

    A piece moves evenly through the clip. No paper does this; people in real video are often half hidden.

    Args:
        rng: of the clip.
        frames: uint8 RGB [T, h, w, 3]; not changed.
        joints: [N, 2] where the person is, in pixels of the frames: pieces lie near these.
        texture: uint8 RGB [H, W, 3], any picture.

    Returns:
        uint8 [T, h, w, 3].
    """
    import cv2

    height, width = frames.shape[1:3]
    out = frames.copy()
    if not len(joints):
        return out
    for _ in range(int(rng.integers(1, 4))):
        bar = rng.random() < 0.35
        size = height * (rng.uniform(0.3, 1.1) if bar else rng.uniform(0.12, 0.45))
        shape = _bar(rng, size) if bar else _blob(rng, size)
        centre = joints[rng.integers(len(joints))] + rng.normal(0, 0.06 * height, 2)
        step = rng.normal(0, 0.02 * height, 2)
        piece = _piece_of(rng, texture, (height, width))
        for t, frame in enumerate(out):
            place = shape + centre + step * (t - len(out) // 2)
            mask = np.zeros((height, width), np.uint8)
            cv2.fillPoly(mask, [np.round(place * 16).astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=4)
            share = mask[..., None].astype(np.uint16)
            frame[...] = ((frame * (255 - share) + piece * share + 127) // 255).astype(np.uint8)
    return out


def _blob(rng: np.random.Generator, size: float) -> np.ndarray:
    """[N, 2] an irregular closed outline around (0, 0), about ``size`` wide."""
    corners = int(rng.integers(4, 10))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = 0.5 * size * rng.uniform(0.6, 1.2, corners)
    flat = np.array([1.0, rng.uniform(0.4, 1.0)])
    return _turned(np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None] * flat, rng)


def _bar(rng: np.random.Generator, length: float) -> np.ndarray:
    """[4, 2] a thin rectangle around (0, 0)."""
    half = np.array([length, length * rng.uniform(0.02, 0.12)]) / 2
    return _turned(np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half, rng)


def _turned(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    return points @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _piece_of(rng: np.random.Generator, texture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [h, w, 3] a random part of a picture, one time in four of one colour, darker or lighter."""
    import cv2

    rows, columns = texture.shape[:2]
    share = rng.uniform(0.3, 0.9)
    h, w = max(int(share * rows), 1), max(int(share * columns), 1)
    y, x = (int(rng.integers(0, whole - part + 1)) for whole, part in ((rows, h), (columns, w)))
    piece = cv2.resize(texture[y : y + h, x : x + w], size[::-1], interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.25:
        piece = np.broadcast_to(piece.reshape(-1, 3).mean(axis=0), piece.shape)
    return np.clip(piece * rng.uniform(0.6, 1.3), 0, 255).astype(np.uint8)
