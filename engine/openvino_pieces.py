"""A camera's network cut in four, because OpenVINO has one precision a graph.

Student and head do the work and bear bfloat16; distances and join take small differences of large numbers
and don't.
All pieces take and give contiguous float32 tensors with the picture first; the teacher takes bytes.
"""

import copy

import torch
from torch import Tensor, nn

from .model.blocks import resize
from .model.dmdd import LEVELS, CameraNetwork


class TeacherPiece(nn.Module):
    """Pictures (N, P, P, 3) uint8 → the teacher's three levels."""

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        self.inner = teacher

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.inner(_images(pictures)))


class StudentPiece(nn.Module):
    """The teacher's first level → N_1..N_3, A_1..A_3."""

    def __init__(self, network: CameraNetwork) -> None:
        super().__init__()
        self.student = network.student

    def forward(self, first: Tensor) -> tuple[Tensor, ...]:
        normal, abnormal = self.student(first)
        return (*normal, *abnormal)


class EvidencePiece(nn.Module):
    """The teacher's three levels and the student's six → distances (N, 6, h, w), then six products."""

    def __init__(self, network: CameraNetwork) -> None:
        super().__init__()
        self.inner = _without_weights(network, ("strength",))

    def forward(self, *levels: Tensor) -> tuple[Tensor, ...]:
        teacher, normal, abnormal = levels[:LEVELS], levels[LEVELS : 2 * LEVELS], levels[2 * LEVELS :]
        seen = self.inner.evidence(teacher, list(normal), list(abnormal))
        return (seen.maps, *seen.products)


class HeadPiece(nn.Module):
    """Distances and six products → the head's last features (N, width, h, w), before they become logits."""

    def __init__(self, network: CameraNetwork) -> None:
        super().__init__()
        self.head = copy.copy(network.head)
        self.head._modules = {**network.head._modules, "logit": nn.Identity()}

    def forward(self, *evidence: Tensor) -> Tensor:
        fused: Tensor = self.head(list(evidence[1:]), evidence[0])
        return fused


class JoinPiece(nn.Module):
    """Distances and the head's last features → the raw map (N, P, P)."""

    def __init__(self, network: CameraNetwork, input_px: int) -> None:
        super().__init__()
        self.inner = _without_weights(network, ("part_mean", "part_std", "part_weight", "smooth"))
        self.logit = network.head.logit
        self.side = input_px

    def forward(self, *parts: Tensor) -> Tensor:
        joined: Tensor = self.inner.join(self.inner.stack(parts[0], self.logit(parts[1])))
        return resize(joined[:, None], (self.side, self.side))[:, 0]


def pieces_of(network: CameraNetwork, input_px: int) -> dict[str, nn.Module]:
    """The four pieces in their order; they share the network's weights."""
    return {
        "student": StudentPiece(network).eval(),
        "evidence": EvidencePiece(network).eval(),
        "head": HeadPiece(network).eval(),
        "join": JoinPiece(network, input_px).eval(),
    }


def _images(pictures: Tensor) -> Tensor:
    return pictures.permute(0, 3, 1, 2).to(torch.float32) / 255.0


def _without_weights(network: CameraNetwork, buffers: tuple[str, ...]) -> CameraNetwork:
    """The network's methods with these buffers alone, so that an exported piece holds no more than it
    needs.
    """
    twin = copy.copy(network)
    twin._modules = {}
    twin._buffers = {name: network._buffers[name] for name in buffers}
    return twin
