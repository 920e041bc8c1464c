"""ResNet (He et al., CVPR 2016) without its classifier; names are torchvision's, so that its weights load."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from vidpose.models.hrnet import BasicBlock, Bottleneck, init_residual, residual_layer


class ResNet(nn.Module):
    """Four stages of residual blocks; the stride of a bottleneck is in its 3x3 convolution.

    Args:
        blocks: residual blocks of each stage, (3, 4, 6, 3) for ResNet-50.
        width: channels of the stem and of the first stage's blocks.
        block: ``Bottleneck``, or ``BasicBlock`` for ResNet-18 and -34.
    """

    family = "resnet"
    stride = 32
    size_multiple = 32

    def __init__(
        self,
        blocks: tuple[int, int, int, int] = (3, 4, 6, 3),
        *,
        width: int = 64,
        block: type[BasicBlock] | type[Bottleneck] = Bottleneck,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels = [width * 2**i for i in range(4)]
        inputs = [width, *(c * block.expansion for c in channels[:3])]
        self.layer1 = residual_layer(block, inputs[0], channels[0], blocks[0])
        self.layer2 = residual_layer(block, inputs[1], channels[1], blocks[1], 2)
        self.layer3 = residual_layer(block, inputs[2], channels[2], blocks[2], 2)
        self.layer4 = residual_layer(block, inputs[3], channels[3], blocks[3], 2)
        self.channels = {f"stage{i + 1}": c * block.expansion for i, c in enumerate(channels)}
        self.out_channels = self.channels["stage4"]
        init_residual(self)

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """Frames [N, 3, H, W] -> ``stage4`` [N, 2048, H/32, W/32], and ``stage1`` .. ``stage3`` before it."""
        x = F.relu(self.bn1(self.conv1(frames)))
        x = F.max_pool2d(x, 3, 2, padding=1)  # [N, width, H/4, W/4]
        features = {}
        for i, layer in enumerate((self.layer1, self.layer2, self.layer3, self.layer4), start=1):
            x = layer(x)
            features[f"stage{i}"] = x
        return features
