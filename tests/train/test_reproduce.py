"""Reproducing tables: which data are found, what is planned and refused, real runs that stop and go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tiny_posetrack import as_posetrack17, make_posetrack
from vidpose.cli import main
from vidpose.errors import InputError
from vidpose.models.factory import create_model, save_model
from vidpose.train import callbacks, runs
from vidpose.train.published import find_paper, find_rows
from vidpose.train.reproduce import format_plan, machine, reproduce
from vidpose.train.reproduce_plan import Choices, PlannedRow, find_data, plan_rows
from vidpose.train.validation import evaluation_settings

# --- data ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with PoseTrack17 in its own layout, 18, and 21, in folders whose names say nothing."""
    root = tmp_path_factory.mktemp("sets")
    for seed, name in enumerate(("a", "b", "inner/c")):
        make_posetrack(root / name, videos=1, frames=4, seed=seed)
    for file in (root / "a").glob("annotations/*/*.json"):
        file.write_text(json.dumps(as_posetrack17(json.loads(file.read_text()))))
    for file in (root / "inner" / "c").glob("annotations/*/*.json"):
        content = json.loads(file.read_text())
        for person in content["annotations"]:
            person["person_id"] = 1
        file.write_text(json.dumps(content))
    (root / "boxes").mkdir()
    (root / "boxes" / "val.json").write_text("[]")
    return root


def test_data_sets_are_told_by_their_files(data: Path) -> None:
    expected = {"posetrack17": data / "a", "posetrack18": data / "b", "posetrack21": data / "inner" / "c"}
    assert find_data([str(data)]) == expected
    assert find_data([str(data / "b"), str(data / "inner")]) == {
        key: expected[key] for key in ("posetrack18", "posetrack21")
    }
    assert find_data([f"posetrack17={data / 'b'}"]) == {"posetrack17": data / "b"}


def test_a_converted_posetrack17_is_told_by_its_folder(tmp_path: Path) -> None:
    make_posetrack(tmp_path / "PoseTrack2017_json", videos=1, frames=1)
    assert list(find_data([str(tmp_path)])) == ["posetrack17"]


def test_data_that_cannot_be_used(data: Path, tmp_path: Path) -> None:
    def refused(*places: str) -> str:
        with pytest.raises(InputError) as error:
            find_data(places)
        return str(error.value)

    assert f"{tmp_path}: no data set found" in refused(str(tmp_path))
    assert "nowhere: no such folder" in refused(str(tmp_path / "nowhere"))
    assert "unknown data set 'posetrack19'" in refused(f"posetrack19={data}")
    assert "both hold PoseTrack18: name the one to use, --data posetrack18=DIR" in refused(
        str(data / "b"), f"posetrack18={data / 'a'}"
    )


# --- the plan --------------------------------------------------------------------------------------------


def plan(
    paper: str, rows: list[str] | None, data: Path, seeds: tuple[int, ...] = (0,), **choices: object
) -> dict[str, PlannedRow]:
    given = {"output": Path("nowhere"), "data": find_data([str(data)]), "seeds": seeds, **choices}
    planned = plan_rows(find_rows(find_paper(paper), rows), Choices(**given))  # type: ignore[arg-type]
    return {row.full_name: row for row in planned}


RANDOM = ("train.init_from=null",)


