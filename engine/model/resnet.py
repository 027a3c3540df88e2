"""ResNet trunks to stride 16, with torchvision's parameter names, so that its weight files load.

He et al., "Deep Residual Learning" (2015) and Zagoruyko, Komodakis, "Wide Residual Networks" (2016). Ours
rather than torchvision's, because a torchvision beside a CPU torch may not import at all.
"""

from torch import Tensor, nn
from torch.nn import functional

from .blocks import fold_norm


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(channels_in, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 of `width`, 1x1 to 4 x `channels`, and a shortcut; the stride sits on the 3x3."""

    def __init__(self, channels_in: int, channels: int, stride: int, width: int) -> None:
        super().__init__()
        out = channels * 4
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = _shortcut(channels_in, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNetTrunk(nn.Module):
    """Images (N, 3, H, W), already normalised, to the outputs of layer1..layer3 (strides 4, 8, 16)."""

    def __init__(self, blocks: tuple[int, int, int], *, wide: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.channels_now = 64
        self.layer1 = self._layer(64, blocks[0], 1, wide)
        self.layer2 = self._layer(128, blocks[1], 2, wide)
        self.layer3 = self._layer(256, blocks[2], 2, wide)

    def _layer(self, channels: int, blocks: int, stride: int, wide: bool) -> nn.Sequential:
        layer: list[nn.Module] = []
        for index in range(blocks):
            step = stride if index == 0 else 1
            if wide:
                layer.append(Bottleneck(self.channels_now, channels, step, channels * 2))
            else:
                layer.append(BasicBlock(self.channels_now, channels, step))
            self.channels_now = channels * (4 if wide else 1)
        return nn.Sequential(*layer)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(images))), 3, 2, 1)
        first = self.layer1(x)
        second = self.layer2(first)
        return first, second, self.layer3(second)

    def fold(self) -> None:
        """Fold every batch norm into the convolution before it: the same function, half the layers."""
        fold_norm(self, "conv1", "bn1")
        for block in (b for layer in (self.layer1, self.layer2, self.layer3) for b in layer):
            for index in range(1, 4 if isinstance(block, Bottleneck) else 3):
                fold_norm(block, f"conv{index}", f"bn{index}")
            if isinstance(block.downsample, nn.Sequential):
                fold_norm(block.downsample, "0", "1")


def _shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels_in == channels_out:
        return None
    conv = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out))
