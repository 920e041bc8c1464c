"""Do poses seen by several cameras agree? A score of real video that needs no labels.

    vidpose estimate DIR/p2s_*.mp4 -o poses --model tdmi --weights FILE
    python benchmarks/multiview.py --clips DIR poses [MORE...]

DIR holds synchronised clips NAME_cam01.mp4 ... and NAME_calibration.qca.txt (Qualisys). People are matched
between the cameras frame by frame, each joint is triangulated from all cameras that see the person, three at
least, and projected back. A joint of a frame counts as found if the root mean square of its distances to what
was estimated is at most 5 % of the person's height: over all cameras, or ("any three") over three of them at
least; a person that is not found by three cameras has no joint found. How many people a scene has is given
(--people).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
from contact_sheet import Shown, draw

from vidpose.errors import InputError
from vidpose.geometry import enclosing_box
from vidpose.infer.propagation.frames import NumberedFrames
from vidpose.io.files import write_json
from vidpose.results import VideoPoses
from vidpose.skeletons import POSETRACK15, Skeleton, convert_keypoints

SHARE, LEAST_VIEWS, LEAST_SCORE = 0.05, 3, 0.2
HEIGHT = 1700.0
"""Millimetres of a person before anybody is measured."""
SUBPIXELS = 64.0
"""Qualisys counts pixels in 64ths."""
_SEGMENTS = (
    ("head_top", "head_bottom"), ("head_bottom", "hip"), ("hip", "knee"), ("knee", "ankle"),
)  # fmt: skip


@dataclass
class View:
    """One calibrated camera; lengths in millimetres."""

    matrix: np.ndarray
    """[3, 3] pixels."""
    distortion: np.ndarray
    """[5] k1, k2, p1, p2, k3."""
    rotation: np.ndarray
    """[3, 3] world to camera: rows right, down, ahead."""
    place: np.ndarray
    """[3]."""

    def straight(self, points: np.ndarray) -> np.ndarray:
        """Pixels [..., 2] without the lens's distortion, at focal length 1."""
        flat = np.ascontiguousarray(points, dtype=np.float64).reshape(-1, 1, 2)
        return cv2.undistortPoints(flat, self.matrix, self.distortion).reshape(points.shape)

    def project(self, points: np.ndarray) -> np.ndarray:
        """World [..., 3] to pixels [..., 2], the distortion included."""
        local = (points - self.place) @ self.rotation.T
        pixels = cv2.projectPoints(
            local.reshape(-1, 1, 3), np.zeros(3), np.zeros(3), self.matrix, self.distortion
        )
        return pixels[0].reshape(*points.shape[:-1], 2)

    def depth(self, points: np.ndarray) -> np.ndarray:
        return (points - self.place) @ self.rotation[2]


def read_views(path: Path) -> list[View]:
    """The cameras of a Qualisys calibration, in its order."""
    views = []
    try:
        for camera in ElementTree.parse(path).getroot().iter("camera"):
            turn, lens = camera.find("transform"), camera.find("intrinsic")
            assert turn is not None and lens is not None
            numbers = {k: float(v) for k, v in (*turn.items(), *lens.items())}
            r = np.array([[numbers[f"r{i}{j}"] for j in (1, 2, 3)] for i in (1, 2, 3)])
            matrix = np.array(
                [
                    [numbers["focalLengthU"], 0, numbers["centerPointU"]],
                    [0, numbers["focalLengthV"], numbers["centerPointV"]],
                    [0, 0, SUBPIXELS],
                ]
            ) / SUBPIXELS  # fmt: skip
            names = ("radialDistortion1", "radialDistortion2", "tangentalDistortion1", "tangentalDistortion2",
                     "radialDistortion3")  # fmt: skip
            # Its rows are right, up and back.
            rotation = r * np.array([[1.0], [-1.0], [-1.0]])
            place = np.array([numbers[k] for k in "xyz"])
            views.append(View(matrix, np.array([numbers[k] for k in names]), rotation, place))
    except (OSError, ElementTree.ParseError, KeyError, ValueError, AssertionError) as error:
        raise InputError(f"{path}: cannot be read as a Qualisys calibration: {error}") from error
    return views


