"""Ablation tables: the papers' numbers, rows that exist, runs that are shared, continued, and refused."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
import torch

from tiny_posetrack import make_posetrack
from vidpose.cli import main
from vidpose.errors import InputError
from vidpose.models.factory import create_model, model_entry, model_switches
from vidpose.train import runs
from vidpose.train.ablation import Planner, ablate, row_recipe
from vidpose.train.ablation_tables import AblationResult, all_tables, compare_rows, find_table, format_report
from vidpose.train.recipe import Recipe, check_types, load_recipe

# Read from the papers' texts, in the order of print: (number of the table, scores, that of the whole method).
PRINTED = {
    "tdmi-components": (5, [77.3, 84.0, 84.5, 85.7], 85.7),
    "tdmi-tde": (6, [84.4, 84.6, 84.9, 85.7], 85.7),
    "tdmi-rdm": (7, [84.5, 84.7, 85.7, 83.8], 85.7),
    "jmpose-components": (5, [86.4, 85.9, 85.6, 84.6, 85.7], 86.4),
    "jmpose-jmml": (6, [86.4, 85.0, 85.8], 86.4),
    "stdpose-pseudo-labels": (3, [82.4, 84.3, 85.2, 87.4], 87.4),
    "stdpose-components": (4, [86.8, 88.4, 88.6, 89.6, 90.3, 90.9], 90.9),
    "stdpose-interval": (4, [83.6, 90.1, 90.9, 92.5, 96.8, 98.1], 90.9),
    "stdpose-sigmoid": (
        5,
        [90.6, 90.6, 90.7, 90.7, 90.6, 90.6, 90.7, 90.8, 90.7, 90.7]
        + [90.7, 90.8, 90.9, 90.8, 90.8, 90.6, 90.7, 90.8, 90.8, 90.7],
        90.9,
    ),
    "stdpose-input-size": (6, [87.7, 90.6, 90.9, 91.7], 90.9),
    "vremd-components": (4, [80.2, 85.3, 85.6, 87.6], 87.6),
    "vremd-hkme": (5, [85.9, 86.5, 86.8, 87.6], 87.6),
    "vremd-bmd": (6, [84.7, 85.8, 87.1, 87.6], 87.6),
    "sdtc-components": (4, [84.0, 83.9, 86.2, 86.0, 87.5], 87.5),
    "sdtc-mlsme": (5, [85.6, 86.7, 87.5, 86.9, 87.4], 87.5),
    "sdtc-smml": (6, [86.6, 87.2, 87.5], 87.5),
    "sdtc-embeddings": (7, [86.5, 87.1, 87.5], 87.5),
    "sdtc-lambda": (8, [87.5, 87.3, 87.2], 87.5),
    "sdtc-span": (9, [86.8, 87.5, 87.5], 87.5),
}
PAPERS = {"tdmi": "004", "jmpose": "003", "stdpose": "002", "vremd": "001", "sdtc": "000"}
BACKBONES = {"hrnet": "hrnet_w8_small", "vit": "vit_32x1x2"}


# --- the tables ------------------------------------------------------------------------------------------


def test_every_printed_number() -> None:
    found = {
        name: (table.table, [row.paper for row in table.rows.values()], table.rows[table.full].paper)
        for name, table in all_tables().items()
    }
    assert found == PRINTED


@pytest.mark.parametrize("name", PRINTED)
def test_numbers_stand_in_the_papers_text_at_that_table(name: str, shared_dir: Path | None) -> None:
    if shared_dir is None:
        pytest.skip("the papers' texts are not here")
    table = find_table(name)
    lines = next((shared_dir / "papers").glob(f"{PAPERS[table.model]}*.txt")).read_text().splitlines()
    caption = next(i for i, line in enumerate(lines) if re.match(rf"Table {table.table}[.:] ", line))
    text = "\n".join(lines[max(caption - 22, 0) : caption + 9])
    numbers = re.findall(r"\d+\.\d+", text)
    assert [str(row.paper) for row in table.rows.values() if str(row.paper) not in numbers] == []


@pytest.mark.parametrize("name", PRINTED)
def test_tables_are_well_formed(name: str) -> None:
    table = find_table(name)
    full = table.rows[table.full]
    assert not full.baseline and full.input_scale is None
    for row_name, row in table.rows.items():
        assert re.fullmatch(r"[A-Za-z0-9_.]+", row_name)  # they become folders
        single = model_entry(row.settings.get("model.name", table.model)).num_frames == 1
        assert row.baseline == single
        assert row.skip or row_name == table.full or row.settings or row.input_scale
    changes = [json.dumps([row.settings, row.input_scale]) for row in table.rows.values() if not row.skip]
    assert len(set(changes)) == len(changes)


def tiny(table_model: str, **model: object) -> Recipe:
    family = model_entry(table_model).families[0]
    section = {"name": table_model, "backbone": BACKBONES[family], "input_size": [96, 64], **model}
    return Recipe.model_validate({"model": section})


@pytest.mark.parametrize("name", PRINTED)
def test_every_row_is_a_model_that_can_be_built(name: str, tmp_path: Path) -> None:
    table = find_table(name)
    if importlib.util.find_spec(f"vidpose.models.{table.model}") is None:
        pytest.skip(f"models/{table.model}.py is not there yet")
    built, kinds = {}, set()
    for row_name, row in table.rows.items():
        if row.skip:
            continue
        section = row_recipe(tiny(table.model), row, 0, tmp_path).model
        classes = model_entry(section.name).load().__mro__
        check_types([cls.__init__ for cls in classes], section.model_extra or {})
        assert set(section.model_extra or {}) <= set(model_switches(section.name))
        kind = json.dumps({k: None if isinstance(v, float) else v for k, v in section.arguments().items()})
        if kind not in kinds or row_name == table.full:  # a number more or less is the same graph
            built[row_name] = create_model(section.name, **section.arguments())
        kinds.add(kind)
    if built:
        assert type(built[table.full]).name == table.model


def test_a_baseline_keeps_backbone_and_size_and_drops_what_is_not_its_own(tmp_path: Path) -> None:
    base = Recipe.model_validate({"model": {"name": "tdmi", "num_frames": 5, "width": 8}})
    model = row_recipe(base, find_table("tdmi-components").rows["hrnet"], 3, tmp_path).model
    assert model.model_dump(exclude_none=True) == {
        "name": "hrnet", "backbone": "hrnet_w48", "input_size": [384, 288], "pretrained": False
    }  # fmt: skip


@pytest.mark.parametrize(
    ("size", "small"), [([256, 192], [224, 160]), ([128, 96], [112, 80]), (None, [224, 160])]
)
def test_input_sizes_are_relative_to_the_recipes(
    size: list[int] | None, small: list[int], tmp_path: Path
) -> None:
    base = Recipe.model_validate({"model": {"name": "stdpose", "input_size": size}})
    rows = find_table("stdpose-input-size").rows
    assert row_recipe(base, rows["size_224x168"], 0, tmp_path).model.input_size == small
    large = [side * 3 // 2 for side in size or [256, 192]]
    assert row_recipe(base, rows["size_384x288"], 0, tmp_path).model.input_size == large


# --- what is the same run --------------------------------------------------------------------------------


def planner(table: str, output: Path, **model: object) -> Planner:
    entry = find_table(table)
    return Planner(entry, tiny(entry.model, **model), output)


def pretend(run: object, score: float = 50.0) -> None:
    """What a finished run leaves behind."""
    folder = Path(run.recipe.output)
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(json.dumps(run.recipe.dump()))
    (folder / "result.json").write_text(json.dumps({"best": score}))


def test_identical_rows_of_two_tables_are_one_run(tmp_path: Path) -> None:
    first = planner("tdmi-components", tmp_path).run("tde", 1)
    assert first.folder == tmp_path / "tdmi-components" / "tde" / "seed1" and not first.finished
    pretend(first)
    again = planner("tdmi-rdm", tmp_path)
    assert again.run("no_rdm", 1).folder == first.folder and again.run("no_rdm", 1).finished
    assert again.run("no_rdm", 2).folder == tmp_path / "tdmi-rdm" / "no_rdm" / "seed2"  # another seed
    assert again.run("tdmi", 1).folder == tmp_path / "tdmi-rdm" / "tdmi" / "seed1"  # another row


def test_a_default_that_is_written_out_is_the_same_run(tmp_path: Path) -> None:
    pretend(planner("tdmi-components", tmp_path, rdm=True, num_frames=5).run("tdmi", 0))
    run = planner("tdmi-rdm", tmp_path).run("tdmi", 0)
    assert run.finished and run.recipe.model.model_extra == {"rdm": True}  # as it was when it began


def test_another_setting_is_refused_and_named(tmp_path: Path) -> None:
    pretend(planner("tdmi-rdm", tmp_path).run("no_rdm", 0))
    with pytest.raises(InputError, match=r"seed0: was run with other settings, model\.width differ"):
        planner("tdmi-rdm", tmp_path, width=6).run("no_rdm", 0)
    longer = Planner(find_table("tdmi-rdm"), load_recipe(tiny("tdmi"), ["train.epochs=21"]), tmp_path)
    with pytest.raises(InputError, match=r"train\.epochs differ"):
        longer.run("no_rdm", 0)
    workers = Planner(find_table("tdmi-rdm"), load_recipe(tiny("tdmi"), ["train.num_workers=7"]), tmp_path)
    assert workers.run("no_rdm", 0).finished


# --- what is refused before anything runs ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "table", "options", "says"),
    [
        ("hrnet_small", "tdmi-rdm", {}, "tdmi-rdm is a table of tdmi, the recipe hrnet_small trains hrnet"),
        ("tdmi_small", "tdmi-rmd", {}, "unknown table 'tdmi-rmd': did you mean 'tdmi-rdm'"),
        ("tdmi_small", "tdmi-rdm", {"rows": ["tdmi", "x"]}, "tdmi-rdm has no row 'x'; it has: no_rdm"),
        ("tdmi_small", "tdmi-rdm", {"overrides": ["model.rmd=false"]}, "tdmi_small: tdmi has no switch rmd"),
        (
            "tdmi_small",
            "tdmi-rdm",
            {"overrides": ["model.rdm=false"]},
            "sets model.rdm=False, which the rows",
        ),
        ("tdmi_small", "tdmi-rdm", {"jobs": 0}, "jobs is 0"),
        ("tdmi_small", "tdmi-rdm", {"seeds": [-1]}, "none below 0"),
        ("stdpose", "stdpose-input-size", {"rows": ["dcpose"]}, "row dcpose cannot be run: another method"),
    ],
)
def test_refused(recipe: str, table: str, options: dict, says: str, tmp_path: Path) -> None:
    if recipe == "stdpose":
        pytest.importorskip("vidpose.models.stdpose")
    source = tiny("stdpose") if recipe == "stdpose" else recipe
    with pytest.raises(InputError, match=says.replace("(", r"\(")):
        ablate(source, table, tmp_path / "out", quiet=True, **options)
    assert not (tmp_path / "out").exists()


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit:
            main(["ablate", *arguments])
        said = capsys.readouterr()
        return exit.value.code or 0, said.out, said.err

    status, out, _ = answer("--list", "--json")
    assert status == 0 and [table["name"] for table in json.loads(out)] == list(all_tables())
    status, out, _ = answer("--list", "--table", "sdtc-span")
    assert status == 0 and out.count("\n") == 4 and "model.num_frames=7" in out
    status, out, err = answer("hrnet_small", "--table", "tdmi-rdm", "-o", str(tmp_path))
    assert status == 2 and not out and "tdmi-rdm is a table of tdmi" in err and err.count("\n") == 1
    assert answer("tdmi_small", "--table", "tdmi-rdm", "--seeds", "0;1")[0] == 2
    assert answer("tdmi_small")[0] == 2


# --- the report, on scores made up -----------------------------------------------------------------------


def signs(table: str, scores: dict[str, dict[int, float]]) -> dict[str, str]:
    return {row["row"]: row["sign"] for row in compare_rows(find_table(table), scores)}


def test_signs_of_differences() -> None:
    full = {0: 60.0, 1: 61.0, 2: 62.0}
    lower, higher = {0: 58.0, 1: 59.1, 2: 60.1}, {0: 62.0, 1: 62.9, 2: 64.0}
    noisy = {0: 58.0, 1: 63.0, 2: 61.5}  # -2, +2, -0.5: mean -0.17, standard error 1.17
    rows = {"tdmi": full, "no_rdm": lower, "no_objective": higher, "channel_split": noisy}
    assert signs("tdmi-rdm", rows) == {
        "tdmi": "", "no_rdm": "agrees", "no_objective": "disagrees", "channel_split": "within noise"
    }  # fmt: skip
    above = {"size_256x192": full, "size_384x288": higher, "size_224x168": higher}
    assert signs("stdpose-input-size", above) == {
        "dcpose": "", "size_256x192": "", "size_384x288": "agrees", "size_224x168": "disagrees"
    }  # fmt: skip
    assert signs("sdtc-span", {"delta_2": full, "delta_3": lower})["delta_3"] == "none printed"


def test_differences_are_taken_seed_by_seed() -> None:
    rows = compare_rows(find_table("tdmi-rdm"), {"tdmi": {0: 60, 1: 70, 2: 65}, "no_rdm": {1: 68.9, 0: 59.1}})
    row = rows[0]
    assert row["difference"] == pytest.approx(-1.0)  # of -0.9 and -1.1, not 64 - 65
    assert row["difference_error"] == pytest.approx(0.1)  # half of their distance
    assert row["ours"] == pytest.approx(64.0) and row["ours_sd"] == pytest.approx(9.8 / 2**0.5)
    assert row["paper_difference"] == -1.2 and rows[1]["ours"] is None and rows[1]["sign"] == ""


def test_one_seed_is_compared_by_sign_alone() -> None:
    found = signs("tdmi-rdm", {"tdmi": {0: 60.0}, "no_rdm": {0: 59.9}, "channel_split": {0: 60.0}})
    assert found["no_rdm"] == "agrees" and found["channel_split"] == "within noise"


def test_the_report_names_what_disagrees_and_how_it_was_scored() -> None:
    table = find_table("tdmi-components")
    scores = {"tdmi": {0: 60.0, 1: 61.0}, "tde": {0: 62.0, 1: 63.2}, "hrnet": {0: 50.0, 1: 51.5}}
    rows = compare_rows(table, scores)
    settings = {"boxes": "ground truth", "decoder": "dark", "flip_test": "no", "seeds": [0, 1]}
    printed = {"table": 5, "title": table.title, "data": table.data, "metric": "mAP"}
    text = format_report(
        AblationResult(table.name, table.paper, printed, "tdmi_small", ["a=b"], settings, rows, ["tde"])
    )
    for told in ("boxes: ground truth", "decoder: dark", "flip test: no", "[0, 1]", "`tdmi_small` `a=b`"):
        assert told in text
    assert "Rows that disagree in sign: tde." in text
    lines = {line.split(" | ")[0].strip("|* "): line for line in text.splitlines() if line.startswith("|")}
    assert "| 84.5 | -1.2 | 62.6 ± 0.8 | +2.1 ± 0.1 | 62.0 63.2 | disagrees |" in lines["tde"]
    assert lines["op_flow"].endswith("| 84.0 | -1.7 | – | – |  | not run |")
    assert lines["tdmi"].endswith("| 85.7 | – | 60.5 ± 0.7 | – | 60.0 61.0 | full method |")
    assert "- hrnet: a single-frame model on the same backbone" in text


# --- real runs, tiny -------------------------------------------------------------------------------------

STEPS = 4
OPTIONS = [
    "model.backbone=hrnet_w8_small", "model.input_size=[64, 64]", "model.num_frames=3", "data.cache=ram",
    "train.num_workers=0", "train.tensorboard=false", "train.log_every_steps=1", "train.warmup_steps=0",
    "train.precision=fp32", "train.accelerator=cpu", "train.init_from=null", "train.batch_size=4",
    f"train.max_steps={STEPS}", "train.checkpoint_every_steps=2", "train.limit_val=1",
    "train.val_every_frames=3",
]  # fmt: skip

TRAIN_AND_DIE = """
import os, signal, sys
from vidpose.cli import main
from vidpose.train import callbacks

