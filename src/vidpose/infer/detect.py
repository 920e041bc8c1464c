"""Person detectors: every one a callable from images to boxes.

``auto`` is the small network of a set of weights; RT-DETR v2 and D-FINE come from ``transformers``; a
JSON file gives boxes that somebody else found; ``full-frame`` says that one person fills the picture.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from vidpose.device import precision_name, resolve_device
from vidpose.errors import InputError
from vidpose.geometry import clip_boxes
from vidpose.infer.cuda_graphs import GraphedDetector, GraphedPoseModel, Recorder
from vidpose.infer.cutters import Cutter, make_cutter
from vidpose.infer.engines import load_network, resolve_engine
from vidpose.infer.second_look import Looker, LookFit, second_look, see
from vidpose.infer.weights import load_pose_model
from vidpose.io.boxes import load_boxes
from vidpose.io.download import resolve_folder
from vidpose.models.hrnet import fold_batch_norms
from vidpose.models.person_detector import PersonDetector, load_detector, non_maximum_suppression
from vidpose.weight_sets import DEFAULT, DETECTOR, find_file, list_set_names, set_name

LOOKER = "hrnet"
"""The pose model that takes the second look, of the set of weights that holds the detector."""

HUB_DETECTORS = {"rtdetr": "PekingU/rtdetr_v2_r18vd", "dfine": "ustc-community/dfine-small-coco"}
"""Short names for detectors of ``transformers``; any other hub id or folder works as well."""

_PERSON_LABELS = ("person", "people", "human", "pedestrian")


@dataclass
class Detection:
    """The people of one image."""

    boxes_xyxy: np.ndarray
    """[P, 4] float64, pixels, inside the image."""
    scores: np.ndarray
    """[P] float64 in 0..1."""

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class FrameKey:
    """How a frame is found in a file of boxes."""

    index: int
    file_name: str | None = None


class Detector(Protocol):
    """What :func:`build_detector` returns."""

    name: str

    def __call__(self, images: list[np.ndarray], keys: Sequence[FrameKey] | None = None) -> list[Detection]:
        """People of uint8 RGB images [H, W, 3]; ``keys`` are needed by files of boxes alone."""
        ...


def build_detector(
    spec: str | os.PathLike[str] = "auto",
    *,
    weights: str | os.PathLike[str] = "default",
    device: str | torch.device = "auto",
    precision: str = "auto",
    engine: str = "torch",
    min_score: float = 0.2,
    nms_iou: float = 0.65,
    max_people: int = 100,
    cutter: Cutter | None = None,
    record: Recorder | None = None,
) -> Detector:
    """A detector by its name.

    Args:
        spec: ``auto``, or the name of a set of weights; ``rtdetr`` or ``dfine``; a hub id or folder of a
            detector of ``transformers``; our own detector's ``.safetensors``; a ``.json`` file of boxes; or
            ``full-frame``.
        weights: name of the set that ``auto`` is taken from, and the pose model of a second look; the default
            set where it is a file or a hub id.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16``, ``fp16``, or ``int8``, which is for our own network.
        engine: of :data:`vidpose.infer.engines.ENGINES`; for our own network and its second look.
        min_score: boxes below are left out, 0 to 1.
        nms_iou: of two boxes that overlap by more, the weaker goes; 1 keeps all.
        max_people: the best so many of a frame stay.
        cutter: resizes frames for our own network, and cuts the crops of its second look; ``None``: that of
            the device.
        record: runs our own network and its second look by CUDA graphs (:mod:`vidpose.infer.cuda_graphs`).

    Raises:
        InputError: nothing of that name, or a file that cannot be used.
    """
    if not 0 <= min_score <= 1:
        raise InputError(f"min_score is {min_score}: a score is 0 to 1")
    if not 0 < nms_iou <= 1:
        raise InputError(f"nms_iou is {nms_iou}: it must be above 0 and at most 1")
    if max_people < 1:
        raise InputError(f"max_people is {max_people}: it must be at least 1")
    limits = _Limits(min_score, nms_iou, max_people)
    text = os.fspath(spec)
    if text == "full-frame":
        return FullFrame()
    if text.lower().endswith(".json"):
        return BoxFile(text, limits)
    where = resolve_device(device) if isinstance(device, str) else device
    name, dtype, int8 = resolve_engine(engine, precision, where)
    shared: dict[str, Any] = {"engine": name, "int8": int8, "cutter": cutter, "record": record}
    if text in ("auto", "default", *list_set_names()):
        path, found_in = detector_file(weights if text == "auto" else text)
        return SmallDetector(load_detector(path, where), limits, dtype, name=text, weights=found_in, **shared)
    if text.lower().endswith(".safetensors") and Path(text).is_file():
        weights = set_name(weights) or DEFAULT
        return SmallDetector(load_detector(text, where), limits, dtype, name=text, weights=weights, **shared)
    source = HUB_DETECTORS.get(text, text)
    if source == text and not Path(text).is_dir() and not re.fullmatch(r"[\w.-]+/[\w.-]+", text):
        raise InputError(
            f"detector {text!r}: no such file or folder; give auto, the name of a set of weights, rtdetr, "
            "dfine, full-frame, a boxes.json, or a hub id such as PekingU/rtdetr_v2_r50vd"
        )
    if int8:
        raise InputError(f"precision 'int8' is for vidpose's own detector, not for {text}")
    return HubDetector(source, limits, where, dtype)


def detector_file(weights: str | os.PathLike[str] = "default") -> tuple[Path, str]:
    """The small detector's file in a set of weights, and the name of the set that holds it.

    Args:
        weights: name of a set; a file or a hub id means the default set.

    Raises:
        InputError: the set is unknown or not installed, or no detector is.
    """
    found = find_file(DETECTOR, weights)
    if found is None:
        raise InputError(
            f"weights {weights}: {DETECTOR} is in no set here; give --detector rtdetr, full-frame or a "
            "boxes.json"
        )
    return found


@dataclass(frozen=True)
class _Limits:
    min_score: float
    nms_iou: float
    max_people: int

    def apply(self, boxes: np.ndarray, scores: np.ndarray, size: tuple[int, int]) -> Detection:
        """Cuts boxes to the image of ``size``, drops weak, empty and doubled ones; best first."""
        boxes = clip_boxes(np.asarray(boxes, dtype=np.float64).reshape(-1, 4), size)
        scores = np.asarray(scores, dtype=np.float64).clip(0, 1)
        good = scores >= self.min_score
        good &= (boxes[:, 2] - boxes[:, 0] > 1) & (boxes[:, 3] - boxes[:, 1] > 1)  # NaN is not > 1
        boxes, scores = boxes[good], scores[good]
        kept = non_maximum_suppression(boxes, scores, self.nms_iou)[: self.max_people]
        return Detection(boxes[kept], scores[kept])


class FullFrame:
    """One person with score 1 that fills the picture."""

    name = "full-frame"

    def __call__(self, images: list[np.ndarray], keys: Sequence[FrameKey] | None = None) -> list[Detection]:
        return [
            Detection(np.array([[0.0, 0.0, image.shape[1] - 1, image.shape[0] - 1]]), np.ones(1))
            for image in images
        ]


class SmallDetector:
    """Our own network (:mod:`vidpose.models.person_detector`), and the second look of a set's ``hrnet`` where
    the detector's file says how (:mod:`vidpose.infer.second_look`).

    Args:
        model: becomes this detector's own.
        weights: name of the set that the second look's pose model is taken from.
        engine, int8: of both networks, as :func:`vidpose.infer.engines.resolve_engine` gives them.
        cutter: resizes frames and cuts crops; ``None``: that of the model's device.
        record: runs both networks by CUDA graphs.

    Raises:
        InputError: what the file says of a second look cannot be read.
    """

    def __init__(
        self,
        model: PersonDetector,
        limits: _Limits,
        dtype: torch.dtype,
        *,
        name: str = "auto",
        weights: str = "default",
        engine: str = "torch",
        int8: bool = False,
        cutter: Cutter | None = None,
        record: Recorder | None = None,
    ) -> None:
        for part in (model.backbone, model.heads):
            fold_batch_norms(part)
        self.model = model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.limits = limits
        self.dtype = dtype
        self.name = name
        self.cutter = make_cutter(next(model.parameters()).device) if cutter is None else cutter
        network = load_network(self.model, engine, dtype, int8=int8)
        self.network = None if network is None else network.maps
        if record is not None:
            self.network = GraphedDetector(self.model, dtype, record).maps
        self.engine = "torch" if network is None else network.engine
        self.precision = precision_name(dtype) if network is None else network.precision
        self.fit = LookFit.from_card(model.card)
        self.weights = None if self.fit is None and name.endswith(".safetensors") else weights
        """The set of the network, or of the second look's pose model; ``None``: of neither."""
        if self.fit is not None:
            poses = load_pose_model(LOOKER, weights)[0].to(next(model.parameters()).device)
            fold_batch_norms(poses.backbone)
            poses = poses.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            runner = GraphedPoseModel(poses, dtype, record) if record is not None else None
            self.look = Looker(poses, dtype, runner or load_network(poses, engine, dtype), self.cutter)

    def __call__(self, images: list[np.ndarray], keys: Sequence[FrameKey] | None = None) -> list[Detection]:
        limits = self.limits
        shared: dict[str, Any] = {
            "nms_iou": limits.nms_iou,
            "max_people": limits.max_people,
            "dtype": self.dtype,
            "network": self.network,
        }
        if self.fit is None:
            prepare = self.cutter.letterbox
            found = self.model.detect(images, min_score=limits.min_score, prepare=prepare, **shared)
        else:
            seen = see(self.model, images, cutter=self.cutter, **shared)
            found = second_look(self.look, self.fit, images, seen)
        return [
            self.limits.apply(boxes, scores, (image.shape[0], image.shape[1]))
            for image, (boxes, scores) in zip(images, found, strict=True)
        ]


