"""Released PoseWarper, DCPose and FAMI-Pose files, whole, against their published forward passes."""

from __future__ import annotations

import pytest
import torch
from test_checkpoints import Reference, bn_shapes, hrnet_shapes, prefixed, random_state
from torch import Tensor
from torch.nn import functional as F

from vidpose.errors import InputError
from vidpose.infer.weights import load_pose_model
from vidpose.models.checkpoint_formats import Converted
from vidpose.models.checkpoint_methods import METHODS, fold_biases, whole_method
from vidpose.models.counting import meta_model
from vidpose.models.factory import create_model, load_weights
from vidpose.models.layers import deform_conv2d
from vidpose.skeletons import POSETRACK18

SIZE = (64, 64)
WIDTH = 4
JOINTS = 17
Shapes = dict[str, tuple[int, ...]]


# --- what the releases hold ------------------------------------------------------------------------------


def basic_blocks(name: str, inputs: int, outputs: int, count: int) -> Shapes:
    shapes: Shapes = {}
    for i in range(count):
        for k, channels in ((1, inputs if i == 0 else outputs), (2, outputs)):
            shapes[f"{name}.{i}.conv{k}.weight"] = (outputs, channels, 3, 3)
            shapes |= bn_shapes(f"{name}.{i}.bn{k}", outputs)
    shapes[f"{name}.0.downsample.0.weight"] = (outputs, inputs, 1, 1)
    return shapes | bn_shapes(f"{name}.0.downsample.1", outputs)


def conv_bn(name: str, inputs: int, outputs: int, kernel: int) -> Shapes:
    shapes: Shapes = {
        f"{name}.conv.weight": (outputs, inputs, kernel, kernel),
        f"{name}.conv.bias": (outputs,),
    }
    return shapes | bn_shapes(f"{name}.bn", outputs)


def residual_steps(name: str, inputs: int, outputs: int, count: int) -> Shapes:
    shapes: Shapes = {}
    for i in range(count):
        start, channels = f"{name}.layers.{i}", inputs if i == 0 else outputs
        branch = channels * 26 // 64
        shapes |= conv_bn(f"{start}.conv_bn_relu1", channels, 4 * branch, 1)
        for part in range(1, 5):
            for step in range(1, part + 1):
                shapes |= conv_bn(f"{start}.conv_bn_relu2_{part}_{step}", branch, branch, 3)
        shapes |= conv_bn(f"{start}.conv_bn_relu3", 4 * branch, outputs, 1)
    return shapes | conv_bn(f"{name}.layers.0.downsample", inputs, outputs, 1)


def posewarper_shapes(width: int) -> Shapes:
    shapes = {**hrnet_shapes(width, JOINTS), **basic_blocks("offset_feats", JOINTS, 128, 20)}
    for d in range(1, 6):
        shapes[f"offsets{d}.weight"] = (JOINTS * 18, 128, 3, 3)
        shapes[f"deform_conv{d}.weight"] = (JOINTS, JOINTS, 3, 3)
    return shapes


def dcpose_shapes(width: int) -> Shapes:
    shapes = {f"rough_pose_estimation_net.{k}": s for k, s in hrnet_shapes(width, JOINTS).items()}
    shapes |= residual_steps("diff_temporal_fuse", 4 * JOINTS, 2 * JOINTS, 2)
    shapes |= residual_steps("support_temporal_fuse", 3 * JOINTS, JOINTS, 1)
    shapes |= residual_steps("offset_mask_combine_conv", 3 * JOINTS, 64, 2)
    for d in range(5):
        shapes[f"offsets_list.{d}.0.weight"] = (JOINTS * 18, 64, 3, 3)
        shapes[f"masks_list.{d}.0.weight"] = (JOINTS * 9, 64, 3, 3)
        shapes[f"modulated_deform_conv_list.{d}.deform_conv.weight"] = (JOINTS, JOINTS, 3, 3)
        shapes[f"modulated_deform_conv_list.{d}.deform_conv.bias"] = (JOINTS,)
    return shapes


