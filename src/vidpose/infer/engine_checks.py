"""Whether an engine gives what PyTorch gives, and how long it takes: on the packaged example video.

The measure is PyTorch in float32. An engine in float32 must agree with it; one in bfloat16 may differ from it
as PyTorch's own bfloat16 does, in values and in the places decoded from them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vidpose.geometry import crop_affine, decode_heatmaps, normalize_image, warp_image
from vidpose.infer.crops import make_windows
from vidpose.io.files import read_json
from vidpose.io.video import open_video
from vidpose.models.export import ClipHeatmaps, DetectorMaps
from vidpose.models.person_detector import PersonDetector, letterbox
from vidpose.models.video_model import PoseModel

if TYPE_CHECKING:
    from vidpose.infer.engines import Network

LIMITS = {"fp32": (1e-3, 1e-2), "bf16": (0.03, 0.1), "int8": (0.15, 0.5)}
"""By precision the largest accepted differences: of values, as a share of their peak, and of places, in
heatmap pixels on average."""
BF16_FACTOR = 1.5
"""bfloat16 may differ by so many times what PyTorch's own differs by, if that is more than its limits."""
SURE = 0.2
"""Peaks and scores from here on have places that count."""
KEY_FRAMES, PEOPLE = 8, 2
ROUNDS = 5

Outputs = list[np.ndarray]


def check(model: PoseModel | PersonDetector, network: Network) -> tuple[list[float], str | None]:
    """Runs a network and PyTorch on the same inputs.

    Args:
        model: float32, in eval mode, on the CPU.

    Returns:
        The differences that :data:`LIMITS` limits, and what is wrong with them; ``None``: nothing.
    """
    inputs = sample_inputs(model)
    reference = run_torch(model, inputs, torch.float32)
    found = difference(model, network(*inputs), reference)
    limits = LIMITS[network.precision]
    if network.precision == "bf16":
        own = difference(model, run_torch(model, inputs, torch.bfloat16), reference)
        limits = tuple(max(limit, BF16_FACTOR * value) for limit, value in zip(limits, own, strict=True))  # type: ignore[assignment]
    if all(value <= limit for value, limit in zip(found, limits, strict=True)):  # NaN is not
        return [float(f"{value:.3g}") for value in found], None
    told = [f"{value:.2g} (allowed: {limit:.2g})" for value, limit in zip(found, limits, strict=True)]
    return [], f"its outputs differ in values by {told[0]} and in places by {told[1]}"


def difference(model: PoseModel | PersonDetector, found: Outputs, reference: Outputs) -> tuple[float, float]:
    """The largest difference of values as a share of the reference's peak, and the mean one of places.

    Places are joints or sides of boxes, in heatmap pixels, where the reference is sure of them.
    """
    if isinstance(model, PersonDetector):
        ours, theirs = (1 / (1 + np.exp(-logits)) for logits in (found[0], reference[0]))
        away = np.abs(found[1] - reference[1]).mean(axis=1) / 4  # [N, h, w], in input pixels before
        sure = theirs >= min(SURE, float(theirs.max()))
    else:
        ours, theirs = found[0], reference[0]
        points, _ = decode_heatmaps(torch.from_numpy(ours), "dark", model.sigma)
        expected, peaks = decode_heatmaps(torch.from_numpy(theirs), "dark", model.sigma)
        away = np.linalg.norm((points - expected).numpy(), axis=-1)  # [K, J]
        sure = peaks.numpy() >= SURE
    value = float(np.abs(ours - theirs).max() / max(float(np.abs(theirs).max()), 1e-9))
    return value, float(away[sure].mean()) if sure.any() else 0.0


def time_share(model: PoseModel | PersonDetector, network: Network, dtype: torch.dtype) -> float:
    """A network's time as a share of PyTorch's in ``dtype``: the shortest of a few runs, turn by turn."""
    inputs = sample_inputs(model)
    runs: list[Callable[[], Outputs]] = [lambda: network(*inputs), lambda: run_torch(model, inputs, dtype)]
    times: list[list[float]] = [[], []]
    for _ in range(ROUNDS + 1):
        for run, taken in zip(runs, times, strict=True):
            began = time.perf_counter()
            run()
            taken.append(time.perf_counter() - began)
    ours, theirs = (min(taken[1:]) for taken in times)  # the first run prepares
    return float(f"{ours / max(theirs, 1e-9):.3g}")


@torch.inference_mode()
def run_torch(
    model: PoseModel | PersonDetector, inputs: tuple[np.ndarray, ...], dtype: torch.dtype
) -> Outputs:
    """What PyTorch makes of the inputs of an exported network."""
    tensors = [torch.from_numpy(value) for value in inputs]
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        made: Tensor | tuple[Tensor, ...]
        if isinstance(model, PersonDetector):
            made = DetectorMaps(model)(*tensors)
        else:
            features = model.extract(tensors[0])
            made = (ClipHeatmaps(model, list(features))(list(features.values()), tensors[1]),)
    return [value.float().numpy() for value in made]


def sample_inputs(model: PoseModel | PersonDetector) -> tuple[np.ndarray, ...]:
    """Inputs of an exported network: two pictures, or clips of two people, each cut out under one affine."""
    if isinstance(model, PersonDetector):
        images = [image for image, _ in example_frames(2)]
        return (np.stack([_picture(image, model.long_side)[0] for image in images]),)
    reach = model.num_frames if model.kind == "video" else 1
    frames = example_frames(KEY_FRAMES + reach - 1)
    numbers, windows = make_windows(range(reach // 2, reach // 2 + KEY_FRAMES), reach, 0, len(frames) - 1)
    crops: list[np.ndarray] = []
    all_windows = []
    for person in range(PEOPLE):
        box = np.mean([boxes[min(person, len(boxes) - 1)] for _, boxes in frames], axis=0)
        affine = crop_affine(box, model.input_size, padding=1.25)
        all_windows.append(windows + len(crops))
        crops += [warp_image(frames[n][0], affine, model.input_size) for n in numbers]
    return np.ascontiguousarray(normalize_image(np.stack(crops))), np.concatenate(all_windows)


def calibration_images(model: PersonDetector, *, every: int = 8) -> list[np.ndarray]:
    """Inputs [1, 3, h, w] of a detector: frames of the example at the sizes of its three views."""
    from vidpose.infer.second_look import view_sides

    images = [image for image, _ in example_frames(75)[::every]]
    return [_picture(image, side) for image in images for side in view_sides(model.long_side)]


def _picture(image: np.ndarray, side: int) -> np.ndarray:
    return np.ascontiguousarray(normalize_image(letterbox(image, side)[0][None]))


def example_frames(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The first frames of the packaged video, uint8 RGB [H, W, 3], and the boxes [P, 4] xyxy in them of the
    people who are in all of them."""
    folder = resources.files("vidpose") / "examples"
    with resources.as_file(folder / "people.json") as path:
        labels = read_json(path)
    boxes: dict[int, dict[int, list[float]]] = {image["id"]: {} for image in labels["images"]}
    for person in labels["annotations"]:
        x, y, width, height = person["bbox"]
        boxes[person["image_id"]][person["track_id"]] = [x, y, x + width, y + height]
    everywhere = set.intersection(*(set(people) for people in list(boxes.values())[:count]))
    with resources.as_file(folder / "people.mp4") as path, open_video(path) as video:
        return [
            (frame.image, np.array([people[track] for track in sorted(everywhere)]))
            for frame, people in zip(video, list(boxes.values())[:count], strict=False)
        ]
