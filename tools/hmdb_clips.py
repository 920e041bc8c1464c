"""The 928 clips of HMDB51 that have person masks, as a data set without joints.

Clone WhiteChan/Rec_JHMDB (videos) and rendicahya/jhmdb-scripts (masks), then give their git directories:

    python tools/hmdb_clips.py VIDEOS_GIT MASKS_GIT OUT [--every 2]

OUT gets images/CLIP/000000.jpg, masks/CLIP/000000.png (255: person) and annotations/{train,val}/CLIP.json in
PoseTrack18's layout, with the mask's box for every frame and no joint labelled. Every fourth film is ``val``:
by a hash of its name, so that a film of the same name is on the same side in every data set made this way.
``--every N``: every N-th frame of a clip. tools/teacher_labels.py labels them.

HMDB51 (Kuehne et al., ICCV 2011) is licensed CC BY 4.0 by its owners.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import re
import subprocess
from pathlib import Path

import av
import cv2
import numpy as np
from scipy.io import loadmat

from vidpose.io.files import write_json
from vidpose.skeletons import POSETRACK18

VALIDATION = 4
"""One film of so many is kept for validation."""


def git(directory: Path, *arguments: str) -> bytes:
    return subprocess.run(
        ["git", f"--git-dir={directory}", *arguments], capture_output=True, check=True
    ).stdout


def split_of(action: str, name: str) -> str:
    """``train`` or ``val``; all clips of a film are on one side."""
    film = re.split(f"_{re.escape(action)}_", name)[0].lower()
    digest = hashlib.sha256(f"split{film}".encode()).hexdigest()
    return "train" if int(digest, 16) % VALIDATION else "val"


def write_clip(video: bytes, masks: np.ndarray, out: Path, number: int, stem: str, every: int) -> dict:
    """Writes frames and masks of one clip.

    Args:
        video: the file's bytes.
        masks: [H, W, F] person masks.

    Returns:
        Its PoseTrack18 document, a box for each frame with a mask.
    """
    (out / "images" / stem).mkdir(parents=True, exist_ok=True)
    (out / "masks" / stem).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for i, frame in enumerate(av.open(io.BytesIO(video)).decode(video=0)):
        if i >= masks.shape[2] or i % every:
            continue
        name = f"images/{stem}/{i:06d}.jpg"
        frame.to_image().save(out / name, quality=95)
        cv2.imwrite(str(out / f"masks/{stem}/{i:06d}.png"), (masks[..., i] > 0).astype(np.uint8) * 255)
        image_id = (20_000_000 + number) * 10_000 + i
        images.append(
            {
                "id": image_id, "frame_id": image_id, "file_name": name, "vid_id": f"{number:06d}",
                "nframes": masks.shape[2], "is_labeled": True, "width": frame.width, "height": frame.height,
            }
        )  # fmt: skip
        rows, columns = np.nonzero(masks[..., i])
        if not len(rows):
            continue
        left, top = int(columns.min()), int(rows.min())
        box = [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1]
        annotations.append(
            {
                "id": image_id * 10, "image_id": image_id, "category_id": 1, "track_id": 0, "bbox": box,
                "keypoints": [0] * (3 * POSETRACK18.num_joints),
            }
        )  # fmt: skip
    category = {
        "id": 1, "name": "person", "supercategory": "person", "keypoints": list(POSETRACK18.joints),
        "skeleton": [],
    }  # fmt: skip
    return {"images": images, "annotations": annotations, "categories": [category]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", type=Path, help="git directory of the videos")
    parser.add_argument("masks", type=Path, help="git directory of the masks")
    parser.add_argument("out", type=Path)
    parser.add_argument("--every", type=int, default=1, help="every n-th frame of a clip (default 1)")
    options = parser.parse_args()
    if options.every < 1:
        parser.error(f"--every is {options.every}: 1 or more is needed")
    for directory in (options.videos, options.masks):
        try:
            git(directory, "rev-parse", "HEAD")
        except subprocess.CalledProcessError as error:
            why = (error.stderr.decode(errors="replace").strip() or "git failed").splitlines()[-1]
            parser.error(f"{directory}: no git directory with a commit ({why})")
    listed = git(options.masks, "ls-tree", "-r", "--name-only", "HEAD", "mask").decode().splitlines()
    listed = sorted(name for name in listed if name.endswith(".mat"))
    if not listed:
        parser.error(f"{options.masks}: no masks (mask/ACTION/*.mat) in its last commit")
    written = 0
    for number, path in enumerate(listed):
        action, stem = Path(path).parent.name, Path(path).stem
        masks = loadmat(io.BytesIO(git(options.masks, "show", f"HEAD:{path}")))["part_mask"]
        try:
            video = git(options.videos, "show", f"HEAD:data/{action}/{stem}.avi")
        except subprocess.CalledProcessError:
            print(f"{action}/{stem}.avi: no such video")
            continue
        clip = f"{number:06d}_{stem}"
        document = write_clip(video, masks, options.out, number, clip, options.every)
        write_json(options.out / "annotations" / split_of(action, stem) / f"{clip}.json", document)
        written += 1
    print(f"{options.out}: {written} clips")


if __name__ == "__main__":
    main()
