"""HRNet (Sun et al., CVPR 2019): four resolutions side by side, exchanged after every module.

State-dict names are those of the official ``pose_hrnet``, so that its checkpoints load by name.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, *, relu: bool = True) -> nn.Sequential:
    """Convolution without bias, BatchNorm, and a ReLU where ``relu``."""
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a residual connection."""

    expansion = 1

    def __init__(
        self, inputs: int, planes: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + residual)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions with a residual connection; four times as many channels leave as work."""

    expansion = 4

    def __init__(
        self, inputs: int, planes: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + residual)


def residual_layer(
    block: type[BasicBlock] | type[Bottleneck], inputs: int, planes: int, blocks: int, stride: int = 1
) -> nn.Sequential:
    """``blocks`` residual blocks; the first changes stride and channels through a 1x1 shortcut if it must."""
    outputs = planes * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = conv_bn(inputs, outputs, 1, stride, relu=False)
    layers: list[nn.Module] = [block(inputs, planes, stride, shortcut)]
    layers += [block(outputs, planes) for _ in range(blocks - 1)]
    return nn.Sequential(*layers)


def init_residual(network: nn.Module) -> None:
    """Convolutions that keep the variance, and residual branches that start at zero (Goyal et al., 2017).

    silent: published training starts from ImageNet weights. Under the usual He initialisation the features of
    an untrained HRNet grow to 1e4 in eval mode, where BatchNorm does not yet know them.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        elif isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)
        elif isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Writes BatchNorms into the convolutions before them: the same network in eval mode, faster.

    For networks whose modules name a BatchNorm right after the convolution that it follows, as HRNet and
    ResNet do. Changes and returns ``network``, which cannot be trained nor saved as what it was.
    """
    for module in network.modules():
        children = list(module.named_children())
        for (_, first), (second_name, second) in zip(children, children[1:], strict=False):
            if not (isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d)):
                continue
            if second.running_mean is not None and second.running_var is not None:
                first.weight, first.bias = fuse_conv_bn_weights(
                    first.weight, first.bias, second.running_mean, second.running_var, second.eps,
                    second.weight, second.bias,
                )  # fmt: skip
                setattr(module, second_name, nn.Identity())
    return network


class HighResolutionModule(nn.Module):
    """Residual blocks per resolution, then every output resolution sums all of them."""

    def __init__(self, channels: list[int], blocks: int, outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([residual_layer(BasicBlock, c, c, blocks) for c in channels])
        self.fuse_layers = nn.ModuleList(
            [
                nn.ModuleList([self._exchange(channels, source, target) for source in range(len(channels))])
                for target in range(outputs)
            ]
        )

    @staticmethod
    def _exchange(channels: list[int], source: int, target: int) -> nn.Module:
        if source == target:
            return nn.Identity()
        if source > target:  # to a higher resolution; the up-sampling itself is in forward
            return conv_bn(channels[source], channels[target], 1, relu=False)
        steps = [conv_bn(channels[source], channels[source], 3, 2) for _ in range(target - source - 1)]
        return nn.Sequential(*steps, conv_bn(channels[source], channels[target], 3, 2, relu=False))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused: list[Tensor] = []
        for layers in self.fuse_layers:
            total: Tensor | None = None
            target = maps[len(fused)]
            for exchange, x in zip(layers, maps, strict=True):  # type: ignore[call-overload]
                x = exchange(x)
                if x.shape[-2:] != target.shape[-2:]:
                    x = F.interpolate(x, size=target.shape[-2:], mode="nearest")
                total = x if total is None else total + x
            assert total is not None
            fused.append(F.relu(total))
        return fused


class HRNet(nn.Module):
    """HRNet without its last layer; features are the highest resolution after each stage.

    Args:
        width: channels of the highest resolution; the others have 2, 4 and 8 times as many.
        stem: channels of the two stride-2 convolutions.
        planes: working width of the bottlenecks of stage 1 (4 times as many leave it).
        bottlenecks: number of them.
        modules: number of high-resolution modules in stages 2, 3, 4.
        blocks: residual blocks of each branch of each module.

    The defaults are the published network; 48 and 32 are the published widths.
    """

    family = "hrnet"
    stride = 4
    size_multiple = 32

    def __init__(
        self,
        width: int = 48,
        *,
        stem: int = 64,
        planes: int = 64,
        bottlenecks: int = 4,
        modules: tuple[int, int, int] = (1, 4, 3),
        blocks: int = 4,
    ) -> None:
        super().__init__()
        self.channels = {f"stage{i}": width for i in (1, 2, 3, 4)}
        self.out_channels = width
        self.conv1 = nn.Conv2d(3, stem, 3, 2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = nn.Conv2d(stem, stem, 3, 2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem)
        self.layer1 = residual_layer(Bottleneck, stem, planes, bottlenecks)
        widths = [width * 2**i for i in range(4)]
        self.transition1 = self._transition([4 * planes], widths[:2])
        self.stage2 = self._stage(widths[:2], modules[0], blocks)
        self.transition2 = self._transition(widths[:2], widths[:3])
        self.stage3 = self._stage(widths[:3], modules[1], blocks)
        self.transition3 = self._transition(widths[:3], widths)
        self.stage4 = self._stage(widths, modules[2], blocks, last=True)
        init_residual(self)

    @staticmethod
    def _transition(before: list[int], after: list[int]) -> nn.ModuleList:
        layers: list[nn.Module] = []
        for i, outputs in enumerate(after):
            if i >= len(before):
                layers.append(nn.Sequential(conv_bn(before[-1], outputs, 3, 2)))
            else:
                layers.append(nn.Identity() if before[i] == outputs else conv_bn(before[i], outputs, 3))
        return nn.ModuleList(layers)

    @staticmethod
    def _stage(channels: list[int], modules: int, blocks: int, *, last: bool = False) -> nn.Sequential:
        outputs = [1 if last and i == modules - 1 else len(channels) for i in range(modules)]
        return nn.Sequential(*(HighResolutionModule(channels, blocks, n) for n in outputs))

    @staticmethod
    def _enter(transition: nn.ModuleList, maps: list[Tensor]) -> list[Tensor]:
        """One map more than before; the new one is made from the lowest resolution."""
        return [layer(maps[min(i, len(maps) - 1)]) for i, layer in enumerate(transition)]

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """Frames [N, 3, H, W] -> ``stage1`` .. ``stage4``, each [N, width, H/4, W/4]."""
        x = F.relu(self.bn1(self.conv1(frames)))
        x = F.relu(self.bn2(self.conv2(x)))  # [N, stem, H/4, W/4]
        maps = self._enter(self.transition1, [self.layer1(x)])
        features = {"stage1": maps[0]}
        maps = self.stage2(maps)
        features["stage2"] = maps[0]
        maps = self.stage3(self._enter(self.transition2, maps))
        features["stage3"] = maps[0]
        maps = self.stage4(self._enter(self.transition3, maps))
        features["stage4"] = maps[0]
        return features


def hrnet_small(width: int = 16) -> HRNet:
    """The same network with few blocks, for machines without a GPU."""
    return HRNet(width, stem=32, planes=16, bottlenecks=1, modules=(1, 1, 1), blocks=2)


__all__ = [
    "BasicBlock",
    "Bottleneck",
    "HRNet",
    "HighResolutionModule",
    "conv_bn",
    "hrnet_small",
    "residual_layer",
]
