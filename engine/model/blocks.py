"""The two blocks everything of ours is built from, and what all networks share."""

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval


def conv_norm(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1, *, dilation: int = 1
) -> nn.Sequential:
    """Convolution without bias, then batch norm; the size is kept up to the stride."""
    pad = dilation * (kernel // 2)
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, pad, dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out))


class CBR(nn.Sequential):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__(
            *conv_norm(channels_in, channels_out, kernel, stride, dilation=dilation), nn.ReLU(inplace=True)
        )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, ReLU at the end (He et al. 2015)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.first = CBR(channels_in, channels_out, 3, stride)
        self.second = conv_norm(channels_out, channels_out, 3)
        same = channels_in == channels_out and stride == 1
        self.shortcut = nn.Identity() if same else conv_norm(channels_in, channels_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.second(self.first(x)) + self.shortcut(x))


def fold_norm(owner: nn.Module, conv_name: str, norm_name: str) -> None:
    """Fold a batch norm of `owner` into the convolution before it: the same function, half the layers."""
    conv, norm = getattr(owner, conv_name), getattr(owner, norm_name)
    setattr(owner, conv_name, fuse_conv_bn_eval(conv, norm))
    setattr(owner, norm_name, nn.Identity())


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear to (H, W), cell centres aligned as pictures are (align_corners=False)."""
    if x.shape[2:] == size:
        return x
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
