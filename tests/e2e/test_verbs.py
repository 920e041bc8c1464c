"""The other verbs: help, models, export, data; each answers as the interface says."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny_clip import FRAMES, SIZE

VERBS = ("estimate", "train", "validate", "evaluate", "data", "models", "weights", "export", "view")


def test_help_lists_every_verb_and_imports_nothing_heavy():
    code = (
        "import sys; from vidpose.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as e: assert not e.code\n"
        "heavy = {'torch', 'numpy', 'cv2', 'av', 'transformers', 'lightning', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for verb in VERBS:
        assert verb in done.stdout


def test_as_a_command_from_a_shell(tmp_path):
    """What a shell sees: the status, one line, no traceback, even from a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "vidpose.cli", "estimate", "none.mp4", "-o", "out"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "vidpose: none.mp4: no such file or folder\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help(vidpose, verb):
    answer = vidpose(verb, "--help")
    assert answer.status == 0 and verb in answer.out and answer.err == ""


def test_version(vidpose):
    from vidpose import __version__

    assert vidpose("--version").out == f"vidpose {__version__}\n"


def test_models(vidpose):
    from vidpose import list_models

    rows = vidpose("models", "--json").json
    assert {row["name"] for row in rows} == set(list_models())  # some with several backbones
    for row in rows:
        assert set(row) >= {
            "name", "kind", "backbone", "input_size", "frames", "params_trainable", "params_total", "gmacs",
            "paper",
        }  # fmt: skip
        assert row["kind"] in ("video", "image") and 0 < row["params_trainable"] <= row["params_total"]


def test_one_model(vidpose):
    answer = vidpose("models", "hrnet")
    assert answer.status == 0 and "hrnet" in answer.out and "tdmi" not in answer.out


def test_export_onnx_answers_like_the_model(vidpose, weights, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "hrnet.onnx"
    answer = vidpose("export", "hrnet", "--weights", weights["hrnet"], "-o", path, "--json")
    assert answer.status == 0, answer.err
    session = onnxruntime.InferenceSession(str(path))
    from vidpose import load_model

    model = load_model(weights["hrnet"]).eval()
    crop = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    given = session.get_inputs()[0]
    clip = crop[:, None] if len(given.shape) == 5 else crop
    with torch.inference_mode():
        expected = model(clip).heatmaps.numpy()
    np.testing.assert_allclose(session.run(None, {given.name: clip.numpy()})[0], expected, atol=1e-3)


def test_export_program_answers_like_the_model(vidpose, weights, tmp_path):
    path = tmp_path / "hrnet.pt2"
    answer = vidpose("export", "hrnet", "--weights", weights["hrnet"], "-o", path)
    assert answer.status == 0, answer.err
    from vidpose import load_model

    clip = torch.randn(1, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = load_model(weights["hrnet"]).eval()(clip).heatmaps
        torch.testing.assert_close(torch.export.load(path).module()(clip), expected, atol=1e-3, rtol=1e-3)


def test_a_synthetic_data_set_is_described_and_checked(vidpose, data, truth):
    labels = json.loads(truth.read_text())
    described = vidpose("data", "info", data, "--json")
    assert described.status == 0
    text = json.dumps(described.json)
    assert str(FRAMES) in text and str(len(labels["annotations"])) in text
    assert vidpose("data", "check", data).status == 0
    assert labels["images"][0]["height"] == SIZE[0] and labels["images"][0]["width"] == SIZE[1]


def test_a_broken_data_set_is_told(vidpose, data, tmp_path):
    import shutil

    shutil.copytree(data, tmp_path / "copy")
    image = next((tmp_path / "copy").glob("images/val/*/*.jpg"))
    image.unlink()
    answer = vidpose("data", "check", tmp_path / "copy")
    assert answer.status == 2 and image.name in answer.out


def test_the_same_seed_gives_the_same_data(vidpose, data, tmp_path):
    answer = vidpose(
        "data", "synthesize", tmp_path / "again", "--videos", 1, "--frames", FRAMES, "--seed", 3, "--split",
        "val", "--size", f"{SIZE[1]}x{SIZE[0]}", "--write", "both", "--quiet", "--json",
    )  # fmt: skip
    assert answer.status == 0 and answer.json["frames"] == FRAMES
    for path in sorted(p for p in data.rglob("*") if p.suffix in (".jpg", ".json")):
        assert (tmp_path / "again" / path.relative_to(data)).read_bytes() == path.read_bytes()
