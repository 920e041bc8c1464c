"""Label files as other tools write them, by hand from those tools' documentation; and random data sets."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.layouts.shared import made_box
from vidpose.skeletons import COCO17, HIEVE14, POSETRACK15, Skeleton

# --- files -------------------------------------------------------------------------------------------------

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>5</id>
      <name>street</name>
      <size>8</size>
      <mode>interpolation</mode>
      <start_frame>0</start_frame>
      <stop_frame>7</stop_frame>
      <labels>
        <label><name>person</name><attributes></attributes></label>
        <label><name>body</name><type>skeleton</type><attributes></attributes><svg></svg></label>
        <label><name>Left Shoulder</name><type>points</type><parent>body</parent></label>
        <label><name>left_elbow</name><type>points</type><parent>body</parent></label>
      </labels>
      <original_size><width>640</width><height>480</height></original_size>
    </task>
    <dumped>2024-01-01 16:05:07.134046+03:00</dumped>
  </meta>
  <track id="0" label="person" source="manual" group_id="4">
    <box frame="1" outside="0" occluded="0" keyframe="1" xtl="10.00" ytl="20.00" xbr="50.00" ybr="100.00">
    </box>
    <box frame="5" outside="0" occluded="0" keyframe="1" xtl="18.00" ytl="20.00" xbr="58.00" ybr="108.00">
    </box>
    <box frame="6" outside="1" occluded="0" keyframe="1" xtl="18.00" ytl="20.00" xbr="58.00" ybr="108.00">
    </box>
  </track>
  <track id="1" label="body" source="manual" group_id="4">
    <skeleton frame="1" keyframe="1" z_order="0">
      <points label="Left Shoulder" outside="0" occluded="0" keyframe="1" points="20.00,30.00">
      </points>
      <points label="left_elbow" outside="0" occluded="1" keyframe="1" points="24.00,50.00">
      </points>
    </skeleton>
    <skeleton frame="3" keyframe="1" z_order="0">
      <points label="Left Shoulder" outside="0" occluded="0" keyframe="1" points="24.00,30.00">
      </points>
      <points label="left_elbow" outside="1" occluded="0" keyframe="1" points="24.00,50.00">
      </points>
    </skeleton>
    <skeleton frame="6" keyframe="1" z_order="0">
      <points label="Left Shoulder" outside="1" occluded="0" keyframe="1" points="24.00,30.00">
      </points>
      <points label="left_elbow" outside="1" occluded="0" keyframe="1" points="24.00,50.00">
      </points>
    </skeleton>
  </track>
  <track id="2" label="person" source="manual">
    <box frame="6" outside="0" occluded="0" keyframe="1" xtl="0.00" ytl="0.00" xbr="5.00" ybr="6.00">
    </box>
  </track>
</annotations>
"""


def studio_region(name: str, kind: str, value: dict, **more: object) -> dict:
    """A result of Label Studio in a picture of 200 x 100."""
    place = {"original_width": 200, "original_height": 100, "image_rotation": 0}
    return {"id": name, "type": kind, "from_name": "tag", "to_name": "img", **place, "value": value, **more}


STUDIO = [
    {
        "id": 1,
        "data": {"image": "/data/local-files/?d=street/0001.jpg"},
        "annotations": [
            {"id": 3, "was_cancelled": True, "result": []},
            {
                "id": 1001,
                "was_cancelled": False,
                "result": [
                    studio_region(
                        "bx", "rectanglelabels",
                        {
                            "x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0,
                            "rectanglelabels": ["Person"],
                        },
                    ),
                    studio_region(
                        "k1", "keypointlabels",
                        {"x": 12.5, "y": 25, "width": 0.5, "keypointlabels": ["nose"]}, parentID="bx",
                    ),
                    studio_region(
                        "k2", "keypointlabels",
                        {"x": 90, "y": 90, "width": 0.5, "keypointlabels": ["left_eye"]},
                    ),
                    {"type": "relation", "from_id": "k2", "to_id": "bx", "direction": "right"},
                ],
            },
        ],
    },
    {"id": 2, "data": {"image": "https://example.com/a%20b/0002.png"}, "annotations": []},
]  # fmt: skip

STUDIO_VIDEO = [
    {
        "id": 7,
        "data": {"video": "/data/upload/1/clip.mp4", "width": 200, "height": 100},
        "annotations": [
            {
                "result": [
                    {
                        "id": "t", "type": "videorectangle", "from_name": "box", "to_name": "video",
                        "value": {
                            "framesCount": 12, "duration": 0.48, "labels": ["Person"],
                            "sequence": [
                                {"frame": 1, "enabled": True, "x": 38, "y": 38, "width": 41, "height": 22},
                                {"frame": 5, "enabled": False, "x": 40, "y": 49, "width": 41, "height": 22},
                                {"frame": 11, "enabled": True, "x": 10, "y": 10, "width": 5, "height": 5},
                            ],
                        },
                    }
                ]
            }
        ],
    }
]  # fmt: skip

MOT_GT = """1,1,912,484,97,109,1,1,0.5
2,1,912.5,484,97,109.25,1,1,1
2,2,100,100,20,30,0,1,1
3,3,1,1,10,20,0,13,-1
3,4,5,5,5,5,1,3,1
"""
MOT_INFO = """[Sequence]
name=MOT16-02
imDir=img1
frameRate=30
seqLength=4
imWidth=1920
imHeight=1080
imExt=.jpg
"""