def triangulate(views: list[View], points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[J, 3] from pixels [V, J, 2] by weighted linear least squares; weights [V, J]."""
    rows = []
    for view, seen, weight in zip(views, points, weights, strict=True):
        flat = view.straight(seen)
        matrix = np.concatenate([view.rotation, -(view.rotation @ view.place)[:, None]], axis=1)
        both = flat[:, :, None] * matrix[2] - matrix[:2]  # [J, 2, 4]
        rows.append(both * weight[:, None, None])
    system = np.concatenate(rows, axis=1)  # [J, 2 V, 4]
    return np.stack([np.linalg.lstsq(joint[:, :3], -joint[:, 3], rcond=None)[0] for joint in system])


@dataclass
class Person:
    """What one camera has found of a person in a frame."""

    view: int
    points: np.ndarray
    """[J, 2]."""
    scores: np.ndarray
    """[J]."""


def disagreement(views: list[View], people: list[Person], height: float) -> np.ndarray:
    """[J] root mean square over the cameras of how far an estimate is from the triangulation, in heights."""
    return root_mean_square(reproject(views, people, height)[1])


def root_mean_square(misses: np.ndarray) -> np.ndarray:
    """[J] over the cameras of [V, J]."""
    return np.sqrt(np.mean(misses**2, axis=0))


def least_disagreement(views: list[View], people: list[Person], height: float) -> np.ndarray:
    """[J] the same for those three cameras or more that agree best about a joint."""
    groups = [g for n in range(LEAST_VIEWS, len(people) + 1) for g in combinations(people, n)]
    return np.min([disagreement(views, list(group), height) for group in groups], axis=0)


def _misses(views: list[View], points: np.ndarray, places: np.ndarray, height: float) -> np.ndarray:
    """[V, J] distances in the picture as shares of the person's height there."""
    out = []
    for view, seen in zip(views, points, strict=True):
        depth = np.maximum(view.depth(places), 1.0)
        distance = np.linalg.norm(view.project(places) - seen, axis=-1)
        out.append(np.where(view.depth(places) > 1, distance * depth / (view.matrix[0, 0] * height), 10.0))
    return np.stack(out)


def match(views: list[View], people: list[Person], height: float) -> list[list[Person]]:
    """Groups of one person each, of any camera once at most: pairs that agree best come together first."""
    cost = {}
    for a, b in combinations(range(len(people)), 2):
        if people[a].view != people[b].view:
            sure = (people[a].scores > LEAST_SCORE) & (people[b].scores > LEAST_SCORE)
            if sure.sum() >= 5:
                each = disagreement(views, [people[a], people[b]], height)[sure]
                cost[a, b] = float(np.median(each))
    groups = [[k] for k in range(len(people))]
    while True:
        best: tuple[float, int, int] | None = None
        for i, j in combinations(range(len(groups)), 2):
            pairs = [tuple(sorted((a, b))) for a in groups[i] for b in groups[j]]
            if all(pair in cost for pair in pairs):
                mean = float(np.mean([cost[pair] for pair in pairs]))  # type: ignore[index]
                if mean < 0.1 and (best is None or mean < best[0]):
                    best = mean, i, j
        if best is None:
            return [[people[k] for k in group] for group in groups]
        _, i, j = best
        groups[i] += groups.pop(j)


def height_of(places: np.ndarray, joints: Skeleton) -> float:
    """Millimetres of a triangulated person [J, 3] from ankle to the top of the head, along the bones."""

    def at(name: str) -> np.ndarray:
        names = [name] if name in joints.index else [f"left_{name}", f"right_{name}"]
        return np.mean([places[joints.index[n]] for n in names], axis=0)

    return float(sum(np.linalg.norm(at(a) - at(b)) for a, b in _SEGMENTS))


def seen_at(videos: list[VideoPoses], t: int) -> list[Person]:
    """Everybody that any camera has found in frame ``t``, with PoseTrack's joints."""
    people = []
    for v, video in enumerate(videos):
        frame = video.frames[t]
        for points, scores in zip(frame.keypoints, frame.scores, strict=True):
            whole = convert_keypoints(np.column_stack([points, scores]), video.skeleton, POSETRACK15)
            people.append(Person(v, whole[:, :2], whole[:, 2]))
    return people


def largest_groups(views: list[View], people: list[Person], height: float, count: int) -> list[list[Person]]:
    """The ``count`` people that most cameras agree on, those of too few cameras left out."""
    groups = sorted(match(views, people, height), key=lambda g: (len(g), sum(p.scores.sum() for p in g)))
    return [group for group in groups[::-1][:count] if len(group) >= LEAST_VIEWS]


def place_of(views: list[View], group: list[Person]) -> np.ndarray:
    """[J, 3] where a group sees the joints; each estimate counts as its score says."""
    points = np.stack([p.points for p in group])
    weights = np.stack([np.maximum(p.scores, 0.05) for p in group])
    return triangulate([views[p.view] for p in group], points, weights)


def reproject(views: list[View], group: list[Person], height: float) -> tuple[np.ndarray, np.ndarray]:
    """Where a group sees the joints [J, 3], and how far from there each estimate is [V, J], in heights."""
    places = place_of(views, group)
    return places, _misses(
        [views[p.view] for p in group], np.stack([p.points for p in group]), places, height
    )


def shown_poses(
    name: str, views: list[View], videos: list[VideoPoses], count: int, height: float
) -> list[Shown]:
    """Every pose of people whom three cameras find; ``name``: of the scene. ``height``: of its people."""
    found = []
    for t in range(min(len(video) for video in videos)):
        for group in largest_groups(views, seen_at(videos, t), height, count):
            _, misses = reproject(views, group, height)
            for person, miss in zip(group, misses.mean(axis=1).tolist(), strict=True):
                box = enclosing_box(person.points, np.ones(len(person.points), dtype=bool), margin=0.1)
                assert box is not None
                video = f"{name}_cam{person.view + 1:02d}"
                found.append(Shown(miss, video, t, person.points, np.ones(len(person.points)), box))
    return found


def score_scene(views: list[View], videos: list[VideoPoses], count: int) -> dict[str, float]:
    """The scores of one scene of ``count`` people."""
    frames = min(len(video) for video in videos)
    height = HEIGHT
    everyone: list[list[Person]] = []
    heights = []
    for t in range(frames):
        for group in largest_groups(views, seen_at(videos, t), height, count):
            everyone.append(group)
            heights.append(height_of(place_of(views, group), POSETRACK15))
    if not everyone:
        nothing = {"found": 0.0, "found_three": 0.0, "people": 0.0}
        return {**nothing, "error_height": float("nan"), "height_mm": float("nan")}
    height = float(np.median(heights))
    misses = np.stack([disagreement(views, group, height) for group in everyone])
    least = np.stack([least_disagreement(views, group, height) for group in everyone])
    asked = frames * count * POSETRACK15.num_joints
    return {
        "found": float(100 * (misses <= SHARE).sum() / asked),
        "found_three": float(100 * (least <= SHARE).sum() / asked),
        "people": float(100 * len(everyone) / (frames * count)),
        "error_height": float(100 * np.median(misses)),
        "height_mm": height,
        **{f"found_{name}": float(100 * (misses[:, j] <= SHARE).sum() / (frames * count))
           for j, name in enumerate(POSETRACK15.joints)},
    }  # fmt: skip


def add_people_option(parser: argparse.ArgumentParser) -> None:
    """``--people``: {name of a scene: how many people it has}."""

    def counts(text: str) -> dict[str, int]:
        return {name: int(number) for name, number in (one.split("=") for one in text.split(","))}

    parser.add_argument(
        "--people",
        type=counts,
        default="p2s_single=1,p2s_multi=2",
        help="how many people each scene has",
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("poses", type=Path, nargs="+", help="folders that `vidpose estimate` wrote")
    parser.add_argument("--clips", type=Path, required=True)
    add_people_option(parser)
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    parser.add_argument(
        "--picture", type=Path, help="also draw the best, median and worst of the last folder"
    )
    options = parser.parse_args()
    results: dict[str, dict[str, dict[str, float]]] = {}
    try:
        columns = (
            f"{'joints found %':>15}{'any three %':>13}{'people %':>10}{'median error %':>16}{'height m':>10}"
        )
        print(f"{'':32}{'scene':14}{columns}")
        poses: list[Shown] = []
        for folder in options.poses:
            for name, count in options.people.items():
                views = read_views(options.clips / f"{name}_calibration.qca.txt")
                videos = [VideoPoses.load(folder / f"{name}_cam{k + 1:02d}.json") for k in range(len(views))]
                scores = score_scene(views, videos, count)
                if options.picture and folder == options.poses[-1]:
                    poses += shown_poses(name, views, videos, count, scores["height_mm"])
                results.setdefault(str(folder), {})[name] = scores
                print(
                    f"{str(folder)[-31:]:32}{name:14}{scores['found']:15.1f}{scores['found_three']:13.1f}"
                    f"{scores['people']:10.1f}{scores['error_height']:16.2f}"
                    f"{scores['height_mm'] / 1000:10.2f}"
                )
        if options.picture and poses:
            draw(
                poses,
                lambda pose: NumberedFrames(options.clips / f"{pose.video}.mp4").image(pose.frame),
                options.picture,
            )
    except (InputError, ValueError) as error:
        parser.error(str(error))
    if options.out:
        write_json(options.out, results)


if __name__ == "__main__":
    sys.exit(main())