class HubDetector:
    """A detector of ``transformers`` (RT-DETR v2, D-FINE, …) from the hub's cache or a folder.

    Raises:
        InputError: it cannot be read, is not an object detector, or knows no people.
    """

    def __init__(self, source: str, limits: _Limits, device: torch.device, dtype: torch.dtype) -> None:
        import transformers

        self.name = source
        self.limits = limits
        self.device = device
        folder = resolve_folder(source)
        self.dtype = dtype
        says = transformers.logging
        verbosity, bars = says.get_verbosity(), says.is_progress_bar_enabled()
        says.set_verbosity_error()  # it warns that torchvision is absent; PIL does as well
        says.disable_progress_bar()
        try:
            self.processor = transformers.AutoImageProcessor.from_pretrained(folder)
            self.model = transformers.AutoModelForObjectDetection.from_pretrained(folder)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(f"detector {source!r} cannot be loaded: {reason}") from error
        finally:
            says.set_verbosity(verbosity)
            if bars:
                says.enable_progress_bar()
        self.model = self.model.to(device).eval()
        self.person = _person_label(source, self.model.config.id2label)

    @torch.inference_mode()
    def __call__(self, images: list[np.ndarray], keys: Sequence[FrameKey] | None = None) -> list[Detection]:
        if not images:
            return []
        inputs = self.processor(images=images, return_tensors="pt", input_data_format="channels_last")
        inputs = inputs.to(self.device)
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            outputs = self.model(**inputs)
        # Two transfers, and all the rest on the CPU: small steps on a GPU would wait for each other.
        outputs.logits, outputs.pred_boxes = outputs.logits.float().cpu(), outputs.pred_boxes.float().cpu()
        sizes = [image.shape[:2] for image in images]
        results = self.processor.post_process_object_detection(
            outputs, threshold=self.limits.min_score, target_sizes=torch.tensor(sizes)
        )
        found = []
        for size, result in zip(sizes, results, strict=True):
            people = result["labels"] == self.person
            boxes, scores = result["boxes"][people].numpy(), result["scores"][people].numpy()
            found.append(self.limits.apply(boxes, scores, (size[0], size[1])))
        return found


