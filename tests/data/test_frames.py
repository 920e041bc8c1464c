"""Frames: the same pixels from images, videos and packs; packs that are whole, continued and checked."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from tiny_datasets import make_hieve
from tiny_posetrack import make_posetrack
from vidpose.cli import app
from vidpose.data.clips import ClipDataset, ground_truth_samples
from vidpose.data.dataset import Frame, PoseDataset
from vidpose.data.frames import FramePack, FrameStore, read_frame, reduce_image, scaled_affine
from vidpose.data.pack import PackOptions, pack_frames
from vidpose.data.readers import read_dataset, read_image
from vidpose.errors import InputError
from vidpose.geometry import apply_affine
from vidpose.io.seek import VideoFile
from vidpose.io.video import VideoWriter, open_video

SIZES = {"input_size": (64, 48), "heatmap_size": (16, 12)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_posetrack(tmp_path_factory.mktemp("pt"), unlabeled=(0, 4, 5), frames=8)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 frames with a square that moves."""
    path = tmp_path_factory.mktemp("video") / "square.mp4"
    with VideoWriter(path, fps=10, size=(64, 96)) as writer:
        for k in range(40):
            picture = np.full((64, 96, 3), 30, dtype=np.uint8)
            picture[20:40, 2 * k : 2 * k + 12] = (200, 6 * k, 40)
            writer.write(picture)
    return path


def as_video(data: PoseDataset, video: Path) -> PoseDataset:
    """The same labels over frames of a video file."""
    videos = [
        replace(v, frames=[replace(f, path=video, video_frame=f.index + 3) for f in v.frames])
        for v in data.videos
    ]
    return replace(data, videos=videos)


# --- videos ----------------------------------------------------------------------------------------------


def test_a_video_at_any_frame_is_the_video_read_through(video: Path) -> None:
    frames = [frame.image for frame in open_video(video)]
    file = VideoFile(video)
    order = [*range(40), *np.random.default_rng(0).integers(0, 40, 20).tolist(), 39, 0, 39]
    assert all(np.array_equal(file.read(k), frames[k]) for k in order)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("no_times.h264", "libx264", {"g": "12", "bf": "3"}),
        ("open_groups.mp4", "libx264", {"x264-params": "keyint=12:open-gop=1:bframes=3"}),
        ("hidden_packets.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "12"}),
    ],
)
def test_odd_streams_at_any_frame(tmp_path: Path, name: str, codec: str, options: dict[str, str]) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for k in range(30):
            picture = np.full((64, 96, 3), 30, dtype=np.uint8)
            picture[20:40, 2 * k : 2 * k + 12] = (200, 6 * k, 40)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    frames = [frame.image for frame in open_video(path)]
    file = VideoFile(path)
    order = [*range(30), *np.random.default_rng(0).integers(0, 30, 10).tolist()]
    assert all(np.array_equal(file.read(k), frames[k]) for k in order)