write = callbacks.CsvLog.write

def write_and_die(log, row):
    write(log, row)
    if row["step"] == 3:
        os.kill(os.getpid(), signal.SIGKILL)

callbacks.CsvLog.write = write_and_die
main(sys.argv[1:])
"""


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [*OPTIONS, f"data.root={make_posetrack(tmp_path_factory.mktemp('pt'))}"]


def steps(folder: Path) -> list[str]:
    return [",".join(line.split(",")[:-1]) for line in (folder / "log.csv").read_text().splitlines()]


def test_a_killed_run_continues_in_the_middle_and_a_finished_one_is_shared(
    options: list[str],
    tmp_path: Path,
    one_thread: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runs, "PROGRAM", (sys.executable, "-c", TRAIN_AND_DIE))
    with pytest.raises(RuntimeError, match="no_rdm seed 0 ended with status -9"):
        ablate("tdmi_small", "tdmi-rdm", tmp_path, options, rows=["no_rdm"], jobs=2, quiet=True)
    torn = tmp_path / "tdmi-rdm" / "no_rdm" / "seed0"
    seen = steps(torn)
    assert len(seen) == 1 + 3 and not (torn / "result.json").exists()
    rows = json.loads((tmp_path / "tdmi-rdm.json").read_text())["rows"]
    assert [row["ours"] for row in rows] == [None] * 4

    result = ablate("tdmi_small", "tdmi-rdm", tmp_path, options, rows=["no_rdm", "tdmi"])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tdmi-rdm:")]
    assert ["run 1 of 2" in said[0], "run 2 of 2" in said[1], len(said)] == [True, True, 2]
    # The step after the checkpoint was taken twice and is the same.
    assert len(steps(torn)) == 1 + STEPS and steps(torn)[: len(seen)] == seen
    scores = {row["row"]: row["by_seed"] for row in result.rows}
    for row in ("no_rdm", "tdmi"):
        stored = json.loads((tmp_path / "tdmi-rdm" / row / "seed0" / "result.json").read_text())
        assert scores[row] == {"0": stored["best"]}
    written = json.loads((tmp_path / "tdmi-rdm.json").read_text())
    assert written == json.loads(json.dumps(result.to_dict()))
    assert (tmp_path / "tdmi-rdm.md").read_text() == f"{result}\n"

    before = (torn / "log.csv").stat().st_mtime_ns
    other = ablate("tdmi_small", "tdmi-components", tmp_path, options, rows=["tde", "tdmi"])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tdmi-components:")]
    assert len(said) == 2 and all("there already in" in line for line in said)
    assert (torn / "log.csv").stat().st_mtime_ns == before and not (tmp_path / "tdmi-components").exists()
    shared = {row["row"]: row["by_seed"] for row in other.rows}
    assert (shared["tde"], shared["tdmi"]) == (scores["no_rdm"], scores["tdmi"])


def test_a_row_that_fails_does_not_stop_the_others(options: list[str], tmp_path: Path) -> None:
    with_flow = [*options, "model.flow=nothing"]  # a switch that only the flow row looks at
    with pytest.raises(InputError, match=r"1 of 2 runs failed: op_flow seed 5: .*nothing"):
        ablate(
            "tdmi_small", "tdmi-components", tmp_path, with_flow, rows=["op_flow", "hrnet"], seeds=[5],
            quiet=True,
        )  # fmt: skip
    rows = json.loads((tmp_path / "tdmi-components.json").read_text())["rows"]
    assert [list(row["by_seed"]) for row in rows] == [["5"], [], [], []]


def test_processes_have_one_thread_and_their_last_line_is_told(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os, sys; print('x\\nvidpose:', os.environ['OMP_NUM_THREADS'], sys.argv[3:]); sys.exit(2)"
    monkeypatch.setattr(runs, "PROGRAM", (sys.executable, "-c", code))
    with pytest.raises(InputError, match=r"^4 of 4 runs failed: .*tdmi seed 1: 1 \['--quiet'\]"):
        ablate(
            "tdmi_small", "tdmi-rdm", tmp_path, options, rows=["no_rdm", "tdmi"], seeds=[0, 1], jobs=2,
            quiet=True,
        )  # fmt: skip
    recipe = load_recipe(tmp_path / "tdmi-rdm" / "no_rdm" / "seed1.yaml")
    assert recipe.train.seed == 1 and recipe.model.model_extra == {"rdm": False}
