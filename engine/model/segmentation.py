"""The multi-perception segmentation head: six groups (3 levels x 2 branches) fused by attention into one
logit map.

After DMDD's "fusion based on multiple attention", with our choices: scale and branch attention, channel and
spatial attention (as in CBAM, Woo et al. 2018), parallel dilations (as in ASPP, Chen et al. 2017); the
element-wise product of teacher and student as input is DeSTSeg's (Zhang et al. 2023).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .blocks import CBR, ResidualBlock, resize


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """`embed` channels a group, `width` of the fused trunk."""

    embed: int
    width: int


class GroupAttention(nn.Module):
    """Which level and branch to trust for this picture, from the mean and peak of the six maps."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.Linear(2 * groups, 4 * groups),
            nn.ReLU(inplace=True),
            nn.Linear(4 * groups, groups),
            nn.Sigmoid(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, K, H, W) → weights (N, K)."""
        flat = maps.flatten(2)
        weights: Tensor = self.weigh(torch.cat([flat.mean(2), flat.amax(2)], dim=1))
        return weights


class ChannelAttention(nn.Module):
    """Weights per channel from average and maximum over the picture, through one small shared network."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(width // 16, 4)
        self.shared = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.sigmoid(self.shared(x.mean((2, 3))) + self.shared(x.amax((2, 3))))
        return x * weights[:, :, None, None]


class SpatialAttention(nn.Module):
    """Weights per position from mean and maximum over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.conv(seen))


class Receptive(nn.Module):
    """Several receptive fields side by side: 1x1, dilated 3x3 and the whole picture, fused by 3x3."""

    def __init__(self, width: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        part = width // 2
        self.near = CBR(width, part, 1)
        self.far = nn.ModuleList(CBR(width, part, 3, dilation=d) for d in dilations)
        self.whole = nn.Linear(width, part)
        self.fuse = CBR(part * (len(dilations) + 2), width, 3)

    def forward(self, x: Tensor) -> Tensor:
        whole = functional.relu(self.whole(x.mean((2, 3))))[:, :, None, None].expand(-1, -1, *x.shape[2:])
        parts = [self.near(x), *(conv(x) for conv in self.far), whole.to(x.dtype)]
        fused: Tensor = self.fuse(torch.cat(parts, dim=1))
        return fused


class SegmentationHead(nn.Module):
    """Products and maps of all levels and branches → logits (N, 1, h, w) float32 at the finest level's
    size."""

    def __init__(self, spec: HeadSpec, channels: tuple[int, int, int]) -> None:
        super().__init__()
        groups = [*channels, *channels]
        self.embed = nn.ModuleList(CBR(c, spec.embed, 1) for c in groups)
        self.groups = GroupAttention(len(groups))
        self.fuse = nn.Sequential(
            ResidualBlock(len(groups) * (spec.embed + 1), spec.width),
            ChannelAttention(spec.width),
            SpatialAttention(),
            Receptive(spec.width, (3, 6, 12)),
            CBR(spec.width, spec.width, 3),
        )
        self.logit = nn.Conv2d(spec.width, 1, 1)
        # Anomalous pixels are rare: starting at 2 % keeps the first steps from being spent on the bias.
        nn.init.constant_(self.logit.bias, -4.0)  # type: ignore[arg-type]

    def forward(self, products: list[Tensor], maps: Tensor) -> Tensor:
        """`products`: six (N, C_l, h_l, w_l); `maps`: (N, 6, h, w) at the finest size."""
        size = (maps.shape[2], maps.shape[3])
        weights = self.groups(maps)
        parts = []
        for index, (embed, product) in enumerate(zip(self.embed, products, strict=True)):
            weight = weights[:, index, None, None, None]
            # Weighed before it is enlarged, which is the same and less work.
            parts += [resize(embed(product) * weight, size), maps[:, index : index + 1] * weight]
        fused = self.fuse(torch.cat(parts, dim=1))
        with torch.autocast(fused.device.type, enabled=False):
            logits: Tensor = self.logit(fused.float())
        return logits