def test_reading_on_does_not_go_back(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = VideoFile(video)
    jumps: list[int | None] = []
    seek = file._seek
    monkeypatch.setattr(file, "_seek", lambda ticks: (jumps.append(ticks), seek(ticks))[1])
    for k in range(0, 40, 3):
        file.read(k)
    keys = len(file._key_times)
    assert len(jumps) <= keys


def test_frames_that_a_video_lacks_are_named(video: Path, tmp_path: Path) -> None:
    frame = Frame(video, "a", 1, 0, (64, 96), True, video_frame=40)
    with pytest.raises(InputError, match=r"square\.mp4: frame 40 is missing"):
        read_frame(frame)
    with pytest.raises(InputError, match=r"none\.mp4: no such video"):
        read_frame(replace(frame, path=tmp_path / "none.mp4"))


# --- reduced frames --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 96), (63, 95), (256, 384)])
def test_reduced_frames_show_the_same_place(tmp_path: Path, size: tuple[int, int]) -> None:
    # the centre of mass of a spot, in the original and in the reduced picture under the scaled affine
    yy, xx = np.mgrid[: size[0], : size[1]]
    at = np.array([0.7 * size[1], 0.4 * size[0]])
    spot = 250 * np.exp(-((xx - at[0]) ** 2 + (yy - at[1]) ** 2) / (2 * (size[0] / 8) ** 2))
    path = tmp_path / "spot.png"
    cv2.imwrite(str(path), np.repeat(spot[..., None], 3, axis=2).round().astype(np.uint8))
    small = read_frame(Frame(path, "a", 1, 0, size, True), 48)
    assert max(small.shape) == 48
    scale = (small.shape[1] / size[1], small.shape[0] / size[0])
    weight = small[..., 0].astype(float)
    weight /= weight.sum()
    sy, sx = np.mgrid[: small.shape[0], : small.shape[1]]
    mass = np.array([(weight * sx).sum(), (weight * sy).sum()])
    full = read_image(path)[..., 0].astype(float)
    full /= full.sum()
    truth = np.array([(full * xx).sum(), (full * yy).sum()])
    affine = np.array([[0.8, -0.2, 4], [0.1, 1.1, -7]])
    assert np.abs(apply_affine(scaled_affine(affine, scale), mass) - apply_affine(affine, truth)).max() < 0.15


def test_reduced_frames_change_pixels_not_labels(root: Path) -> None:
    data = read_dataset(root, "train")
    samples = ground_truth_samples(data)
    full = ClipDataset(data, samples, num_frames=3, augment="uniform", **SIZES)
    small = ClipDataset(data, samples, num_frames=3, augment="uniform", frame_size=48, **SIZES)
    for k in range(len(samples)):
        a, b = full[k], small[k]
        assert all(np.array_equal(a[key], b[key]) for key in ("points", "weights", "affine"))
        assert not np.array_equal(a["clip"], b["clip"])
        blurred = [cv2.GaussianBlur(item["clip"][1].astype(float), (0, 0), 4) for item in (a, b)]
        assert np.abs(blurred[0] - blurred[1]).mean() < 4


# --- packs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [False, True])
def test_packed_frames_are_the_frames(root: Path, tmp_path: Path, raw: bool) -> None:
    data = read_dataset(root, "train")
    pack_frames(root, tmp_path / "pack", options=PackOptions(raw=raw))
    samples = ground_truth_samples(data)
    packed = ClipDataset(data, samples, num_frames=5, cache="pack", pack=tmp_path / "pack", **SIZES)
    plain = ClipDataset(data, samples, num_frames=5, **SIZES)
    assert all(np.array_equal(packed[k]["clip"], plain[k]["clip"]) for k in range(len(samples)))


def test_images_are_packed_byte_by_byte_into_a_tar(root: Path, tmp_path: Path) -> None:
    pack_frames(root, tmp_path / "pack", splits=["train"], neighbours=None)
    with tarfile.open(tmp_path / "pack" / "train-00000.tar") as tar:
        for member in tar.getmembers():
            held = tar.extractfile(member)
            assert held is not None and held.read() == (root / member.name).read_bytes()
        assert len(tar.getmembers()) == 16


def test_raw_frames_of_videos_are_exact(root: Path, video: Path, tmp_path: Path) -> None:
    data = as_video(read_dataset(root, "train"), video)
    keys = [(v, f) for v in range(2) for f in range(8)]
    pictures = [frame.image for frame in open_video(video)]
    for store in (FrameStore(data), FrameStore(data, "ram", keys)):
        assert all(np.array_equal(store.get(v, f), pictures[f + 3]) for v, f in keys[::-1])


def test_a_data_set_of_videos_is_packed_exactly(tmp_path: Path) -> None:
    root = make_hieve(tmp_path / "hieve")
    options = PackOptions(raw=True)
    done = CliRunner().invoke(app, ["data", "pack", str(root), "--raw", "--workers", "2", "--json", "-q"])
    assert done.exit_code == 0 and json.loads(done.stdout)["pixels"] == "raw pixels"
    assert pack_frames(root, options=options).kept == json.loads(done.stdout)["frames"]
    data = read_dataset(root, "train")
    keys = [(v, f) for v, video in enumerate(data.videos) for f in range(len(video.frames))]
    packed, plain = FrameStore(data, "pack", keys), FrameStore(data)
    assert all(np.array_equal(packed.get(*key), plain.get(*key)) for key in keys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "small"], "--size is 'small'"),
        (["--size", "3"], "--size is 3"),
        (["--quality", "0"], "--quality is 0"),
        (["--neighbours", "-1"], "--neighbours is '-1'"),
        (["--workers", "0"], "--workers is 0"),
        (["--split", "nowhere"], "nowhere"),
    ],
)
def test_wrong_options_leave_nothing(root: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(
            app, ["data", "pack", str(root), "-o", str(tmp_path / "pack"), *arguments], catch_exceptions=False
        )
    assert not (tmp_path / "pack").exists()


def test_only_needed_frames_are_packed(root: Path, tmp_path: Path) -> None:
    # labelled: 1, 2, 3, 6, 7
    for neighbours, wanted in ((0, 5), (1, 8), (None, 8)):
        summary = pack_frames(root, tmp_path / f"{neighbours}", splits=["train"], neighbours=neighbours)
        assert summary.frames == 2 * wanted
    data = read_dataset(root, "train")
    with pytest.raises(InputError, match=r"lacks 6 of 16 frames of split 'train', .*--neighbours"):
        ClipDataset(
            data, ground_truth_samples(data), num_frames=3, cache="pack", pack=tmp_path / "0", **SIZES
        )


def test_a_broken_off_pack_is_continued(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidpose.data.pack.SHARD_FRAMES", 4)
    bad = make_posetrack(tmp_path / "pt", splits=("train",), videos=3)
    image = read_dataset(bad, "train").videos[2].frames[3].path
    content = image.read_bytes()
    image.write_bytes(content[:50])
    with pytest.raises(InputError, match=r"000003\.jpg: cannot be decoded"):
        pack_frames(bad)
    with pytest.raises(InputError, match="holds no packed frames"):
        FrameStore(read_dataset(bad, "train"), "pack")
    assert sorted(p.suffix for p in (bad / "pack").iterdir()) == [".jsonl"] * 2 + [".tar"] * 2
    image.write_bytes(content)
    summary = pack_frames(bad)
    assert (summary.frames, summary.kept) == (18, 12)
    # a frame that has changed since is packed again, with its shard
    image.write_bytes(read_dataset(bad, "train").videos[0].frames[0].path.read_bytes())
    assert pack_frames(bad).kept == 12
    FramePack(bad / "pack").verify()
    assert pack_frames(bad).kept == 18


def left_by_a_killed_call(path: Path) -> None:
    write = "import os, signal, sys; from vidpose.io.files import atomic_path\n"
    write += "with atomic_path(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", write, str(path)])
    assert any(file.name.startswith(f".{path.stem}-") for file in path.parent.iterdir())


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_packing_leaves_what_is_not_of_a_pack_as_it_is(root: Path, tmp_path: Path) -> None:
    names = ("notes.jsonl", "notes.tar", "list.jsonl", "train-00007.jsonl", "train-00007.tar", ".backup.tar",
             ".train-00000-backup.tar", "train.tar")  # fmt: skip
    for name in names:
        (tmp_path / name).write_text("[1]\n" if name == "list.jsonl" else '{"mine": 1}\n')
    before = content_of(tmp_path)
    for name in ("train-00003.tar", "index.jsonl"):
        left_by_a_killed_call(tmp_path / name)
    for _ in range(2):
        pack_frames(root, tmp_path, splits=["train"])
        made = {"index.jsonl", "train-00000.jsonl", "train-00000.tar"}
        assert {k: v for k, v in content_of(tmp_path).items() if k not in made} == before
    FramePack(tmp_path).verify()


