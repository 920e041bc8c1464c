"""Names of LSP-extended's images that no training may see: the people that real.py scores, and near copies.

    python benchmarks/held_out.py --lsp DIR -o held_out.txt
    vidpose train RECIPE data.mix='[{root: DIR, leave_out: held_out.txt}]'

Some pictures are there twice, or are neighbours in a series. A picture is left out, too, if its thumbnail of
16x16 grey pixels correlates above 0.93 with that of a held-out one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from real import read_people

from vidpose.data.readers import read_image
from vidpose.io.files import write_text

ALIKE, SIDE = 0.93, 16


def thumbnails(paths: list[Path]) -> np.ndarray:
    """[N, 256] grey thumbnails of mean 0 and length 1."""
    small = [
        cv2.resize(
            cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA
        )
        for path in paths
    ]
    rows = np.stack(small).reshape(len(small), -1).astype(np.float64)
    rows -= rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lsp", type=Path, required=True, help="folder of LSP-extended")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    people = read_people("", options.lsp, "train", layout="lsp")
    data, held = people.data, {sample.video for sample in people.samples}
    frames = [video.frames[0] for video in data.videos]
    rest = [v for v in range(len(frames)) if v not in held]
    near = thumbnails([frames[v].path for v in rest]) @ thumbnails([frames[v].path for v in sorted(held)]).T
    copies = [v for v, alike in zip(rest, near.max(axis=1) > ALIKE, strict=True) if alike]
    names = [frames[v].file_name for v in sorted([*held, *copies])]
    write_text(options.output, "\n".join(names) + "\n")
    print(f"{options.output}: {len(held)} held out and {len(copies)} near copies")


if __name__ == "__main__":
    main()
