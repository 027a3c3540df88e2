"""A camera's network cut in four, because OpenVINO has one precision a graph.

Student and head do the work and bear bfloat16; distances and join take small differences of large numbers
and don't.
All pieces take and give contiguous float32 tensors with the picture first; the teacher takes bytes.
`rounded`: features leave teacher and student as bfloat16 holds them, for graphs that compute in it; the
plug-in then writes them several times faster.
"""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .model.dmdd import LEVELS, CameraNetwork


class TeacherPiece(nn.Module):
    """Pictures (N, P, P, 3) uint8 → the teacher's three levels."""

    def __init__(self, teacher: nn.Module, *, rounded: bool) -> None:
        super().__init__()
        self.inner = teacher
        self.rounded = rounded

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        return _written(self.inner(_images(pictures)), self.rounded)


class StudentPiece(nn.Module):
    """The teacher's first level → N_1..N_3, A_1..A_3."""

    def __init__(self, network: CameraNetwork, *, rounded: bool) -> None:
        super().__init__()
        self.student = network.student
        self.rounded = rounded

    def forward(self, first: Tensor) -> tuple[Tensor, ...]:
        normal, abnormal = self.student(first)
        return _written((*normal, *abnormal), self.rounded)


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
    """Distances and six products → the head's logits (N, 1, h, w) less what they are on good pictures.

    A graph that computes in bfloat16 rounds what leaves it: around 0 that is fine enough for logits too.
    """

    def __init__(self, network: CameraNetwork) -> None:
        super().__init__()
        self.head = copy.copy(network.head)
        logit = copy.copy(network.head.logit)
        assert logit.bias is not None
        logit._parameters = {**logit._parameters, "bias": _frozen(logit.bias - network.part_mean[-1])}
        self.head._modules = {**network.head._modules, "logit": logit}

    def forward(self, *evidence: Tensor) -> Tensor:
        logits: Tensor = self.head(list(evidence[1:]), evidence[0])
        return logits


class JoinPiece(nn.Module):
    """Distances and the head's piece's logits → the raw map (N, h, w), still to be enlarged."""

    def __init__(self, network: CameraNetwork) -> None:
        super().__init__()
        self.inner = _without_weights(network, ("part_mean", "part_std", "part_weight", "smooth"))
        self.inner.part_mean = torch.cat([network.part_mean[:-1], torch.zeros(1)])

    def forward(self, *parts: Tensor) -> Tensor:
        return self.inner.join(self.inner.stack(parts[0], parts[1]))


def pieces_of(network: CameraNetwork, *, rounded: bool) -> dict[str, nn.Module]:
    """The four pieces in their order; they share the network's weights."""
    return {
        "student": StudentPiece(network, rounded=rounded).eval(),
        "evidence": EvidencePiece(network).eval(),
        "head": HeadPiece(network).eval(),
        "join": JoinPiece(network).eval(),
    }


def _written(levels: Iterable[Tensor], rounded: bool) -> tuple[Tensor, ...]:
    return tuple(level.to(torch.bfloat16).float() if rounded else level for level in levels)


def _images(pictures: Tensor) -> Tensor:
    return pictures.permute(0, 3, 1, 2).to(torch.float32) / 255.0


def _frozen(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach(), requires_grad=False)


def _without_weights(network: CameraNetwork, buffers: tuple[str, ...]) -> CameraNetwork:
    """The network's methods with these buffers alone, so that an exported piece holds no more than it
    needs.
    """
    twin = copy.copy(network)
    twin._modules = {}
    twin._buffers = {name: network._buffers[name] for name in buffers}
    return twin