def _person_label(source: str, labels: dict[int, str]) -> int:
    names = {int(k): str(v).lower() for k, v in labels.items()}
    for wanted in _PERSON_LABELS:
        for number, name in names.items():
            if name == wanted:
                return number
    if len(names) == 1:
        return next(iter(names))
    shown = ", ".join(list(names.values())[:5])
    raise InputError(f"detector {source!r} has no class 'person' among its {len(names)} classes ({shown}, …)")


class BoxFile:
    """Boxes from a JSON file (:func:`vidpose.io.boxes.load_boxes`), found by the frame's file name or index.

    Raises:
        InputError: the file cannot be read or an entry is not a box.
    """

    def __init__(self, path: str | os.PathLike[str], limits: _Limits) -> None:
        self.name = os.fspath(path)
        self.limits = limits
        self.boxes = load_boxes(path)
        self.matched = 0
        """Boxes handed out so far; 0 at the end of a video means that the file is another video's."""

    def __call__(self, images: list[np.ndarray], keys: Sequence[FrameKey] | None = None) -> list[Detection]:
        if keys is None:
            raise ValueError("a file of boxes needs the frames' keys")
        found = []
        for image, key in zip(images, keys, strict=True):
            boxes, scores = self.boxes.get(key.file_name, key.index)
            self.matched += len(boxes)
            found.append(self.limits.apply(boxes, scores, (image.shape[0], image.shape[1])))
        return found
