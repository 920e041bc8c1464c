"""The table of methods: its rows, its text, and its figures against what was published."""

from __future__ import annotations

import json

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from vidpose.cli import app, main
from vidpose.errors import InputError
from vidpose.models.counting import MULTIPLY_ADDS, meta_model, multiply_adds
from vidpose.models.factory import create_model, list_models
from vidpose.models.table import WIDTH, format_models, model_table
from vidpose.models.video_model import count_parameters

KEYS = {
    *("name", "kind", "backbone", "input_size", "frames", "params_trainable", "params_total"),
    *("gmacs", "gflops_2x", "macs", "gmacs_convention", "paper"),
}
PAPER_KEYS = {"params", "gflops", "gflops_convention", "posetrack17", "posetrack18", "posetrack21"}


@pytest.fixture(scope="module")
def rows():
    return model_table()


def test_rows_of_one_model():
    rows = model_table("hrnet")
    assert [row["backbone"] for row in rows] == ["hrnet_w48", "hrnet_w32", "hrnet_w16_small"]
    first = rows[0]
    assert (first["name"], first["kind"], first["input_size"], first["frames"]) == (
        "hrnet",
        "image",
        [384, 288],
        1,
    )
    assert first["params_trainable"] == 48 * 15 + 15
    assert first["params_total"] - first["params_trainable"] == 63_594_912
    assert first["params_total"] == pytest.approx(first["paper"]["params"] * 1e6, rel=0.001)
    assert first["gmacs"] == first["macs"] / 2**30 and first["gmacs_convention"] == MULTIPLY_ADDS
    assert first["paper"]["posetrack17"] == 77.3


def test_every_model_is_there_and_json_ready(rows):
    assert json.loads(json.dumps(rows)) == rows
    assert list(dict.fromkeys(row["name"] for row in rows)) == list_models()
    for row in rows:
        assert set(row) == KEYS and set(row["paper"]) == PAPER_KEYS
        assert 0 < row["params_trainable"] < row["params_total"]
        assert row["gflops_2x"] == 2 * row["gmacs"] > 0


@pytest.mark.parametrize("name", ["tdmi", "tdmi_st"])
def test_tdmi_has_the_published_size(rows, name):
    (row,) = (row for row in rows if row["name"] == name)
    assert row["gmacs"] == pytest.approx(row["paper"]["gflops"], rel=0.05)
    assert (row["frames"], row["kind"]) == (5, "video")
    assert row["params_trainable"] == pytest.approx(row["paper"]["params"] * 1e6, rel=0.05)


def test_sdtc_has_the_published_size(rows):
    (row,) = (row for row in rows if row["name"] == "sdtc")
    assert row["gflops_2x"] == pytest.approx(row["paper"]["gflops"], rel=0.05)
    assert row["paper"]["gflops_convention"].startswith("2 x multiply-adds / 2^30")
    assert row["params_trainable"] == pytest.approx(row["paper"]["params"] * 1e6, rel=0.05)


def test_posewarper_has_the_published_size_in_the_unit_of_its_figure(rows):
    counted, default = (row for row in rows if row["name"] == "posewarper")
    assert counted["gmacs"] == pytest.approx(counted["paper"]["gflops"], rel=0.05)
    assert counted["gmacs"] == counted["macs"] / 1e9
    assert counted["gmacs_convention"] == counted["paper"]["gflops_convention"]
    assert counted["params_trainable"] == pytest.approx(counted["paper"]["params"] * 1e6, rel=0.05)
    assert default["frames"] == 5 and default["gmacs"] == default["macs"] / 2**30


@pytest.mark.parametrize("name", ["tdmi_st", "vitpose"])
def test_models_without_memory_are_the_models(name):
    """What is left out for speed changes no count."""
    arguments = {"backbone": "hrnet_w8_small" if name == "tdmi_st" else "vit_32x1x2", "input_size": (64, 64)}
    light, real = meta_model(name, **arguments), create_model(name, **arguments)
    assert {k: v.shape for k, v in light.state_dict().items()} == {
        k: v.shape for k, v in real.state_dict().items()
    }
    assert count_parameters(light) == count_parameters(real)
    assert all(p.is_meta for p in light.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        real.eval()(torch.zeros(1, real.num_frames, 3, 64, 64))
    assert multiply_adds(light) == counter.get_total_flops() // 2


def test_text_fits_and_shows_ours_beside_the_papers(rows):
    lines = format_models(rows).splitlines()
    assert max(map(len, lines)) <= WIDTH == 110
    groups, titles, rule, *body = lines
    assert {"ours", "paper"} <= set(groups.replace("-", " ").split())
    assert set(rule) <= {"-", " "}
    tdmi = dict(zip(titles.replace(" M", "_M").split(), body[0].split(), strict=True))
    assert tdmi == {
        "model": "tdmi", "backbone": "hrnet_w48", "input": "384x288", "T": "5", "train_M": "5.46",
        "total_M": "69.1", "GMACs": "198.9", "2xGMACs": "397.9", "params_M": "5.3", "GFLOPs": "198.0",
        "counts": "MACs", "PT17": "85.7", "PT18": "83.5", "PT21": "83.5",
    }  # fmt: skip
    assert sum(line.startswith(tuple(list_models())) for line in body) == len(rows)
    unpublished = next(line for line in body if "vit_h" in line)
    assert unpublished.split()[-6:] == ["-"] * 6


def test_text_of_one_model_tells_its_switches():
    text = format_models(model_table("tdmi_st"))
    assert max(map(len, text.splitlines())) <= WIDTH
    for words in ("fusion='progressive'", "estimator='club'", "spatio_temporal=True", "default hrnet_w48"):
        assert words in text
    assert "head='classic'" in format_models(model_table("vitpose"))


def test_unknown_model_names_the_known_ones():
    with pytest.raises(InputError, match=r"unknown model 'nobody'.*tdmi, tdmi_st"):
        model_table("nobody")


def test_command_line(capsys):
    found = CliRunner().invoke(app, ["models", "hrnet", "--json"])
    assert found.exit_code == 0
    assert json.loads(found.stdout) == model_table("hrnet")
    with pytest.raises(SystemExit) as stopped:
        main(["models", "nobody"])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("vidpose: unknown model 'nobody'") and message.count("\n") == 1