@pytest.mark.parametrize("name", ["index.jsonl", "train-00000.jsonl", "train-00000.tar", "val-00000.tar"])
@pytest.mark.parametrize("text", ['{"text": "mine"}\n', "[1]\n", "", "\xff\x00"])
def test_a_file_of_the_user_that_has_a_name_of_the_pack_is_not_replaced(
    root: Path, tmp_path: Path, name: str, text: str
) -> None:
    pack_frames(root, tmp_path, splits=["val"])
    for suffix in (".tar", ".jsonl") if name.startswith("val") else ():
        (tmp_path / f"val-00000{suffix}").unlink()
    left_by_a_killed_call(tmp_path / "val-00000.tar")
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    before = content_of(tmp_path)
    with pytest.raises(InputError, match=rf"{re.escape(name)}: is there already and is not of a pack; .*-o"):
        pack_frames(root, tmp_path)
    assert content_of(tmp_path) == before


def test_shards_that_are_no_longer_needed_go(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidpose.data.pack.SHARD_FRAMES", 4)
    pack_frames(root, tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "train-00001.tar").exists() and (tmp_path / "val-00001.tar").exists()
    pack_frames(root, tmp_path, splits=["train"])
    stems = {"index", "train-00000", *(f"val-0000{k}" for k in range(2))}
    assert {path.stem for path in tmp_path.iterdir()} == stems
    FramePack(tmp_path).verify()


def test_a_pack_whose_writer_was_killed_at_the_worst_moment_is_continued(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_file = os.replace

    def killed(source: Path, target: Path) -> None:
        if str(target).endswith(".tar"):
            raise KeyboardInterrupt
        replace_file(source, target)

    monkeypatch.setattr("vidpose.io.files.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        pack_frames(root, tmp_path, splits=["train"])
    monkeypatch.undo()
    assert (tmp_path / "train-00000.jsonl").exists() and not (tmp_path / "train-00000.tar").exists()
    assert pack_frames(root, tmp_path, splits=["train"]).kept == 0
    FramePack(tmp_path).verify()


def test_a_pack_goes_to_another_process_without_its_frames(root: Path, tmp_path: Path) -> None:
    pack_frames(root, tmp_path, splits=["train"], options=PackOptions(raw=True))
    store = FrameStore(read_dataset(root, "train"), "pack", [(0, 1)], pack=tmp_path)
    sent = pickle.dumps(store)
    assert len(sent) < (tmp_path / "train-00000.tar").stat().st_size / 10
    assert np.array_equal(pickle.loads(sent).get(0, 1), store.get(0, 1))


def test_a_second_split_is_added(root: Path, tmp_path: Path) -> None:
    pack_frames(root, tmp_path, splits=["train"])
    with pytest.raises(InputError, match=r"lacks .* of split 'val'"):
        FrameStore(read_dataset(root, "val"), "pack", [(0, 1)], pack=tmp_path)
    pack_frames(root, tmp_path, splits=["val"])
    for split in ("train", "val"):
        FrameStore(read_dataset(root, split), "pack", [(0, 1)], pack=tmp_path)


def test_damage_is_found(root: Path, tmp_path: Path) -> None:
    pack_frames(root, tmp_path, splits=["train"])
    data = read_dataset(root, "train")
    shard = tmp_path / "train-00000.tar"
    content = bytearray(shard.read_bytes())
    row = FramePack(tmp_path).rows["images/train/000001_mpii_test/000002.jpg"]
    content[row[1] + row[2] // 2] ^= 0x10
    shard.write_bytes(content)
    store = FrameStore(data, "pack", [(0, 2)], pack=tmp_path)
    store.get(0, 1)
    with pytest.raises(InputError, match=r"train-00000\.tar: frame at byte \d+ is damaged"):
        store.get(0, 2)
    shard.write_bytes(content[:-512])
    with pytest.raises(InputError, match=r"train-00000\.tar: has \d+ bytes, \d+ were written"):
        FrameStore(data, "pack", [(0, 2)], pack=tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"index\.jsonl: is empty"),
        ("{", r"index\.jsonl:1: is damaged"),
        ("{}\n", "no index of version 1"),
    ],
)
def test_a_broken_index_is_named(root: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "index.jsonl").write_text(text)
    with pytest.raises(InputError, match=message):
        FrameStore(read_dataset(root, "train"), "pack", pack=tmp_path)


def test_a_pack_of_reduced_frames_is_asked_for_by_size(root: Path, tmp_path: Path) -> None:
    pack_frames(root, tmp_path, splits=["train"], options=PackOptions(frame_size=48, raw=True))
    data = read_dataset(root, "train")
    with pytest.raises(InputError, match=r"long side of 48, .* as they are: set data\.frame_size=48"):
        FrameStore(data, "pack", [(0, 1)], pack=tmp_path)
    store = FrameStore(data, "pack", [(0, 1)], pack=tmp_path, frame_size=48)
    image = store.get(0, 1)
    assert np.array_equal(image, reduce_image(read_image(data.videos[0].frames[1].path), 48))
    assert store.scale(0, 1, image) == (0.5, 0.5)
    with pytest.raises(InputError, match=r"other options \(frame_size\)"):
        pack_frames(root, tmp_path, splits=["val"], options=PackOptions(raw=True))
