"""Every checkpoint format against the network that it came from, and every way a file can be wrong."""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from vidpose.errors import InputError
from vidpose.models.factory import create_model, load_model, load_weights, save_model
from vidpose.models.resnet import ResNet
from vidpose.models.single_frame import SimpleBaseline
from vidpose.skeletons import COCO17, POSETRACK15, POSETRACK18

SIZE = (64, 64)
WIDTH = 4


# The official HRNet, written from its published structure: shapes of its state dict, and its forward pass.


def bn_shapes(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{p}": (channels,) for p in parts}, f"{name}.num_batches_tracked": ()}


def hrnet_shapes(width: int, joints: int | None) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def conv_bn(conv: str, bn: str, inputs: int, outputs: int, kernel: int) -> None:
        shapes[f"{conv}.weight"] = (outputs, inputs, kernel, kernel)
        shapes.update(bn_shapes(bn, outputs))

    conv_bn("conv1", "bn1", 3, 64, 3)
    conv_bn("conv2", "bn2", 64, 64, 3)
    for block in range(4):
        base, inputs = f"layer1.{block}", 64 if block == 0 else 256
        conv_bn(f"{base}.conv1", f"{base}.bn1", inputs, 64, 1)
        conv_bn(f"{base}.conv2", f"{base}.bn2", 64, 64, 3)
        conv_bn(f"{base}.conv3", f"{base}.bn3", 64, 256, 1)
    conv_bn("layer1.0.downsample.0", "layer1.0.downsample.1", 64, 256, 1)
    c = [width * 2**i for i in range(4)]
    conv_bn("transition1.0.0", "transition1.0.1", 256, c[0], 3)
    conv_bn("transition1.1.0.0", "transition1.1.0.1", 256, c[1], 3)
    conv_bn("transition2.2.0.0", "transition2.2.0.1", c[1], c[2], 3)
    conv_bn("transition3.3.0.0", "transition3.3.0.1", c[2], c[3], 3)
    for stage, modules in ((2, 1), (3, 4), (4, 3)):
        for m in range(modules):
            base = f"stage{stage}.{m}"
            for b in range(stage):
                for block in range(4):
                    for k in (1, 2):
                        name = f"{base}.branches.{b}.{block}"
                        conv_bn(f"{name}.conv{k}", f"{name}.bn{k}", c[b], c[b], 3)
            targets = 1 if stage == 4 and m == 2 else stage
            for i in range(targets):
                for j in range(stage):
                    name = f"{base}.fuse_layers.{i}.{j}"
                    if j > i:
                        conv_bn(f"{name}.0", f"{name}.1", c[j], c[i], 1)
                    for k in range(i - j):
                        outputs = c[i] if k == i - j - 1 else c[j]
                        conv_bn(f"{name}.{k}.0", f"{name}.{k}.1", c[j], outputs, 3)
    if joints is not None:
        shapes["final_layer.weight"], shapes["final_layer.bias"] = (joints, width, 1, 1), (joints,)
    return shapes


def random_state(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    out = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            out[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            out[name] = torch.rand(shape, generator=generator) + 0.5
        elif len(shape) == 4:
            out[name] = torch.randn(shape, generator=generator) / (shape[1] * shape[2] * shape[3]) ** 0.5
        else:
            out[name] = 0.5 + 0.1 * torch.randn(shape, generator=generator)
    return out


class Reference:
    """Functional layers over a flat state dict."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.s = state

    def conv_bn(self, x: Tensor, conv: str, bn: str, stride: int = 1, relu: bool = True) -> Tensor:
        weight = self.s[f"{conv}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        x = F.batch_norm(x, *(self.s[f"{bn}.{p}"] for p in ("running_mean", "running_var", "weight", "bias")))
        return F.relu(x) if relu else x

    def block(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        deep = f"{name}.conv3.weight" in self.s
        y = self.conv_bn(x, f"{name}.conv1", f"{name}.bn1", 1 if deep else stride)
        y = self.conv_bn(y, f"{name}.conv2", f"{name}.bn2", stride if deep else 1, relu=deep)
        if deep:
            y = self.conv_bn(y, f"{name}.conv3", f"{name}.bn3", relu=False)
        if f"{name}.downsample.0.weight" in self.s:
            x = self.conv_bn(x, f"{name}.downsample.0", f"{name}.downsample.1", stride, relu=False)
        return F.relu(x + y)

    def hrnet(self, x: Tensor) -> Tensor:
        x = self.conv_bn(self.conv_bn(x, "conv1", "bn1", 2), "conv2", "bn2", 2)
        for i in range(4):
            x = self.block(x, f"layer1.{i}")
        maps = [
            self.conv_bn(x, "transition1.0.0", "transition1.0.1"),
            self.conv_bn(x, "transition1.1.0.0", "transition1.1.0.1", 2),
        ]
        maps = self.stage(maps, 2, 1)
        maps.append(self.conv_bn(maps[-1], "transition2.2.0.0", "transition2.2.0.1", 2))
        maps = self.stage(maps, 3, 4)
        maps.append(self.conv_bn(maps[-1], "transition3.3.0.0", "transition3.3.0.1", 2))
        maps = self.stage(maps, 4, 3)
        return F.conv2d(maps[0], self.s["final_layer.weight"], self.s["final_layer.bias"])

    def stage(self, maps: list[Tensor], stage: int, modules: int) -> list[Tensor]:
        for m in range(modules):
            for b in range(stage):
                for i in range(4):
                    maps[b] = self.block(maps[b], f"stage{stage}.{m}.branches.{b}.{i}")
            fused = []
            for i in range(1 if (stage, m) == (4, 2) else stage):
                total = torch.zeros_like(maps[i])
                for j in range(stage):
                    y, name = maps[j], f"stage{stage}.{m}.fuse_layers.{i}.{j}"
                    if j > i:
                        y = self.conv_bn(y, f"{name}.0", f"{name}.1", relu=False)
                        y = y.repeat_interleave(2 ** (j - i), 2).repeat_interleave(2 ** (j - i), 3)
                    for k in range(i - j):
                        y = self.conv_bn(y, f"{name}.{k}.0", f"{name}.{k}.1", 2, relu=k < i - j - 1)
                    total = total + y
                fused.append(F.relu(total))
            maps = fused
        return maps

    def simple_baseline(self, x: Tensor, blocks: tuple[int, ...]) -> Tensor:
        x = F.relu(self.bn(F.conv2d(x, self.s["conv1.weight"], stride=2, padding=3), "bn1"))
        x = F.max_pool2d(x, 3, 2, 1)
        for layer, count in enumerate(blocks, start=1):
            for i in range(count):
                x = self.block(x, f"layer{layer}.{i}", 2 if i == 0 and layer > 1 else 1)
        for i in (0, 3, 6):
            x = F.conv_transpose2d(x, self.s[f"deconv_layers.{i}.weight"], stride=2, padding=1)
            x = F.relu(self.bn(x, f"deconv_layers.{i + 1}"))
        return F.conv2d(x, self.s["final_layer.weight"], self.s["final_layer.bias"])

    def bn(self, x: Tensor, name: str) -> Tensor:
        return F.batch_norm(
            x, *(self.s[f"{name}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        )


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def mmpose(state: dict[str, Tensor], head: str) -> dict[str, Tensor]:
    """An official flat dict under mmpose's names."""
    return {
        (head if key.startswith(("final_layer", "deconv")) else "backbone.") + key: v
        for key, v in state.items()
    }


@pytest.fixture(scope="module")
def hrnet17() -> dict[str, Tensor]:
    return random_state(hrnet_shapes(WIDTH, 17))


@pytest.fixture(scope="module")
def frames() -> Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(3))


def hrnet_model(**arguments):
    return create_model("hrnet", **{"backbone": f"hrnet_w{WIDTH}", "input_size": SIZE, **arguments})


def saved(path: Path, value) -> Path:
    torch.save(value, path)
    return path


COCO_CONTAINERS = {
    "flat": ("HRNet (official)", lambda s: s),
    "data parallel": ("HRNet (official)", lambda s: prefixed(s, "module.")),
    "mmpose 0": (
        "mmpose 0.x HRNet",
        lambda s: {"meta": {"epoch": 210}, "state_dict": mmpose(s, "keypoint_head.")},
    ),
    "mmpose 1": (
        "mmpose 1.x HRNet",
        lambda s: {
            "meta": {
                "dataset_meta": {"dataset_name": "coco", "sigmas": np.full(17, 0.1), "best": np.float64(0.7)}
            },
            "state_dict": mmpose(s, "head."),
            "message_hub": None,
        },
    ),
}


@pytest.mark.parametrize("kind", COCO_CONTAINERS)
def test_hrnet_of_coco_gives_the_heatmaps_of_its_source(kind, hrnet17, frames, tmp_path):
    name, pack = COCO_CONTAINERS[kind]
    model = hrnet_model(skeleton="coco17").eval()
    report = load_weights(model, saved(tmp_path / "w.pth", pack(hrnet17)))
    assert report.format == name
    assert not report.missing and not report.unexpected
    expected = Reference(hrnet17).hrnet(frames)
    assert expected.std() > 1e-3
    torch.testing.assert_close(model(frames).heatmaps, expected, atol=1e-5, rtol=1e-5)


POSETRACK_CONTAINERS = {
    "DCPose": ("rough_pose_estimation_net.", "diff_temporal_fuse.layers.0.conv1.weight"),
    "FAMI-Pose": ("hrnet.", "combined_feat_layers.0.weight"),
    "JM-Pose": ("hrnet.", "motion_fusion_s1.0.weight"),
    "PoseWarper": ("", "offset_feats.0.conv1.weight"),
}


@pytest.mark.parametrize("kind", POSETRACK_CONTAINERS)
def test_hrnet_inside_a_video_model_has_a_posetrack_head(kind, hrnet17, frames, tmp_path):
    prefix, extra = POSETRACK_CONTAINERS[kind]
    state = {**prefixed(hrnet17, prefix), extra: torch.ones(2)}
    if kind == "PoseWarper":
        state["deform_conv1.weight"] = torch.ones(2)
    value = {"begin_epoch": 3, "state_dict": prefixed(state, "module."), "optimizer": {"state": {}}}
    model = hrnet_model().eval()
    report = load_weights(model, saved(tmp_path / "w.pth", value if kind != "PoseWarper" else state))
    assert report.format == kind
    assert extra in report.unexpected and not report.missing
    theirs = Reference(hrnet17).hrnet(frames)
    keep = [j for j, name in enumerate(POSETRACK18.joints) if "ear" not in name]
    torch.testing.assert_close(model(frames).heatmaps, theirs[:, keep], atol=1e-5, rtol=1e-5)
    assert not model.approximate_head


def test_coco_head_in_a_posetrack_model_leaves_two_joints_empty(hrnet17, frames, tmp_path):
    model = hrnet_model().eval()
    report = load_weights(model, saved(tmp_path / "w.pth", hrnet17))
    ours, theirs = model(frames).heatmaps, Reference(hrnet17).hrnet(frames)
    for j, name in enumerate(POSETRACK15.joints):
        if name in ("head_bottom", "head_top"):
            assert ours[:, j].abs().max() == 0
        else:
            torch.testing.assert_close(ours[:, j], theirs[:, COCO17.index[name]], atol=1e-5, rtol=1e-5)
    assert model.approximate_head
    assert any("head_bottom, head_top" in note for note in report.notes) and model.notes
    assert "head_bottom" in str(report)


def test_joints_option_overrides_what_a_flat_file_cannot_tell(hrnet17, tmp_path):
    model = hrnet_model()
    load_weights(model, saved(tmp_path / "w.pth", hrnet17), joints="posetrack18")
    assert not model.approximate_head
    with pytest.raises(InputError, match="unknown joint set"):
        load_weights(model, tmp_path / "w.pth", joints="elk")


def test_approximation_flag_survives_saving_and_ends_with_training(hrnet17, tmp_path):
    model = hrnet_model()
    load_weights(model, saved(tmp_path / "w.pth", hrnet17))
    save_model(model, tmp_path / "ours.safetensors")
    again = load_model(tmp_path / "ours.safetensors")
    assert again.approximate_head
    with torch.no_grad():
        again.head.final_layer.weight[1:3] += 0.01
    assert not again.approximate_head


def test_video_model_takes_only_the_backbone(hrnet17, tmp_path):
    model = create_model("tdmi", backbone=f"hrnet_w{WIDTH}", input_size=SIZE, num_frames=3)
    report = load_weights(model, saved(tmp_path / "w.pth", hrnet17))
    assert all(key.startswith("backbone.") for key in report.matched)
    assert report.missing and not any(key.startswith("backbone.") for key in report.missing)
    loaded = model.state_dict()
    for key, value in hrnet17.items():
        if not key.startswith("final_layer"):
            assert torch.equal(loaded[f"backbone.{key}"], value)


def test_lightning_checkpoint_of_our_training(tmp_path, frames):
    torch.manual_seed(0)
    model = hrnet_model().eval()
    value = {
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {**prefixed(model.state_dict(), "model."), "metric.total": torch.zeros(1)},
        "epoch": 3,
    }
    other = hrnet_model().eval()
    report = load_weights(other, saved(tmp_path / "last.ckpt", value))
    assert report.unexpected == ["metric.total"] and not report.missing
    assert torch.equal(other(frames).heatmaps, model(frames).heatmaps)


def test_own_checkpoint_maps_between_joint_sets(tmp_path, frames):
    source = hrnet_model(skeleton="posetrack18").eval()
    torch.nn.init.normal_(source.head.final_layer.weight)
    save_model(source, tmp_path / "a.safetensors")
    model = hrnet_model().eval()
    load_weights(model, tmp_path / "a.safetensors")
    keep = [POSETRACK18.index[name] for name in POSETRACK15.joints]
    assert torch.equal(model(frames).heatmaps, source(frames).heatmaps[:, keep])


def test_imagenet_hrnet_leaves_the_head_new(hrnet17, tmp_path):
    state = {k: v for k, v in hrnet17.items() if not k.startswith("final_layer")}
    state |= {"incre_modules.0.0.conv1.weight": torch.ones(1), "classifier.weight": torch.ones(1)}
    model = hrnet_model()
    report = load_weights(model, saved(tmp_path / "w.pth", state))
    assert report.missing == ["head.final_layer.weight", "head.final_layer.bias"]
    assert not report.head_loaded and any("trained" in note for note in report.notes)


# ResNet


BLOCKS = (1, 2, 1, 1)


def resnet_shapes(width: int, joints: int | None) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (width, 3, 7, 7), **bn_shapes("bn1", width)}
    inputs = width
    for layer, count in enumerate(BLOCKS, start=1):
        planes = width * 2 ** (layer - 1)
        for i in range(count):
            base = f"layer{layer}.{i}"
            for k, (a, b, size) in enumerate(
                ((inputs, planes, 1), (planes, planes, 3), (planes, 4 * planes, 1)), start=1
            ):
                shapes[f"{base}.conv{k}.weight"] = (b, a, size, size)
                shapes.update(bn_shapes(f"{base}.bn{k}", b))
            if i == 0:
                shapes[f"{base}.downsample.0.weight"] = (4 * planes, inputs, 1, 1)
                shapes.update(bn_shapes(f"{base}.downsample.1", 4 * planes))
            inputs = 4 * planes
    if joints is None:
        return {**shapes, "fc.weight": (10, inputs), "fc.bias": (10,)}
    for i in (0, 3, 6):
        shapes[f"deconv_layers.{i}.weight"] = (inputs if i == 0 else 256, 256, 4, 4)
        shapes.update(bn_shapes(f"deconv_layers.{i + 1}", 256))
    return {**shapes, "final_layer.weight": (joints, 256, 1, 1), "final_layer.bias": (joints,)}


def simple_baseline(joints: int) -> SimpleBaseline:
    model = SimpleBaseline(ResNet(BLOCKS, width=4), num_joints=joints, input_size=SIZE)
    return model.eval()


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("SimpleBaseline (official)", lambda s: s),
        ("mmpose 0.x SimpleBaseline", lambda s: {"state_dict": mmpose(s, "keypoint_head.")}),
        ("mmpose 1.x SimpleBaseline", lambda s: {"state_dict": mmpose(s, "head.")}),
    ],
)
def test_simple_baseline_gives_the_heatmaps_of_its_source(name, pack, frames, tmp_path):
    state = random_state(resnet_shapes(4, 17))
    model = simple_baseline(17)
    report = load_weights(model, saved(tmp_path / "w.pth", pack(state)))
    assert report.format == name and not report.missing and not report.unexpected
    expected = Reference(state).simple_baseline(frames, BLOCKS)
    torch.testing.assert_close(model(frames).heatmaps, expected, atol=1e-5, rtol=1e-5)