def test_a_method_starts_from_the_backbones_own_run_and_that_from_the_users_weights(
    data: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "coco.pth"
    weights.touch()
    rows = plan("tdmi", ["hrnet", "tdmi", "tdmi_st"], data, seeds=(3, 4), init={"hrnet_w48": str(weights)})
    tdmi = rows["posetrack17/tdmi"]
    assert tdmi.recipe == "tdmi_posetrack17" and [run.seed for run in tdmi.runs] == [3, 4]
    assert tdmi.needs is not None and tdmi.needs.folder == Path("nowhere/posetrack17/hrnet/seed3")
    assert tdmi.needs.recipe.train.init_from == str(weights)
    starts = {run.recipe.train.init_from for run in tdmi.runs}
    assert starts == {"nowhere/posetrack17/hrnet/seed3/best.safetensors"}  # the same for all seeds
    hrnet = rows["posetrack17/hrnet"]
    assert hrnet.needs is None and hrnet.runs[0] == tdmi.needs
    assert rows["posetrack18/tdmi_st"].runs[0].recipe.model.name == "tdmi_st"
    assert tdmi.runs[0].recipe.data.root == str(data / "a")
    # Of 17: HRNet for two seeds, TDMI and TDMI-ST; of 18 and 21: HRNet for one.
    assert "7 rows of 8 can be run; 16 runs, 0 of them finished" in format_plan(
        find_paper("tdmi"), list(rows.values())
    )


def test_vit_methods_start_from_vitpose_and_vremd_from_its_weights(data: Path, tmp_path: Path) -> None:
    weights = tmp_path / "vit.pth"
    weights.touch()
    sdtc = plan("sdtc", ["posetrack17/sdtc"], data, init={"": str(weights)})["posetrack17/sdtc"]
    assert sdtc.needs is not None and sdtc.needs.row == "posetrack17/vitpose"
    vremd = plan("vremd", ["posetrack21/vremd"], data, init={"vit_l": str(weights)})["posetrack21/vremd"]
    assert vremd.needs is None and vremd.runs[0].recipe.train.init_from == str(weights)


def test_weights_that_the_user_sets_are_used_without_a_backbones_run(data: Path) -> None:
    row = plan("tdmi", ["posetrack17/tdmi"], data, overrides=RANDOM)["posetrack17/tdmi"]
    assert row.needs is None and row.runs[0].recipe.train.init_from is None


def test_reasons_not_to_run(data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    rows = plan("tdmi", None, data / "a")
    assert rows["posetrack17/mdpn"].reason == "the method is not in vidpose"
    assert rows["posetrack18/tdmi"].reason == "no PoseTrack2018 found; give --data DIR"
    assert "weights/pose_hrnet_w48_384x288.pth is not there; give --init hrnet_w48=FILE" in (
        rows["posetrack17/tdmi"].reason
    )
    assert "resnet50=FILE" in rows["posetrack17/simple_r50"].reason
    assert "only its server" in rows["hieve/tdmi_st"].reason
    assert "frames is not public" in plan("jmpose", ["challenging"], data)["challenging/jmpose"].reason
    assert "propagation" in plan("stdpose", None, data)["propagation-posetrack17/stdpose"].reason
    assert "vidpose models" in plan("sdtc", ["complexity"], data)["complexity/sdtc"].reason
    assert all(row.reason and not row.runs for row in rows.values())
    backbone = plan("tdmi", ["simple_r50"], data, overrides=("model.backbone=hrnet_w8_small", *RANDOM))
    assert backbone["posetrack17/simple_r50"].reason.endswith("simple_baseline takes resnet")


def test_settings_are_for_the_rows_that_they_fit(data: Path) -> None:
    overrides = (*RANDOM, "model.width=8", "model.num_frames=3", "train.epochs=2")
    rows = plan("tdmi", ["posetrack17/tdmi", "posetrack17/hrnet"], data, overrides=overrides)
    tdmi, hrnet = (rows[f"posetrack17/{name}"].runs[0].recipe for name in ("tdmi", "hrnet"))
    assert tdmi.model.model_extra == {"width": 8} and tdmi.model.num_frames == 3 and tdmi.train.epochs == 2
    assert not hrnet.model.model_extra and hrnet.model.num_frames is None and hrnet.train.epochs == 2
    with pytest.raises(InputError, match="none of hrnet, tdmi has a switch widht"):
        plan("tdmi", ["tdmi", "hrnet"], data, overrides=(*RANDOM, "model.widht=8"))


def test_boxes_and_weights_must_say_of_what_they_are(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "boxes.json"
    file.write_text("[]")
    with pytest.raises(
        InputError, match=r"of posetrack17, posetrack18, posetrack21: .* --boxes posetrack17=FILE"
    ):
        plan("tdmi", ["tdmi"], data, overrides=RANDOM, boxes={"": str(file)})
    row = plan("tdmi", ["tdmi"], data, overrides=RANDOM, boxes={"posetrack18": str(file)})
    told = {name: evaluation_settings(entry.runs[0].recipe)["boxes"] for name, entry in row.items()}
    assert told["posetrack18/tdmi"].startswith(str(file)) and told["posetrack17/tdmi"] == "ground truth"
    with pytest.raises(InputError, match="the rows start from hrnet_w48, resnet50: say of which"):
        plan("tdmi", ["posetrack17/tdmi", "posetrack17/simple_r50"], data, init={"": str(file)})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tdmy"], "unknown paper 'tdmy': did you mean 'tdmi'"),
        (["tdmi", "--rows", "tdmii"], "tdmi has no row 'tdmii': did you mean 'tdmi'"),
        (["tdmi", "--rows", "mdpn"], "row posetrack17/mdpn cannot be run: the method is not in vidpose"),
        (["tdmi", "--rows", "hieve"], "none of the rows can be run: its test labels are not public"),
        (["tdmi", "--rows", "posetrack17/tdmi"], "give --init hrnet_w48=FILE"),
        (["tdmi", "--init", "nothing.pth"], "nothing.pth: no such file of weights"),
        (["tdmi", "--init", "hrnet48=nothing.pth"], "unknown backbone 'hrnet48'"),
        (["tdmi", "--boxes", "nothing.json"], "nothing.json: no such file"),
        (["tdmi", "--boxes", "posetrack19=nothing.json"], "unknown data set 'posetrack19'"),
        (["tdmi", "--set", "model.name=dcpose"], "the rows name the models"),
        (["tdmi", "--set", "train.seed=2"], "give --seeds instead"),
        (["tdmi", "--set", "train.epoch=2"], "did you mean 'train.epochs'"),
        (["tdmi", "train.epochs"], "write key=value"),
        (["tdmi", "--jobs", "0"], "jobs is 0"),
        (["tdmi", "--seeds", "a"], "whole numbers"),
        ([], "reproduce needs a PAPER: tdmi, jmpose"),
    ],
)
def test_refused(
    arguments: list[str], says: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["reproduce", *arguments, "--data", str(data), "-o", str(tmp_path / "out"), "--quiet"])
    said = capsys.readouterr()
    assert exit.value.code == 2 and says in said.err and said.err.count("\n") == 1 and not said.out
    assert not (tmp_path / "out").exists()


def test_list_and_dry_run(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(*arguments: str) -> str:
        with pytest.raises(SystemExit) as exit:
            main(["reproduce", *arguments])
        assert not exit.value.code
        return capsys.readouterr().out

    assert len(json.loads(answer("--list", "--json"))) == 5
    assert "| **TDMI-ST** |" in answer("tdmi", "--list") and "SDTC" not in answer("tdmi", "--list")
    options = ["tdmi", "--dry-run", "--data", str(data / "b"), "-o", str(tmp_path / "out"), "--set", *RANDOM]
    assert "TDMI (CVPR 2023): 5 rows of 46 can be run; 5 runs, 0 of them finished" in answer(*options)
    content = json.loads(answer(*options, "--json"))
    assert content["runs"] == {"rows": 5, "runs": 5, "finished": 0} and len(content["not_run"]) == 41
    assert not (tmp_path / "out").exists()


# --- real runs, tiny -------------------------------------------------------------------------------------

STEPS = 4
TINY = [
    "model.backbone=hrnet_w8_small", "model.input_size=[64, 64]", "model.num_frames=3", "model.width=8",
    "train.num_workers=0", "train.tensorboard=false", "train.log_every_steps=1", "train.precision=fp32",
    "train.accelerator=cpu", "train.batch_size=4", f"train.max_steps={STEPS}",
    "train.checkpoint_every_steps=2",
]  # fmt: skip


class Stopped(BaseException):
    """What ends a run in its middle, as a signal does."""


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_stopped_runs_continue_and_finished_ones_stay(
    data: Path,
    tmp_path: Path,
    one_thread: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights, output = tmp_path / "coco.safetensors", tmp_path / "out"
    save_model(create_model("hrnet", backbone="hrnet_w8_small", input_size=(64, 64)), weights)
    options = {"rows": ["posetrack18/tdmi", "posetrack18/famipose"], "init": [str(weights)]}
    options |= {"data": [str(data / "b")], "output": output}

    # The backbone's run ends, that of TDMI is stopped in its middle.
    write = callbacks.CsvLog.write

    def write_and_stop(log: callbacks.CsvLog, row: dict) -> None:
        write(log, row)
        if row["step"] == 3 and "tdmi" in str(log.path):
            raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(callbacks.CsvLog, "write", write_and_stop)
        reproduce("tdmi", overrides=TINY, quiet=True, **{**options, "rows": ["posetrack18/tdmi"]})
    hrnet, tdmi = (output / "posetrack18" / name / "seed0" for name in ("hrnet", "tdmi"))
    logged = (tdmi / "log.csv").read_text().splitlines()
    assert len(logged) == 1 + 3 and not (tdmi / "result.json").exists()
    half = json.loads((output / "tdmi.json").read_text())
    assert (
        half["runs"] == {"rows": 1, "runs": 2, "finished": 1} and half["tables"][0]["rows"][0]["ours"] is None
    )
    before = (hrnet / "log.csv").stat().st_mtime_ns

    result = reproduce("tdmi", overrides=TINY, **options)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tdmi: ")]
    assert "posetrack18/hrnet, seed 0: mAP" in said[0] and "there already in" in said[0]
    assert ["run 1 of 2" in said[1], "run 2 of 2" in said[2], len(said)] == [True, True, 3]
    assert (hrnet / "log.csv").stat().st_mtime_ns == before
    assert len((tdmi / "log.csv").read_text().splitlines()) == 1 + STEPS

    row = next(row for row in result.tables[0]["rows"] if row["row"] == "tdmi")
    stored = json.loads((tdmi / "result.json").read_text())
    assert row["ours"]["Mean"] == stored["best"] and row["ours"]["Knee"] == stored["scores"]["Knee"]
    assert row["paper"]["Knee"] == 82.1 and row["difference"]["Knee"] == stored["scores"]["Knee"] - 82.1
    assert row["hardware"] == [machine(result_recipe(tdmi))] and row["source"].endswith("Table 2, line 12")
    assert json.loads((output / "tdmi.json").read_text()) == json.loads(json.dumps(result.to_dict()))
    text = (output / "tdmi.md").read_text()
    assert text == f"{result}\n"
    for told in (
        "Boxes: ours ground truth; the paper's are detected", "decoder dark, flip test no", "seeds 0",
        f"{weights}, fine-tuned on this data set (posetrack18/hrnet)", machine(result_recipe(tdmi)),
        "1 video scored, of 170", "tdmi: backbone hrnet_w8_small, the paper's is HRNet-W48",
        "| TDMI      | paper      |",
        f"Recipes: famipose_posetrack18, tdmi_posetrack18, changed by `{TINY[0]}`",
    ):  # fmt: skip
        assert told in text

    # Another paper's table has the same run; other settings are refused.
    again = reproduce("jmpose", overrides=TINY, quiet=True, **{**options, "rows": ["posetrack18/tdmi"]})
    assert again.tables[0]["rows"][0]["by_seed"] == row["by_seed"]
    assert (tdmi / "log.csv").stat().st_mtime_ns < (output / "jmpose.json").stat().st_mtime_ns
    with pytest.raises(InputError, match=r"seed0: was run with other settings, train\.lr differ"):
        reproduce("tdmi", overrides=[*TINY, "train.lr=0.5"], quiet=True, **options)


def result_recipe(folder: Path):
    recipe = runs.stored_recipe(folder)
    assert recipe is not None
    return recipe


def test_what_starts_from_a_run_that_failed_is_not_run(data: Path, tmp_path: Path, one_thread: None) -> None:
    weights = tmp_path / "broken.pth"
    weights.write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match=r"^2 of 2 runs failed: .*hrnet seed 0: .*tdmi seed 0: the run that"):
        reproduce(
            "tdmi", [str(data / "b")], tmp_path / "out", TINY, rows=["posetrack18/tdmi"],
            init=[f"hrnet_w8_small={weights}"], quiet=True,
        )  # fmt: skip