def write_images(data: PoseDataset, root: Path) -> None:
    """Files of which no more than the header, with the size, is there."""
    for _, frame in data.frames():
        path = root / frame.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", SIZE[1], SIZE[0])
        path.write_bytes(header)


def write_mot(folder: Path) -> Path:
    """A sequence as the MOT challenge has it."""
    (folder / "gt").mkdir(parents=True)
    (folder / "gt" / "gt.txt").write_text(MOT_GT)
    (folder / "seqinfo.ini").write_text(MOT_INFO)
    return folder


def coco_file() -> dict:
    """A file of COCO with a hidden joint, a visible one, and a crowd."""
    keypoints = [0.0] * 51
    joints = list(COCO17.joints)
    keypoints[0:6] = [10, 20.5, 2, 12, 18, 1]  # nose visible, left eye hidden
    person = {"image_id": 139, "category_id": 1, "area": 1234.5, "segmentation": [[1, 2, 3, 4, 5, 6]]}
    return {
        "info": {"description": "COCO 2017 Dataset"},
        "licenses": [],
        "images": [
            {"id": 139, "file_name": "000000000139.jpg", "height": 426, "width": 640, "license": 2},
            {"id": 285, "file_name": "000000000285.jpg", "height": 640, "width": 586, "license": 4},
        ],
        "annotations": [
            {**person, "id": 9, "iscrowd": 0, "num_keypoints": 2, "keypoints": keypoints,
             "bbox": [1.5, 2, 30, 40]},
            {**person, "id": 10, "iscrowd": 1, "num_keypoints": 0, "keypoints": [0] * 51,
             "bbox": [0, 0, 9, 9]},
        ],
        "categories": [{"id": 1, "name": "person", "supercategory": "person", "keypoints": joints}],
    }  # fmt: skip


# --- random data sets --------------------------------------------------------------------------------------

_SKELETONS = (POSETRACK15, COCO17, HIEVE14)
SIZE = (720, 1280)
_names = st.sampled_from(
    ["000001_mpii_test", "012834_bonn", "a b", "straße & <1>", '日本 "x"', "v.1", "100%"]
)
_numbers = st.one_of(
    st.builds(lambda n, k: n / 10**k, st.integers(-(10**6), 10**7), st.integers(4, 7)),
    st.integers(-100, 1500).map(float),
    st.floats(-50, 1500, allow_nan=False, width=64).map(lambda x: x if abs(x) > 1e-3 else 0.5),
)
_score = st.one_of(st.floats(0.001, 1), st.sampled_from([0.5, 1.0]))


@st.composite
def boxes(draw: st.DrawFn) -> np.ndarray:
    """[4] xyxy."""
    xs, ys = sorted([draw(_numbers), draw(_numbers)]), sorted([draw(_numbers), draw(_numbers)])
    return np.array([xs[0], ys[0], xs[1], ys[1]])


@st.composite
def people(draw: st.DrawFn, skeleton: Skeleton, track_id: int, scored: bool, person_id: int | None) -> Person:
    """Somebody with a box, or with a shoulder, which every joint set has."""
    count = skeleton.num_joints
    labelled = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    has_box = draw(st.booleans()) or not labelled.any()
    if not has_box:
        labelled[skeleton.index["left_shoulder"]] = True
    points = np.zeros((count, 3))
    seen = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count))) & labelled
    for j in np.flatnonzero(labelled):
        points[j] = (draw(_numbers) or 1.5, draw(_numbers) or 2.5, 1)
    scores = None
    if scored and labelled.any() and draw(st.booleans()):
        scores = np.array([draw(_score) if on else 0.0 for on in labelled])
    return Person(
        keypoints=points,
        box_xyxy=draw(boxes()) if has_box else made_box(points),
        head_box_xyxy=draw(boxes()) if draw(st.booleans()) else None,
        track_id=track_id,
        visible=seen,
        box_is_given=has_box,
        is_crowd=not scored and draw(st.integers(0, 4)) == 0,
        person_id=person_id,
        score=draw(_score) if scored else None,
        joint_scores=scores,
    )


@st.composite
def datasets(draw: st.DrawFn) -> PoseDataset:
    """Videos with frames that are labelled or not, with nobody or several people, crowds among them."""
    skeleton = draw(st.sampled_from(_SKELETONS))
    scored = draw(st.booleans())
    videos = []
    for v, name in enumerate(draw(st.lists(_names, min_size=1, max_size=2, unique=True))):
        known = draw(st.booleans())
        fps = draw(st.sampled_from([None, 25.0, 29.97]))
        frames = []
        for f in range(draw(st.integers(1, 4))):
            ids = draw(st.lists(st.integers(0, 3), max_size=2, unique=True))
            mine = [draw(people(skeleton, i, scored, 10 * v + i if known else None)) for i in ids]
            region = np.array([[1.0, 2], [30.5, 2], [30.5, draw(_numbers)]])
            file_name = f"images/val/{name}/{f:06d}.jpg"
            frames.append(
                Frame(
                    path=Path(file_name),
                    file_name=file_name,
                    image_id=10**10 + (v + 3) * 10**4 + f,
                    index=f,
                    size=SIZE,
                    is_labeled=bool(mine) or draw(st.booleans()),
                    people=mine,
                    ignore_regions=[region] * draw(st.integers(0, 2)),
                )
            )
        videos.append(Video(name, frames, Path("nowhere"), fps=fps))
    return PoseDataset(videos, skeleton, Path("."), "val", "random")