def famipose_shapes(width: int) -> Shapes:
    groups = max(1, width // 4)
    shapes = {f"hrnet.{k}": s for k, s in hrnet_shapes(width, JOINTS).items()}
    shapes |= basic_blocks("feat_global_offset_layers.0.layers", width, 16, 1)
    for i in range(1, 6):
        shapes |= conv_bn(f"feat_global_offset_layers.{i}", 16, 16, 3)
    for i, (inputs, outputs) in enumerate(((144, 64), (64, 64), (64, 2)), start=7):
        shapes[f"feat_global_offset_layers.{i}.weight"] = (outputs, inputs)
        shapes[f"feat_global_offset_layers.{i}.bias"] = (outputs,)
    shapes |= basic_blocks("combined_feat_layers.layers", 2 * width, width, 1)
    for i in range(1, 5):
        for what, count in (("offset", 18), ("mask", 9)):
            shapes[f"dcn_{what}_{i}.conv.weight"] = (groups * count, width, 3, 3)
            shapes[f"dcn_{what}_{i}.conv.bias"] = (groups * count,)
        shapes[f"dcn_{i}.weight"], shapes[f"dcn_{i}.bias"] = (width, width, 3, 3), (width,)
    shapes |= basic_blocks("sup_agg_block.layers", 4 * width, width, 2)
    shapes |= basic_blocks("init_feature_agg_block.layers", 2 * width, width, 3)
    shapes["agg_final_layer.weight"], shapes["agg_final_layer.bias"] = (JOINTS, width, 3, 3), (JOINTS,)
    return shapes


SHAPES = {"posewarper": posewarper_shapes, "dcpose": dcpose_shapes, "famipose": famipose_shapes}
FORMATS = {method.owner: name for name, method in METHODS.items()}
FRAMES = {"posewarper": 5, "dcpose": 3, "famipose": 5}
PREFIXES = {"posewarper": "", "dcpose": "rough_pose_estimation_net.", "famipose": "hrnet."}
SWITCHES = {"famipose": {"modulation": "linear"}}


# --- what the releases compute ----------------------------------------------------------------------------


class Released(Reference):
    """Functional layers over a released state dict; frames [T, 3, H, W] in order of time."""

    def named(self, x: Tensor, name: str, *, stride: int = 1, relu: bool = True) -> Tensor:
        weight = self.s[f"{name}.conv.weight"]
        x = F.conv2d(x, weight, self.s[f"{name}.conv.bias"], stride=stride, padding=weight.shape[-1] // 2)
        x = self.bn(x, f"{name}.bn")
        return F.relu(x) if relu else x

    def blocks(self, x: Tensor, name: str, count: int) -> Tensor:
        for i in range(count):
            x = self.block(x, f"{name}.{i}")
        return x

    def steps(self, x: Tensor, name: str, count: int) -> Tensor:
        for i in range(count):
            start = f"{name}.layers.{i}"
            a, b, c, d = self.named(x, f"{start}.conv_bn_relu1").chunk(4, dim=1)

            def f(y: Tensor, step: str, start: str = start) -> Tensor:
                return self.named(y, f"{start}.conv_bn_relu2_{step}")

            a1 = f(a, "1_1")
            b1 = f(b + a1, "2_1")
            b2 = f(b1, "2_2")
            c1 = f(c + b1, "3_1")
            c2 = f(c1 + b2, "3_2")
            c3 = f(c2, "3_3")
            d4 = f(f(f(f(d + c1, "4_1") + c2, "4_2") + c3, "4_3"), "4_4")
            y = self.named(torch.cat([a1, b2, c3, d4], dim=1), f"{start}.conv_bn_relu3", relu=False)
            x = F.relu(y + (self.named(x, f"{start}.downsample", relu=False) if i == 0 else x))
        return x

    def dilated(self, x: Tensor, name: str, dilation: int) -> Tensor:
        bias = self.s.get(f"{name}.bias")
        return F.conv2d(x, self.s[f"{name}.weight"], bias, padding=dilation, dilation=dilation)

    def deform(self, x: Tensor, offset: Tensor, mask: Tensor | None, name: str, dilation: int) -> Tensor:
        weight, bias = self.s[f"{name}.weight"], self.s.get(f"{name}.bias")
        return deform_conv2d(x, offset, mask, weight, bias, padding=dilation, dilation=dilation)

    def network(self, prefix: str) -> Reference:
        return Reference({k[len(prefix) :]: v for k, v in self.s.items() if k.startswith(prefix)})

    def posewarper(self, frames: Tensor) -> Tensor:
        heatmaps = self.hrnet(frames)
        features = self.blocks(heatmaps[2:3] - heatmaps, "offset_feats", 20)
        warped = torch.zeros_like(heatmaps)
        for d, dilation in enumerate((3, 6, 12, 18, 24), start=1):
            offsets = self.dilated(features, f"offsets{d}", dilation)
            warped += 0.2 * self.deform(heatmaps, offsets, None, f"deform_conv{d}", dilation)
        return sum(w * x for w, x in zip((0.1, 0.25, 0.3, 0.25, 0.1), warped, strict=True))

    def dcpose(self, frames: Tensor) -> Tensor:
        before, key, after = self.network("rough_pose_estimation_net.").hrnet(frames)
        residuals, merged = [], []
        for p, k, n in zip(before, key, after, strict=True):
            residuals += [k - p, 0.5 * (k - p), k - n, 0.5 * (k - n)]
            merged += [k, 0.5 * p, 0.5 * n]
        fused = self.steps(torch.stack(residuals)[None], "diff_temporal_fuse", 2)
        support = self.steps(torch.stack(merged)[None], "support_temporal_fuse", 1)
        features = self.steps(torch.cat([fused, support], dim=1), "offset_mask_combine_conv", 2)
        found = torch.zeros_like(support)
        for d, dilation in enumerate((3, 6, 9, 12, 15)):
            offsets = self.dilated(features, f"offsets_list.{d}.0", dilation)
            masks = self.dilated(features, f"masks_list.{d}.0", dilation)
            name = f"modulated_deform_conv_list.{d}.deform_conv"
            found += 0.2 * self.deform(support, offsets, masks, name, dilation)
        return found[0]

    def famipose(self, frames: Tensor) -> Tensor:
        network = self.network("hrnet.")
        network.s["final_layer.weight"] = torch.eye(WIDTH)[:, :, None, None]  # the features themselves
        network.s["final_layer.bias"] = torch.zeros(WIDTH)
        features = network.hrnet(frames)
        moved = []
        for t in (0, 1, 3, 4):
            x = self.blocks(features[t : t + 1] - features[2:3], "feat_global_offset_layers.0.layers", 1)
            for i in range(1, 6):
                x = self.named(x, f"feat_global_offset_layers.{i}", stride=2)
            x = x.expand(1, 16, 3, 3).flatten(1)  # a crop of 64x64 leaves one place
            for i in (7, 8, 9):
                x = F.linear(x, *(self.s[f"feat_global_offset_layers.{i}.{w}"] for w in ("weight", "bias")))
            moved.append(moved_by(features[t], x[0]))
        support = self.blocks(torch.cat(moved)[None], "sup_agg_block.layers", 2)
        guide = self.blocks(torch.cat([support, features[2:3]], dim=1), "combined_feat_layers.layers", 1)

        def step(x: Tensor, guide: Tensor, i: int) -> Tensor:
            offset, mask = (self.dilated(guide, f"dcn_{what}_{i}.conv", 3) for what in ("offset", "mask"))
            return self.deform(x, offset, mask, f"dcn_{i}", 3)

        guide = step(guide, guide, 1)
        guide = step(guide, guide, 2)
        aligned = step(support, guide, 3)
        aligned = step(aligned, aligned, 4)
        x = self.blocks(torch.cat([features[2:3], aligned], dim=1), "init_feature_agg_block.layers", 3)
        return F.conv2d(x, self.s["agg_final_layer.weight"], self.s["agg_final_layer.bias"], padding=1)[0]


def moved_by(maps: Tensor, offset: Tensor) -> Tensor:
    """Maps [C, h, w] moved by (right, down) pixels, bilinear, zero outside: one pixel at a time."""
    height, width = maps.shape[-2:]
    out = torch.zeros_like(maps)
    for row in range(height):
        for column in range(width):
            y, x = row - float(offset[1]), column - float(offset[0])
            for r in (int(y // 1), int(y // 1) + 1):
                for c in (int(x // 1), int(x // 1) + 1):
                    if 0 <= r < height and 0 <= c < width:
                        out[:, row, column] += maps[:, r, c] * (1 - abs(y - r)) * (1 - abs(x - c))
    return out


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, Tensor]]:
    return {name: random_state(shapes(WIDTH)) for name, shapes in SHAPES.items()}


def model_of(name: str, **arguments):
    arguments = {"skeleton": "posetrack18", **SWITCHES.get(name, {}), **arguments}
    return create_model(name, backbone=f"hrnet_w{WIDTH}", input_size=SIZE, **arguments).eval()


@pytest.fixture(params=SHAPES)
def name(request) -> str:
    return request.param


def test_a_released_file_gives_the_heatmaps_of_its_source(name, states, tmp_path):
    state = states[name]
    path = tmp_path / "w.pth"
    flat = name == "posewarper"
    torch.save(state if flat else {"begin_epoch": 20, "state_dict": prefixed(state, "module.")}, path)
    model = model_of(name)
    report = load_weights(model, path)
    assert report.format == FORMATS[name]
    assert all(key.startswith("information.") for key in report.missing)
    unused = ["head.final_layer.weight", "head.final_layer.bias"] if name == "famipose" else []
    assert report.unexpected == unused
    generator = torch.Generator().manual_seed(3)
    frames = torch.randn(FRAMES[name], 3, *SIZE, generator=generator)
    with torch.no_grad():
        expected = getattr(Released(dict(state)), name)(frames)
        assert expected.std() > 1e-3
        found = model(frames[None]).heatmaps[0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_names_and_shapes_are_those_of_the_published_size(name):
    shapes = SHAPES[name](48)
    own = meta_model(name, skeleton="posetrack18").state_dict()
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    prefix = PREFIXES[name]
    inside = {k[len(prefix) :]: v for k, v in state.items() if k[len(prefix) :] in hrnet_shapes(48, JOINTS)}
    heads = ("final_layer.weight", "final_layer.bias")
    found = Converted(
        FORMATS[name],
        "hrnet",
        {("head." if k in heads else "backbone.") + k: v for k, v in inside.items()},
        [k for k in state if k[len(prefix) :] not in inside],
        joints="posetrack18",
    )
    whole = whole_method(found, state, name, POSETRACK18.joints)
    assert whole.owner == name
    assert {k: tuple(v.shape) for k, v in whole.tensors.items()} == {
        k: tuple(v.shape) for k, v in own.items() if not k.startswith("information.")
    }


def test_for_other_joints_the_single_frame_network_is_used(name, states, tmp_path):
    torch.save(states[name], tmp_path / "w.pth")
    model = model_of(name, skeleton="posetrack15")
    report = load_weights(model, tmp_path / "w.pth")
    assert any("skeleton='posetrack18'" in note for note in report.notes)
    assert not any(key.startswith("head.") for key in report.matched)
    assert all(key.startswith(("head.", "information.")) for key in report.missing)


def test_another_model_takes_the_single_frame_network(name, states, tmp_path):
    torch.save(states[name], tmp_path / "w.pth")
    model = create_model("hrnet", backbone=f"hrnet_w{WIDTH}", input_size=SIZE, skeleton="posetrack18")
    report = load_weights(model, tmp_path / "w.pth")
    assert not report.missing
    assert set(report.unexpected) == {k for k in states[name] if not k.startswith(PREFIXES[name])} or (
        name == "posewarper" and all(k.startswith(("offset", "deform")) for k in report.unexpected)
    )


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_damaged_temporal_part_is_refused(name, damage, states, tmp_path):
    key = {"posewarper": "offsets3.weight", "dcpose": "masks_list.2.0.weight", "famipose": "dcn_2.weight"}[
        name
    ]
    state = dict(states[name])
    value = state.pop(key)
    if damage == "cut":
        state[key] = value[:3]
    torch.save(state, tmp_path / "w.pth")
    model = model_of(name)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(InputError, match=r"head does not fit the model: head\."):
        load_weights(model, tmp_path / "w.pth")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_bias_before_batch_norm_is_its_mean():
    state = random_state(conv_bn("a", 3, 5, 3))
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    folded = fold_biases(state)
    assert set(folded) == set(state) - {"a.conv.bias"}
    bare = F.conv2d(x, folded["a.conv.weight"], padding=1)
    expected = Released(state).named(x, "a", relu=False)
    torch.testing.assert_close(Reference(folded).bn(bare, "a.bn"), expected)


def test_estimation_with_a_released_file_runs_the_whole_method(name, states, tmp_path):
    """``--model posewarper --weights released.pth``: with its own joints, not the single-frame part alone."""
    path = tmp_path / "released.pth"
    torch.save(states[name], path)
    found, _ = load_pose_model(name, path)
    expected = model_of(name)
    load_weights(expected, path)
    assert (found.num_joints, found.training) == (JOINTS, False)
    own = {key: value for key, value in expected.state_dict().items() if key.startswith("head.")}
    assert all(torch.equal(found.state_dict()[key], value) for key, value in own.items())


def test_a_single_frame_checkpoint_gives_no_method_to_run(tmp_path):
    path = tmp_path / "hrnet.pth"
    torch.save(random_state(hrnet_shapes(WIDTH, JOINTS)), path)
    with pytest.raises(InputError, match="no head of posewarper"):
        load_pose_model("posewarper", path)
