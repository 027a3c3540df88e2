"""One camera's network: student, segmentation head, and how their maps become one raw anomaly map.

After DMDD (Liu et al., 2024), with our choices. The join is ours: each of the six distillation maps and the
head's logits are z-scored by what they show on held-out good pictures and added with the trainer's weights.
All of it lies in buffers, so the state dict is the whole model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import EngineError
from .blocks import resize
from .segmentation import HeadSpec, SegmentationHead
from .student import Lateral, Student, StudentSpec
from .teacher import TEACHERS

# What the weights mean. Another number for every change after which old weights would still load but answer
# something else: a layer, a distance, the join, how pictures are brought to size.
ARCHITECTURE = 3

LEVELS = 3
MAPS = 2 * LEVELS  # N at strides 4, 8, 16, then A at strides 4, 8, 16
PARTS = MAPS + 1  # and the head
# Distances are joined as logarithms (ours): their spread over good pictures has a long tail that would set
# the alarm level; and a sum of logarithms is a product, so that one noisy level doesn't decide alone.
FLOOR = 0.05
_EPS = 1e-12


@dataclass(frozen=True, slots=True)
class SizeSpec:
    """A model size by name: which teacher, which student, which head."""

    name: str
    teacher: str
    student: StudentSpec
    head: HeadSpec


_R18 = StudentSpec(encoder=(64, 128, 256, 512), blocks=2, pyramid=128)
_WIDE = StudentSpec(encoder=(128, 256, 512, 1024), blocks=2, pyramid=256)

SIZES: dict[str, SizeSpec] = {
    "lite": SizeSpec(
        "lite",
        "efficientnet_lite0",
        StudentSpec(encoder=(48, 64, 128, 192), blocks=1, pyramid=64),
        HeadSpec(embed=16, width=48),
    ),
    "r18": SizeSpec("r18", "resnet18", _R18, HeadSpec(embed=48, width=128)),
    "wide-lite": SizeSpec("wide-lite", "wide_resnet50_2", _R18, HeadSpec(embed=48, width=128)),
    "wide": SizeSpec("wide", "wide_resnet50_2", _WIDE, HeadSpec(embed=48, width=128)),
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What teacher and student disagree on: `maps` (N, 6, h, w) float32 cosine distances, weighed by the
    teacher's strength, `products` for the head."""

    maps: Tensor
    products: list[Tensor]


class CameraNetwork(nn.Module):
    """Student, head and join of one camera; the teacher is shared by all cameras and stays outside.

    forward: images (N, 3, H, W) float in [0, 1] and the teacher's three tensors → raw maps (N, H, W) float32,
    higher = more anomalous, unbounded: a weighted sum of deviations from held-out good pictures.
    """

    part_mean: Tensor
    part_std: Tensor
    part_weight: Tensor
    strength: Tensor
    smooth: Tensor

    def __init__(self, spec: SizeSpec) -> None:
        super().__init__()
        self.spec = spec
        channels = TEACHERS[spec.teacher].channels
        self.student = Student(spec.student, channels)
        self.head = SegmentationHead(spec.head, channels)
        self.register_buffer("part_mean", torch.zeros(PARTS))
        self.register_buffer("part_std", torch.ones(PARTS))
        self.register_buffer("part_weight", torch.full((PARTS,), 1.0 / PARTS))
        self.register_buffer("strength", torch.ones(LEVELS))
        self.register_buffer("smooth", _gaussian(1.0))

    def evidence(self, teacher: Sequence[Tensor], normal: list[Tensor], abnormal: list[Tensor]) -> Evidence:
        """What teacher features and both branches disagree on, by this camera's `strength`."""
        return disagreement(teacher, normal, abnormal, self.strength)

    def parts(self, images: Tensor, features: tuple[Tensor, ...]) -> Tensor:
        """The seven raw parts (N, 7, h, w) float32 at stride 4: N and A distances by level, then the head's
        logits. Distances as logarithms."""
        normal, abnormal = self.student(features[0])
        with torch.autocast(images.device.type, enabled=False):
            seen = self.evidence(features, normal, abnormal)
        logits = self.head(seen.products, seen.maps)
        return torch.cat([torch.log(seen.maps.clamp(min=0.0) + FLOOR), logits], dim=1)

    def join(self, parts: Tensor) -> Tensor:
        """Parts (N, 7, h, w) → one map (N, h, w): z-scored, weighted, smoothed."""
        scaled = (parts - self.part_mean.view(1, -1, 1, 1)) / self.part_std.view(1, -1, 1, 1)
        joined = (scaled * self.part_weight.view(1, -1, 1, 1)).sum(1, keepdim=True)
        pad = self.smooth.shape[-1] // 2
        padded = functional.pad(joined, (pad, pad, pad, pad), mode="replicate")
        return functional.conv2d(padded, self.smooth)[:, 0]

    def forward(self, images: Tensor, features: tuple[Tensor, ...]) -> Tensor:
        parts = self.parts(images, features)
        with torch.autocast(images.device.type, enabled=False):
            joined = self.join(parts.float())
            return resize(joined[:, None], (images.shape[2], images.shape[3]))[:, 0]


def disagreement(
    teacher: Sequence[Tensor], normal: Sequence[Tensor], abnormal: Sequence[Tensor], strength: Tensor
) -> Evidence:
    """Distances and products of teacher features and both branches, in float32; `strength` (3,).

    Each cell counts by the root of the teacher's strength there, about 1 on average over good pictures
    (ours): where the teacher sees next to nothing, the direction of what it sees is noise. On four sets
    of real pictures the root did as well as no weight in AP and slightly better in PRO.
    """
    maps, products = [], []
    size = (teacher[0].shape[2], teacher[0].shape[3])
    norms = [t.float().norm(dim=1, keepdim=True).clamp(min=_EPS) for t in teacher]
    strong = [(norm / mean).sqrt() for norm, mean in zip(norms, strength, strict=True)]
    branches = ((*normal, *abnormal), (*teacher, *teacher), (*norms, *norms), (*strong, *strong))
    for s, t, norm, weight in zip(*branches, strict=True):
        # Scaled after the product, by one number a cell: a third of the passes over all channels.
        s = s.float()
        product = t.float() * s
        scale = weight / (norm * s.norm(dim=1, keepdim=True).clamp(min=_EPS))
        maps.append(resize(weight - product.sum(1, keepdim=True) * scale, size))
        products.append(product * (scale * -float(product.shape[1])))
    return Evidence(torch.cat(maps, dim=1), products)


def build_network(size: str, lateral: Lateral | None = None) -> CameraNetwork:
    """A network with random weights. Raises EngineError for an unknown size."""
    if size not in SIZES:
        raise EngineError(f"There is no model size {size!r}; choose one of {', '.join(SIZES)}.")
    spec = SIZES[size]
    if lateral is not None:
        spec = replace(spec, student=replace(spec.student, lateral=lateral))
    network = CameraNetwork(spec)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _gaussian(sigma_cells: float) -> Tensor:
    radius = round(3 * sigma_cells)
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma_cells) ** 2)
    kernel = torch.outer(line, line)
    return (kernel / kernel.sum())[None, None]
