"""The student: encoder, pyramid, and for each level a normality and an abnormality branch of equal capacity.

After DMDD (Liu et al., 2024), with our choices: the student starts from the teacher's first level rather
than from pixels (what a stem would take thousands of steps to learn is there already; with 200 steps the maps
gained a third in AP on real cookies); the encoder is a plain residual network (dense 3x3 convolutions train
ten times faster on a CPU with bf16 tiles than the depthwise ones of the teacher's family); the pyramid's
form is ours; the branches end linearly because the lite teacher's features are signed.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from .blocks import CBR, ResidualBlock, resize

Lateral = Literal["all", "none", "gated"]


@dataclass(frozen=True, slots=True)
class StudentSpec:
    """The encoder's channels at strides 4, 8, 16, 32, its blocks a stage, and the pyramid's width."""

    encoder: tuple[int, int, int, int]
    blocks: int
    pyramid: int
    lateral: Lateral = "all"


class Encoder(nn.Module):
    """The teacher's first level (N, C_1, H/4, W/4) to four tensors at strides 4, 8, 16, 32."""

    def __init__(self, spec: StudentSpec, channels_in: int) -> None:
        super().__init__()
        widths = spec.encoder
        first = nn.Sequential(CBR(channels_in, widths[0], 1), *_blocks(spec, widths[0]))
        coarser = (
            nn.Sequential(ResidualBlock(widths[i - 1], widths[i], 2), *_blocks(spec, widths[i])[1:])
            for i in range(1, 4)
        )
        self.stages = nn.ModuleList([first, *coarser])

    def forward(self, x: Tensor) -> list[Tensor]:
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels


class Pyramid(nn.Module):
    """Pyramid modeling network: from the coarsest level down, each finer level added through its lateral.

    `lateral`: "all" adds every lateral; "none" builds all levels from the coarsest (a bottleneck, so that
    fine detail of an anomaly can't reach N); "gated" scales a lateral by how well it agrees with what comes
    from above.
    """

    def __init__(self, spec: StudentSpec) -> None:
        super().__init__()
        width = spec.pyramid
        self.lateral = spec.lateral
        self.laterals = nn.ModuleList(CBR(channels, width, 1) for channels in spec.encoder)
        self.blocks = nn.ModuleList(ResidualBlock(width, width) for _ in spec.encoder)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        x = self.blocks[3](self.laterals[3](levels[3]))
        out: list[Tensor] = []
        for index in (2, 1, 0):
            above = resize(x, (levels[index].shape[2], levels[index].shape[3]))
            x = self.blocks[index](self._joined(above, levels[index], index))
            out.insert(0, x)
        return out

    def _joined(self, above: Tensor, level: Tensor, index: int) -> Tensor:
        if self.lateral == "none":
            return above
        side: Tensor = self.laterals[index](level)
        if self.lateral == "gated":
            agree = functional.cosine_similarity(above, side, dim=1, eps=1e-6).clamp(min=0)
            side = side * agree.unsqueeze(1)
        return above + side


class Decouple(nn.Module):
    """One level's 1x1 expansion, split in halves, each half to the teacher's width: (N, A), both linear."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.expand = nn.Sequential(CBR(width, 2 * channels, 1), CBR(2 * channels, 2 * channels, 1))
        self.normal = nn.Conv2d(channels, channels, 1)
        self.abnormal = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for_normal, for_abnormal = self.expand(x).split(self.channels, dim=1)
        return self.normal(for_normal), self.abnormal(for_abnormal)


class Student(nn.Module):
    """The teacher's first level (N, C_1, h, w) to (N_1..N_3, A_1..A_3): each pair has the shape of the
    teacher's level."""

    def __init__(self, spec: StudentSpec, channels: tuple[int, int, int]) -> None:
        super().__init__()
        self.encoder = Encoder(spec, channels[0])
        self.pyramid = Pyramid(spec)
        self.heads = nn.ModuleList(Decouple(spec.pyramid, c) for c in channels)
        self.apply(_initialise)

    def forward(self, first: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        levels = self.pyramid(self.encoder(first))
        pairs = [head(level) for head, level in zip(self.heads, levels, strict=True)]
        return [n for n, _ in pairs], [a for _, a in pairs]


def _blocks(spec: StudentSpec, width: int) -> list[ResidualBlock]:
    return [ResidualBlock(width, width) for _ in range(spec.blocks)]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            torch.nn.init.zeros_(module.bias)