def test_torchvision_resnet_fills_the_backbone(tmp_path):
    state = random_state(resnet_shapes(4, None))
    model = simple_baseline(15)
    report = load_weights(model, saved(tmp_path / "resnet.pth", state))
    assert report.format == "ResNet (torchvision)"
    assert set(report.unexpected) == {"fc.weight", "fc.bias"}
    assert all(key.startswith("head.") for key in report.missing)
    assert torch.equal(model.backbone.layer2[1].conv3.weight, state["layer2.1.conv3.weight"])


# Files that cannot be used


@pytest.fixture(scope="module")
def target():
    """A model that no bad file may change."""
    return hrnet_model(backbone=f"hrnet_w{WIDTH}_small")


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def assert_one_line(error: pytest.ExceptionInfo, *words: str) -> None:
    message = str(error.value)
    assert "\n" not in message and len(message) < 600
    for word in words:
        assert word in message


BAD_FILES = {
    "empty": (b"", "is empty"),
    "web page": (b"\n<!DOCTYPE html><html><body>Google Drive - Virus scan warning</body></html>", "web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "Git LFS pointer"),
    "json": (b'{"state_dict": {}}', "not a checkpoint"),
    "noise": (bytes(range(256)) * 40, "not a checkpoint"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_files_that_are_no_checkpoint(kind, target, tmp_path):
    content, words = BAD_FILES[kind]
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        load_weights(target, path)
    assert_one_line(error, str(path), words)


def test_pickled_code_is_never_run(hrnet17, target, tmp_path):
    mark = tmp_path / "ran"
    path = saved(tmp_path / "w.pth", {"state_dict": hrnet17, "extra": Evil(mark)})
    with pytest.raises(InputError) as error:
        load_weights(target, path)
    assert not mark.exists()
    assert_one_line(error, "system", "runs no code")


def test_pickled_arguments_are_refused_with_advice(hrnet17, target, tmp_path):
    path = saved(tmp_path / "w.pth", {"state_dict": hrnet17, "args": argparse.Namespace(lr=1)})
    with pytest.raises(InputError) as error:
        load_weights(target, path)
    assert_one_line(error, "argparse.Namespace", "torch.save")


def test_numpy_numbers_beside_the_weights_are_read(hrnet17, tmp_path):
    value = {"state_dict": hrnet17, "best": np.float32(0.7), "epochs": np.arange(3), "name": np.array(["a"])}
    report = load_weights(hrnet_model(), saved(tmp_path / "w.pth", value))
    assert not report.missing


def test_legacy_torch_file_is_read(hrnet17, tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"state_dict": hrnet17}, path, _use_new_zipfile_serialization=False)
    assert not load_weights(hrnet_model(), path).missing


def test_a_header_whose_length_begins_like_a_pickle_is_read(tmp_path):
    model = create_model("hrnet", backbone="hrnet_w8_small", input_size=(64, 64))
    path = tmp_path / "m.safetensors"
    for length in range(0, 2048, 8):  # headers are padded to 8 bytes
        save_model(model, path, {"note": "x" * length})
        if path.read_bytes()[:1] == b"\x80":
            break
    assert path.read_bytes()[:1] == b"\x80"
    assert load_model(path).card["note"] == "x" * length


@settings(max_examples=20, deadline=None)
@given(cut=st.floats(0.0, 0.999), suffix=st.sampled_from(["pth", "legacy", "safetensors"]))
def test_truncated_files_are_one_clear_error(cut, suffix, target, tmp_path_factory, hrnet17):
    folder = tmp_path_factory.mktemp("cut")
    path = folder / f"w.{suffix}"
    small = {k: v for k, v in hrnet17.items() if k.startswith(("conv1", "stage2.0"))}
    if suffix == "safetensors":
        save_file(small, path)
    else:
        torch.save(small, path, _use_new_zipfile_serialization=suffix == "pth")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(InputError) as error:
        load_weights(target, path)
    assert_one_line(error, str(path))


@settings(max_examples=20, deadline=None)
@given(
    place=st.floats(0.0, 1.0, exclude_max=True),
    bit=st.integers(0, 7),
    suffix=st.sampled_from(["pth", "safetensors"]),
)
def test_flipped_bits_never_escape_as_another_exception(place, bit, suffix, target, tmp_path_factory):
    path = tmp_path_factory.mktemp("flip") / f"w.{suffix}"
    small = {"conv1.weight": torch.ones(2), "stage2.0.branches.0.0.conv1.weight": torch.ones(3)}
    if suffix == "safetensors":
        save_file(small, path)
    else:
        torch.save(small, path)
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1 << bit
    path.write_bytes(bytes(data))
    with pytest.raises(InputError) as error:  # what still reads does not fit the model
        load_weights(target, path)
    assert_one_line(error)


def test_checkpoint_of_another_width_names_the_backbone_it_was_made_for(tmp_path):
    path = saved(tmp_path / "w.pth", random_state(hrnet_shapes(8, 17)))
    model = hrnet_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(InputError) as error:
        load_weights(model, path)
    assert_one_line(error, "hrnet_w8", "backbone.transition1.0.0.weight", "of another shape")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_incomplete_backbone_is_refused_unless_allowed(hrnet17, tmp_path):
    path = saved(tmp_path / "w.pth", {k: v for k, v in hrnet17.items() if not k.startswith("stage4.2")})
    missing = sum(k.startswith("stage4.2") and not k.endswith("tracked") for k in hrnet17)
    with pytest.raises(InputError) as error:
        load_weights(hrnet_model(), path)
    assert_one_line(error, f"{missing} missing", "allow_partial=True")
    report = load_weights(hrnet_model(), path, allow_partial=True)
    assert len(report.missing) == missing


def test_head_of_unknown_joints_is_refused(tmp_path):
    path = saved(tmp_path / "w.pth", random_state(hrnet_shapes(WIDTH, 21)))
    with pytest.raises(InputError, match="21 joints"):
        load_weights(hrnet_model(), path)


def test_other_family_is_refused(hrnet17, tmp_path):
    path = saved(tmp_path / "w.pth", hrnet17)
    with pytest.raises(InputError) as error:
        load_weights(create_model("vitpose", backbone="vit_32x1x2", input_size=(64, 48)), path)
    assert_one_line(error, "holds a HRNet", "backbone is a ViT")


def test_not_finite_weights_are_refused(hrnet17, target, tmp_path):
    state = {**hrnet17, "conv1.weight": torch.full_like(hrnet17["conv1.weight"], float("nan"))}
    with pytest.raises(InputError, match=re.escape("conv1.weight")):
        load_weights(target, saved(tmp_path / "w.pth", state))


@pytest.mark.parametrize(
    ("value", "words"),
    [([1, 2], "list"), ({"a": 1}, "no tensors"), ({"weight": torch.ones(1)}, "no known pose checkpoint")],
)
def test_other_torch_files(value, words, target, tmp_path):
    with pytest.raises(InputError) as error:
        load_weights(target, saved(tmp_path / "w.pth", value))
    assert_one_line(error, words)


def test_sources_that_are_not_there(target, tmp_path):
    for source, words in (
        (tmp_path / "none.pth", "no such file"),
        ("https://example.org/w.pth", "web address"),
        ("nobody/no-such-model-here", "hub"),
        (tmp_path, "no checkpoint"),
    ):
        with pytest.raises(InputError) as error:
            load_weights(target, source)
        assert_one_line(error, words)


def test_a_folder_with_one_checkpoint_is_read_and_with_two_is_refused(hrnet17, tmp_path):
    saved(tmp_path / "a.pth", hrnet17)
    assert load_weights(hrnet_model(), tmp_path).matched
    saved(tmp_path / "b.pth", hrnet17)
    with pytest.raises(InputError, match="2 checkpoints"):
        load_weights(hrnet_model(), tmp_path)


DAMAGE = {
    "gone": lambda v: None,
    "cut": lambda v: v[: len(v) // 2],
    "flat": lambda v: v.flatten(),
    "scalar": lambda v: v.sum(),
    "object": lambda v: {"not": "a tensor"},
}


KINDS = [*COCO_CONTAINERS, *POSETRACK_CONTAINERS, "ours", "training", "resnet"]


# Every damage to the plain format, and every other format with one of them in turn.
@pytest.mark.parametrize(
    ("kind", "damage"),
    [*(("flat", damage) for damage in DAMAGE), *zip(KINDS[1:], [*DAMAGE] * len(KINDS), strict=False)],
)
def test_damaged_tensors_of_every_format_are_one_clear_line(kind, damage, hrnet17, tmp_path):
    state = dict(hrnet17)
    model, first, last = hrnet_model(), "stage2.0.branches.0.0.conv1.weight", "final_layer.weight"
    if kind == "resnet":
        state, model, first = random_state(resnet_shapes(4, 17)), simple_baseline(17), "layer3.0.conv1.weight"
    elif kind in ("ours", "training"):
        state = model.state_dict()
        first, last = f"backbone.{first}", f"head.{last}"
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for key in (first, last):
        broken = {**state, key: DAMAGE[damage](state[key])}
        broken = {k: v for k, v in broken.items() if v is not None}
        if kind in COCO_CONTAINERS:
            value = COCO_CONTAINERS[kind][1](broken)
        elif kind in POSETRACK_CONTAINERS:
            prefix, extra = POSETRACK_CONTAINERS[kind]
            value = {**prefixed(broken, prefix), extra: torch.ones(2), "deform_conv1.weight": torch.ones(2)}
        elif kind == "training":
            value = {"state_dict": prefixed(broken, "model."), "pytorch-lightning_version": "2.4.0"}
        else:
            value = broken
        path = saved(tmp_path / "w.pth", value)
        if kind == "ours" and damage != "object":
            description = json.dumps({"format": 1, "config": model.config, "card": {}})
            path = tmp_path / "w.safetensors"
            tensors = {k: v.clone().contiguous() for k, v in value.items()}
            save_file(tensors, path, metadata={"vidpose": description})
            with pytest.raises(InputError) as error:
                load_model(path)
            assert_one_line(error, str(path))
        with pytest.raises(InputError) as error:
            load_weights(model, path)
        assert_one_line(error, str(path))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
