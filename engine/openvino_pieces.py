"""A camera's network cut in pieces, because OpenVINO has one precision a graph.

Student and head do the work and bear bfloat16; distances and join take small differences of large numbers
and don't. The distances' one weight is an input, so that one graph serves all cameras of a size.
All pieces take and give contiguous float32 tensors with the picture first; the teacher takes bytes.
`rounded`: features leave teacher and student as bfloat16 holds them, for graphs that compute in it; the
plug-in then writes them several times faster.
"""

import copy
from collections.abc import Iterable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .model.dmdd import FLOOR, LEVELS, CameraNetwork, disagreement


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
    """The teacher's three levels, the student's six, strength (3,) → distances (N, 6, h, w), six products.

    No camera's weights are in it.
    """

    def forward(self, *levels: Tensor) -> tuple[Tensor, ...]:
        teacher, normal, abnormal = levels[:LEVELS], levels[LEVELS : 2 * LEVELS], levels[2 * LEVELS : -1]
        seen = disagreement(teacher, normal, abnormal, levels[-1])
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


def weighty_pieces(network: CameraNetwork, *, rounded: bool) -> dict[str, nn.Module]:
    """The two pieces that hold a camera's weights; they share them with `network`."""
    return {"student": StudentPiece(network, rounded=rounded).eval(), "head": HeadPiece(network).eval()}


class Join:
    """`CameraNetwork.join` and the enlarging for one camera, in NumPy and OpenCV: too little for a graph."""

    def __init__(self, network: CameraNetwork) -> None:
        weights = network.part_weight / network.part_std
        self._distances = weights[:-1].numpy()
        self._logits = float(weights[-1])
        # The mean of the logits is taken off by the head's piece already.
        self._offset = float((network.part_mean * weights)[:-1].sum())
        self._kernel = network.smooth[0, 0].numpy()

    def write(self, maps: NDArray[np.float32], logits: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Distances (n, 6, h, w) and the head's piece's logits (n, 1, h, w) → maps, into `out` (n, P, P)."""
        logs = np.log(np.maximum(maps, 0.0) + FLOOR)
        summed = np.tensordot(logs, self._distances, (1, 0)) + self._logits * logits[:, 0] - self._offset
        for small, large in zip(summed.astype(np.float32, copy=False), out, strict=True):
            smooth = cv2.filter2D(small, -1, self._kernel, borderType=cv2.BORDER_REPLICATE)
            # As torch's bilinear, and ten times as fast as the plug-in's.
            cv2.resize(smooth, large.shape[::-1], dst=large, interpolation=cv2.INTER_LINEAR)


def _written(levels: Iterable[Tensor], rounded: bool) -> tuple[Tensor, ...]:
    return tuple(level.to(torch.bfloat16).float() if rounded else level for level in levels)


def _images(pictures: Tensor) -> Tensor:
    return pictures.permute(0, 3, 1, 2).to(torch.float32) / 255.0


def _frozen(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach(), requires_grad=False)
