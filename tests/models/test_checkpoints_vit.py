"""ViTPose checkpoints in all their formats, against transformers' implementation."""

from __future__ import annotations

import random
import re

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation

from vidpose.errors import InputError
from vidpose.models.factory import create_model, load_weights

DIM, DEPTH, HEADS = 32, 2, 4
SIZE = (64, 48)
BACKBONE = f"vit_{DIM}x{DEPTH}x{HEADS}"


def source_model(
    *, simple: bool = False, experts: int = 1, size: tuple[int, int] = SIZE
) -> VitPoseForPoseEstimation:
    """A narrow ViTPose of transformers with random weights everywhere."""
    backbone = VitPoseBackboneConfig(
        image_size=list(size),
        hidden_size=DIM,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        num_experts=experts,
        part_features=8,
        out_indices=[DEPTH],
    )
    config = VitPoseConfig(backbone_config=backbone, use_simple_decoder=simple, num_labels=17)
    model = VitPoseForPoseEstimation(config).eval()
    generator = torch.Generator().manual_seed(5)
    for key, value in model.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator)
            scale = value[0].numel() ** -0.5 if value.dim() in (2, 4) else 0.2
            value.copy_(noise.abs() + 0.5 if "running_var" in key else noise * scale + ("norm" in key))
    return model


@pytest.fixture(scope="module")
def frames() -> Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(3))


def heatmaps(model: VitPoseForPoseEstimation, frames: Tensor, dataset_index: int | None = None) -> Tensor:
    index = None if dataset_index is None else torch.full((len(frames),), dataset_index)
    with torch.no_grad():
        out = model(frames, dataset_index=index).heatmaps
    assert out.std() > 1e-2
    return out


def to_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers' names -> those of the official release: joint qkv, blocks, keypoint_head."""
    out: dict[str, Tensor] = {"backbone.cls_token": torch.zeros(1, 1, DIM)}
    simple = "head.deconv1.weight" not in state
    table = {
        "backbone.embeddings.position_embeddings": "backbone.pos_embed",
        "backbone.embeddings.patch_embeddings.projection": "backbone.patch_embed.proj",
        "backbone.encoder.layer": "backbone.blocks",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "attention.output.dense": "attn.proj",
        "backbone.layernorm": "backbone.last_norm",
        "head.deconv1": "keypoint_head.deconv_layers.0",
        "head.batchnorm1": "keypoint_head.deconv_layers.1",
        "head.deconv2": "keypoint_head.deconv_layers.3",
        "head.batchnorm2": "keypoint_head.deconv_layers.4",
        "head.conv": "keypoint_head.final_layer",
    }
    for key, value in state.items():
        if re.search(r"attention\.(query|key|value)", key):
            continue
        for old, new in table.items():
            key = key.replace(old, new)
        out[key] = value
    for layer in range(DEPTH):
        for what in ("weight", "bias"):
            parts = [state[f"backbone.encoder.layer.{layer}.attention.attention.{n}.{what}"] for n in
                     ("query", "key", "value")]  # fmt: skip
            out[f"backbone.blocks.{layer}.attn.qkv.{what}"] = torch.cat(parts)
    assert simple or "keypoint_head.deconv_layers.4.running_mean" in out
    return out


def to_mmpose1(official: dict[str, Tensor], *, class_token: bool) -> dict[str, Tensor]:
    """The official names -> mmpose 1.x; its transformer has no class token, but conversions keep its row."""
    out = {}
    for key, value in official.items():
        if key == "backbone.cls_token":
            continue
        for old, new in (
            ("patch_embed.proj.", "patch_embed.projection."),
            ("backbone.blocks.", "backbone.layers."),
            (".norm1.", ".ln1."),
            (".norm2.", ".ln2."),
            ("mlp.fc1.", "ffn.layers.0.0."),
            ("mlp.fc2.", "ffn.layers.1."),
            ("backbone.last_norm.", "backbone.ln1."),
            ("keypoint_head.", "head."),
        ):
            key = key.replace(old, new)
        if key == "backbone.pos_embed" and not class_token:
            value = value[:, 1:] + value[:, :1]
        out[key] = value
    return out


def vitpose(head: str = "classic", size: tuple[int, int] = SIZE, joints: str = "coco17"):
    return create_model("vitpose", backbone=BACKBONE, input_size=size, skeleton=joints, head=head).eval()


FORMATS = {
    "ViTPose (official)": lambda s: {"state_dict": to_official(s)},
    "mmpose 1.x ViTPose": lambda s: {"meta": {}, "state_dict": to_mmpose1(to_official(s), class_token=False)},
    "mmpose 1.x ViTPose with class token": lambda s: {
        "state_dict": to_mmpose1(to_official(s), class_token=True)
    },
    "data parallel": lambda s: {"state_dict": {f"module.{k}": v for k, v in to_official(s).items()}},
}


