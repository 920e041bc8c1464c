"""Models by name, our own checkpoints, and the table of methods."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vidpose.errors import InputError
from vidpose.models.checkpoint_files import average_weights, store_half, store_rest
from vidpose.models.counting import meta_model, multiply_adds
from vidpose.models.factory import (
    MODELS,
    create_model,
    describe_checkpoint,
    list_models,
    load_model,
    model_switches,
    save_model,
)

SMALL = {"hrnet": "hrnet_w8_small", "vit": "vit_32x1x2", "resnet": "resnet18"}


def small(name: str, **arguments):
    entry = MODELS[name]
    least = {"backbone": SMALL[entry.families[0]], "num_frames": min(entry.num_frames, 3)}
    if name == "jmpose":
        least["flow"] = "dis"
    return create_model(name, **{"input_size": (64, 64), **least, **arguments})


@pytest.mark.parametrize("name", list_models())
def test_models_come_back_from_their_file(name, tmp_path):
    torch.manual_seed(0)
    model = small(name, num_joints=14).eval()
    path = tmp_path / "new" / "m.safetensors"
    save_model(model, path, {"recipe": "none", "ap": 0.5})
    again = load_model(path)
    clips = torch.randn(1, model.num_frames, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(clips).heatmaps, model(clips).heatmaps)
    assert again.config == model.config and again.card == {"recipe": "none", "ap": 0.5}
    assert not again.training and type(again) is type(model)
    assert describe_checkpoint(path)["config"]["name"] == name
    assert [p.name for p in path.parent.iterdir()] == ["m.safetensors"]


def test_half_as_large_file_gives_nearly_the_same_poses(tmp_path):
    torch.manual_seed(0)
    model = small("hrnet").eval()
    save_model(model, tmp_path / "whole.safetensors", {"seed": 7})
    store_half(tmp_path / "whole.safetensors", tmp_path / "half.safetensors")
    again = load_model(tmp_path / "half.safetensors")
    assert again.card == {"seed": 7} and {p.dtype for p in again.parameters()} == {torch.float32}
    frames = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = model(frames).heatmaps, again(frames).heatmaps
    assert (found - expected).abs().max() < 0.01 * expected.abs().max()
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.7 * sizes[1]


def test_two_models_on_one_backbone_need_it_once(tmp_path):
    frame, clip = small("hrnet").eval(), small("tdmi").eval()
    clip.backbone.load_state_dict(frame.backbone.state_dict())
    save_model(frame, tmp_path / "frame.safetensors")
    save_model(clip, tmp_path / "whole.safetensors", {"seed": 7})
    store_rest(tmp_path / "whole.safetensors", tmp_path / "frame.safetensors", tmp_path / "rest.safetensors")
    again = load_model(tmp_path / "rest.safetensors")
    assert again.card == {"seed": 7}
    for name, value in clip.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    weights = sum(v.numel() * v.element_size() for v in frame.backbone.state_dict().values())
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("whole", "rest")]
    assert sizes[0] - sizes[1] > 0.8 * weights

    save_model(small("vitpose"), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="shares nothing"):
        store_rest(
            tmp_path / "whole.safetensors", tmp_path / "other.safetensors", tmp_path / "no.safetensors"
        )
    (tmp_path / "frame.safetensors").unlink()
    with pytest.raises(InputError, match=r"its tensors are in frame\.safetensors, which is not beside it"):
        load_model(tmp_path / "rest.safetensors")


@pytest.mark.parametrize("chain", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_files_that_leave_their_tensors_to_each_other_are_refused(tmp_path, chain):
    """``a`` says that ``b`` has them, ``b`` that ``c`` has, and the last one that ``a`` has."""
    for name, other in zip(chain, [*chain[1:], "a"], strict=True):
        description = {"format": 1, "rest_in": {"file": f"{other}.safetensors", "tensors": ["w"]}}
        save_file(
            {"v": torch.zeros(1)}, tmp_path / f"{name}.safetensors", {"vidpose": json.dumps(description)}
        )
    with pytest.raises(InputError, match=r"said to be in a\.safetensors, which itself lacks them"):
        load_model(tmp_path / "a.safetensors")
    description["rest_in"]["tensors"] = [{}]
    save_file({"v": torch.zeros(1)}, tmp_path / "a.safetensors", {"vidpose": json.dumps(description)})
    with pytest.raises(InputError, match=r"a\.safetensors: its description names no file"):
        load_model(tmp_path / "a.safetensors")


def test_the_mean_of_two_runs_is_between_them_and_names_both(tmp_path):
    torch.manual_seed(0)
    for seed in (3, 4):
        save_model(small("hrnet"), tmp_path / f"{seed}.safetensors", {"seed": seed})
    average_weights([tmp_path / "3.safetensors", tmp_path / "4.safetensors"], tmp_path / "mean.safetensors")
    mean = load_model(tmp_path / "mean.safetensors")
    assert mean.card == {"mean_of": [{"seed": 3}, {"seed": 4}]}
    one, other = (load_model(tmp_path / f"{seed}.safetensors").state_dict() for seed in (3, 4))
    for name, value in mean.state_dict().items():
        torch.testing.assert_close(value, ((one[name] + other[name]) / 2).to(value.dtype))
    assert not torch.equal(one["backbone.conv1.weight"], other["backbone.conv1.weight"])

    save_model(small("vitpose"), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"other\.safetensors: holds another model than .*3\.safetensors"):
        average_weights([tmp_path / "3.safetensors", tmp_path / "other.safetensors"], tmp_path / "no")
    with pytest.raises(InputError, match="no weights"):
        average_weights([], tmp_path / "no")
    with pytest.raises(InputError, match="a list of files"):
        average_weights(str(tmp_path / "3.safetensors"), tmp_path / "no")
    lacking = load_file(tmp_path / "4.safetensors")
    del lacking["backbone.conv1.weight"]
    with safe_open(str(tmp_path / "4.safetensors"), "pt") as file:
        save_file(lacking, tmp_path / "less.safetensors", metadata=file.metadata())
    for pair in (("3", "less"), ("less", "3")):
        with pytest.raises(InputError, match="holds another model than"):
            average_weights([tmp_path / f"{name}.safetensors" for name in pair], tmp_path / "no")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("name", list_models())
def test_configuration_rebuilds_the_model(name):
    model = small(name)
    config = json.loads(json.dumps(model.config))
    shapes = {k: v.shape for k, v in create_model(**config).state_dict().items()}
    assert shapes == {k: v.shape for k, v in model.state_dict().items()}
    assert config["name"] == name


def test_switches_are_kept(tmp_path):
    save_model(small("vitpose", head="simple", sigma=1.5), tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    assert (again.config["head"], again.sigma) == ("simple", 1.5)


@pytest.mark.parametrize(
    ("arguments", "joints"),
    [({}, "posetrack15"), ({"num_joints": 17}, "coco17"), ({"skeleton": "posetrack18"}, "posetrack18")],
)
def test_joint_sets(arguments, joints):
    model = small("hrnet", **arguments)
    assert model.skeleton.name == joints and model.num_joints == model.skeleton.num_joints


def test_other_numbers_of_joints_have_no_joint_set():
    assert small("hrnet", num_joints=3).skeleton is None


def test_seed_decides_the_weights():
    torch.manual_seed(4)
    a = small("hrnet")
    torch.manual_seed(4)
    b = small("hrnet")
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("hrnett", {}, "known: .*hrnet"),
        ("hrnet", {"colour": 1}, "no switch colour; it has: sigma, skeleton"),
        ("hrnet", {"backbone": "vit_b"}, "hrnet family"),
        ("hrnet", {"backbone": "nope"}, "unknown backbone"),
        ("hrnet", {"input_size": 64}, "height and width"),
        ("hrnet", {"input_size": (65, 64)}, "multiples of 32"),
        ("hrnet", {"num_joints": 0}, "at least 1"),
        ("hrnet", {"num_joints": 15, "skeleton": "coco17"}, "has 17"),
        ("hrnet", {"skeleton": "dog"}, "known: posetrack15"),
        ("hrnet", {"pretrained": True}, "names no checkpoint"),
        ("hrnet", {"pretrained": "nowhere.pth"}, "nowhere.pth"),
    ],
)
def test_arguments_that_do_not_fit(name, arguments, words):
    with pytest.raises(InputError, match=words):
        create_model(name, **{"backbone": "hrnet_w8_small", "input_size": (64, 64), **arguments})


def test_names_decide_their_own_switches():
    assert "spatio_temporal" not in model_switches("tdmi_st")
    assert {"head", "sigma", "skeleton"} <= set(model_switches("vitpose"))
    assert set(list_models()) <= set(MODELS)


def test_files_of_others_are_not_models(tmp_path):
    save_file({"conv1.weight": torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="no description"):
        load_model(tmp_path / "a.safetensors")


def rewrite(path, change):
    """The same tensors with another description."""
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()["vidpose"])
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    change(description, tensors)
    save_file(tensors, path, metadata={"vidpose": json.dumps(description)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d, t: d.update(format=99), "update"),
        (lambda d, t: d.pop("config"), "no model configuration"),
        (lambda d, t: d.update(card=[1]), "card in its description is not a JSON object"),
        (lambda d, t: d["config"].update(name="other"), "cannot be rebuilt: unknown model"),
        (lambda d, t: d["config"].update(colour=1), "cannot be rebuilt"),
        (lambda d, t: t.pop("head.final_layer.bias"), "head.final_layer.bias is missing"),
        (lambda d, t: t.pop("backbone.conv1.weight"), "1 missing"),
        (lambda d, t: d["config"].update(num_joints=14, skeleton=None), "15 joints"),
    ],
)
def test_descriptions_that_do_not_fit(change, words, tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(small("hrnet"), path)
    rewrite(path, change)
    with pytest.raises(InputError, match=words) as error:
        load_model(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_model_of_unknown_origin_is_not_saved(tmp_path):
    model = small("hrnet")
    model.config = {}
    with pytest.raises(InputError, match="create_model"):
        save_model(model, tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


# Counting


@pytest.mark.parametrize(
    ("backbone", "size", "published"),
    [("hrnet_w32", (256, 192), 7.1), ("hrnet_w48", (256, 192), 14.6), ("hrnet_w48", (384, 288), 32.9)],
)
def test_hrnet_has_the_published_multiply_adds(backbone, size, published):
    """The table of the official repository, whose counter divides by 2^30."""
    macs = multiply_adds(meta_model("hrnet", backbone=backbone, input_size=size, num_joints=17))
    assert macs / 2**30 == pytest.approx(published, abs=0.06)


def test_multiply_adds_of_a_transformer_by_hand():
    dim, depth, tokens, joints = 32, 2, 12, 17
    linear = tokens * (4 * dim * dim + 8 * dim * dim)
    attention = 2 * tokens * tokens * dim
    head = 16 * dim * 256 * tokens + 16 * 256 * 256 * 4 * tokens + 256 * joints * 16 * tokens
    expected = depth * (linear + attention) + 3 * 256 * dim * tokens + head
    model = create_model("vitpose", backbone="vit_32x2x4", input_size=(64, 48), num_joints=joints)
    assert multiply_adds(model) == expected
    assert (
        multiply_adds(meta_model("vitpose", backbone="vit_32x2x4", input_size=(64, 48), num_joints=17))
        == expected
    )


def test_video_models_count_every_frame():
    common = {"backbone": "hrnet_w8_small", "input_size": (64, 64)}
    one = multiply_adds(meta_model("hrnet", **common))
    for frames in (3, 5):
        model = meta_model("tdmi", **common, num_frames=frames)
        assert multiply_adds(model) > frames * (one - 8 * 15 * 16 * 16)
