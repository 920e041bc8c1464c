"""A scene whose truth is known exactly, and a "model" that sees it: coloured dots as joints.

Joint 0 is the red dot of the key frame, joint 1 the green one, joint 2 the blue one; joint 3 is the red dot
of the clip's first frame, joint 4 that of its last: they tell which frames a clip was made of.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vidpose.geometry import IMAGENET_MEAN, IMAGENET_STD
from vidpose.models.video_model import PoseModel, PoseOutput, clip_features

SIZE = (200, 320)  # height, width
BOX = (70.0, 110.0)  # width, height


class _Frames(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, frames: torch.Tensor) -> dict[str, torch.Tensor]:
        mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
        std = torch.tensor(IMAGENET_STD).view(3, 1, 1)
        colors = (frames.float() * std + mean).clamp(0, 1)
        size = (frames.shape[-2] // 4, frames.shape[-1] // 4)
        return {"colors": F.interpolate(colors, size, mode="bilinear", align_corners=True)}


class _Dots(nn.Module):
    def __init__(self, num_frames: int, num_joints: int) -> None:
        super().__init__()
        self.num_frames, self.num_joints = num_frames, num_joints

    def forward(self, features: dict[str, torch.Tensor]) -> PoseOutput:
        colors = clip_features(features, self.num_frames)["colors"]  # [B, T, 3, h, w]
        key = colors[:, self.num_frames // 2]
        seen = torch.cat([key, colors[:, 0, :1], colors[:, -1, :1]], dim=1)  # [B, 5, h, w]
        rest = torch.zeros(len(seen), self.num_joints - 5, *seen.shape[-2:])
        return PoseOutput(torch.cat([seen, rest], dim=1))


class DotModel(PoseModel):
    """Finds coloured dots; T frames, 15 joints."""

    name = "dots"

    def __init__(self, num_frames: int = 5, num_joints: int = 15, kind: str = "video") -> None:
        self.kind = kind  # type: ignore[misc]
        super().__init__(
            _Frames(), num_frames=num_frames, num_joints=num_joints, input_size=(128, 96), sigma=2.0
        )
        self.head = _Dots(num_frames, num_joints)


def dots_at(t: int, person: int = 0) -> np.ndarray:
    """[3, 2] red, green, blue dot of a person in frame ``t``: everything moves with its own speed."""
    start = np.array([[60.3, 60.8], [48.6, 95.2], [70.1, 120.4]]) + np.array([150.0, 10.0]) * person
    return start + t * np.array([[1.37, 0.31], [1.13, -0.22], [1.21, 0.13]])


def box_at(t: int, person: int = 0) -> np.ndarray:
    """[4] the person's box in frame ``t``, xyxy."""
    x, y = 25.4 + 1.2 * t + 150 * person, 38.7 + 0.1 * t + 10 * person
    return np.array([x, y, x + BOX[0], y + BOX[1]])


def picture(t: int, people: int = 1) -> np.ndarray:
    """[H, W, 3] uint8: the frame at ``t``."""
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float64)
    image = np.zeros((*SIZE, 3))
    for person in range(people):
        for c, (x, y) in enumerate(dots_at(t, person)):
            image[..., c] += np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * 5.0**2))
    return np.round(image.clip(0, 1) * 255).astype(np.uint8)


def write_scene(folder: Path, frames: int, people: int = 1, *, skip: tuple[int, ...] = ()) -> Path:
    """PNG frames and ``boxes.json``; frames in ``skip`` have no boxes. Returns the folder of frames."""
    images = folder / "scene"
    images.mkdir(parents=True)
    boxes = []
    for t in range(frames):
        cv2.imwrite(str(images / f"{t:06d}.png"), picture(t, people)[..., ::-1])
        for person in range(people) if t not in skip else ():
            x1, y1, x2, y2 = box_at(t, person)
            boxes.append({"image_name": f"{t:06d}.png", "bbox": [x1, y1, x2 - x1, y2 - y1], "score": 0.9})
    (folder / "boxes.json").write_text(json.dumps(boxes))
    return images