@pytest.mark.parametrize("head", ["classic", "simple"])
@pytest.mark.parametrize("kind", FORMATS)
def test_vitpose_gives_the_heatmaps_of_transformers(kind, head, frames, tmp_path):
    source = source_model(simple=head == "simple")
    torch.save(FORMATS[kind](source.state_dict()), tmp_path / "w.pth")
    model = vitpose(head)
    report = load_weights(model, tmp_path / "w.pth")
    assert report.format.startswith("mmpose 1.x" if "mmpose" in kind else "ViTPose (official)")
    assert not report.missing
    assert set(report.unexpected) <= {"backbone.cls_token"}
    torch.testing.assert_close(model(frames).heatmaps, heatmaps(source, frames), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("head", ["classic", "simple"])
def test_folder_of_transformers(head, frames, tmp_path):
    source = source_model(simple=head == "simple")
    source.save_pretrained(tmp_path)
    model = vitpose(head)
    report = load_weights(model, tmp_path)
    assert report.format == "ViTPose (Hugging Face)" and not report.missing and not report.unexpected
    torch.testing.assert_close(model(frames).heatmaps, heatmaps(source, frames), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("index", [0, 2, None])
@pytest.mark.parametrize("kind", ["hugging face", "official"])
def test_experts_are_merged(kind, index, frames, tmp_path):
    source = source_model(experts=3)
    if kind == "hugging face":
        source.save_pretrained(tmp_path)
    else:
        state = to_official(source.state_dict())
        assert state["backbone.blocks.0.mlp.fc2.weight"].shape == (DIM - 8, 4 * DIM)
        torch.save({"state_dict": state}, tmp_path / "plus.pth")
    model = vitpose()
    report = load_weights(model, tmp_path, dataset_index=index)
    assert report.format.startswith("ViTPose+")
    assert any("expert" in note for note in report.notes)
    torch.testing.assert_close(
        model(frames).heatmaps, heatmaps(source, frames, index or 0), atol=1e-5, rtol=1e-5
    )


def test_expert_brings_its_own_head(tmp_path):
    source = source_model(experts=3)
    state = to_official(source.state_dict())
    heads = {k: v for k, v in state.items() if k.startswith("keypoint_head.")}
    for k, joints in ((0, 14), (1, 16)):
        for key, value in heads.items():
            other = value + k + 1
            if "final_layer" in key:
                other = other[:joints] if k == 0 else other  # the second is padded to 17, as in some releases
            state[key.replace("keypoint_head", f"associate_keypoint_heads.{k}")] = other
    torch.save({"state_dict": state}, tmp_path / "plus.pth")
    model = create_model("vitpose", backbone=BACKBONE, input_size=SIZE, num_joints=16)
    report = load_weights(model, tmp_path / "plus.pth", dataset_index=2)
    expected = heads["keypoint_head.final_layer.bias"][:16] + 2
    torch.testing.assert_close(model.head.final_layer.bias, expected)
    assert any(key.startswith("associate_keypoint_heads.0") for key in report.unexpected)
    assert not any(key.startswith("associate_keypoint_heads.1") for key in report.unexpected)


def test_expert_that_is_not_there(tmp_path):
    torch.save({"state_dict": to_official(source_model(experts=3).state_dict())}, tmp_path / "plus.pth")
    with pytest.raises(InputError, match="3 experts: 0 coco, 1 aic, 2 mpii"):
        load_weights(vitpose(), tmp_path / "plus.pth", dataset_index=3)
    torch.save({"state_dict": to_official(source_model().state_dict())}, tmp_path / "plain.pth")
    with pytest.raises(InputError, match="no ViTPose"):
        load_weights(vitpose(), tmp_path / "plain.pth", dataset_index=1)


def test_leftover_experts_of_a_split_checkpoint_do_no_harm(frames, tmp_path):
    source = source_model()
    state = to_official(source.state_dict())
    for layer in range(DEPTH):
        state[f"backbone.blocks.{layer}.mlp.experts.0.weight"] = torch.zeros(8, 4 * DIM)
        state[f"backbone.blocks.{layer}.mlp.experts.0.bias"] = torch.zeros(8)
    torch.save({"state_dict": state}, tmp_path / "split.pth")
    model = vitpose()
    load_weights(model, tmp_path / "split.pth")
    torch.testing.assert_close(model(frames).heatmaps, heatmaps(source, frames), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("target", [(128, 96), (96, 96)])
def test_positions_are_interpolated_for_another_input_size(target, tmp_path):
    source = source_model()
    source.save_pretrained(tmp_path)
    model = vitpose(size=target)
    report = load_weights(model, tmp_path)
    grid = (target[0] // 16, target[1] // 16)
    assert any(f"from 4x3 to {grid[0]}x{grid[1]}" in note for note in report.notes)

    # The same transformer of transformers, built for the larger input, with positions resized by hand.
    wide = source_model(size=target)
    state = source.state_dict()
    old = state["backbone.embeddings.position_embeddings"]
    maps = old[0, 1:].T.reshape(1, DIM, 4, 3)
    maps = F.interpolate(maps, size=grid, mode="bicubic", align_corners=False).reshape(DIM, -1).T
    state["backbone.embeddings.position_embeddings"] = torch.cat([old[:, :1], maps[None]], dim=1)
    wide.load_state_dict(state)
    frames = torch.randn(1, 3, *target, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(frames).heatmaps, heatmaps(wide, frames), atol=1e-5, rtol=1e-5)


def test_positions_of_an_odd_shape_are_read_from_the_configuration(frames, tmp_path):
    size = (64, 32)  # 4 x 2 tokens: neither 4:3 nor square
    source = source_model(size=size)
    source.save_pretrained(tmp_path)
    report = load_weights(vitpose(), tmp_path)
    assert any("from 4x2 to 4x3" in note for note in report.notes)
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match="position embedding"):
        load_weights(vitpose(), tmp_path)


def test_mae_backbone_fills_the_backbone(tmp_path):
    state = {
        k[9:]: v for k, v in to_official(source_model().state_dict()).items() if k.startswith("backbone.")
    }
    state = {k.replace("last_norm", "norm"): v for k, v in state.items()}
    torch.save({"model": state}, tmp_path / "mae.pth")
    model = vitpose()
    report = load_weights(model, tmp_path / "mae.pth")
    assert report.format == "ViT backbone" and not report.head_loaded
    assert all(key.startswith("head.") for key in report.missing)


def test_head_of_the_other_kind_is_refused_with_the_switch_to_use(tmp_path):
    source_model(simple=True).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="head='simple'"):
        load_weights(vitpose("classic"), tmp_path)
    report = load_weights(vitpose("classic"), tmp_path, allow_partial=True)
    assert not any(key.startswith("backbone.") for key in report.missing)


def test_another_vit_size_names_the_file(tmp_path):
    source_model().save_pretrained(tmp_path)
    model = create_model("vitpose", backbone="vit_48x2x4", input_size=SIZE, skeleton="coco17")
    with pytest.raises(InputError, match="width 32, depth 2"):
        load_weights(model, tmp_path)


def test_create_model_takes_a_folder_as_pretrained(frames, tmp_path):
    source = source_model()
    source.save_pretrained(tmp_path)
    model = create_model("vitpose", backbone=BACKBONE, input_size=SIZE, pretrained=tmp_path).eval()
    assert model.approximate_head
    theirs = heatmaps(source, frames)
    torch.testing.assert_close(model(frames).heatmaps[:, 3:], theirs[:, 5:], atol=1e-5, rtol=1e-5)
    assert "pretrained" not in model.config


def damaged(state: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """A state dict as a careless conversion leaves it: tensors gone, cut, flat, renamed."""
    draw = random.Random(seed)
    out = {}
    for key, value in state.items():
        fate = draw.choice(["kept"] * 6 + ["gone", "cut", "flat", "scalar", "renamed"])
        if fate == "gone":
            continue
        if value.dim() and fate in ("cut", "flat", "scalar"):
            value = {"cut": value[: len(value) // 2], "flat": value.flatten(), "scalar": value.sum()}[fate]
        out[key.replace("weight", "weights", 1) if fate == "renamed" else key] = value
    return out


@pytest.mark.parametrize("index", [None, 1])
@pytest.mark.parametrize("experts", [1, 6])
@pytest.mark.parametrize("kind", ["hugging face", *FORMATS])
def test_damaged_tensors_are_one_clear_line(kind, experts, index, tmp_path):
    state = source_model(experts=experts).state_dict()
    packed = {"state_dict": state} if kind == "hugging face" else FORMATS[kind](state)
    model = vitpose()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for seed in range(6):
        path = tmp_path / f"{seed}.pth"
        torch.save({**packed, "state_dict": damaged(packed["state_dict"], seed)}, path)
        with pytest.raises(InputError) as error:
            load_weights(model, path, dataset_index=index)
        message = str(error.value)
        assert str(path) in message and "\n" not in message and len(message) < 700, message
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
