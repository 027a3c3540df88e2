"""Models small enough for unit tests: a network whose raw map is the brightness of the picture.

With `real="lite"` the real network of that size, with seeded random weights.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.artifact import Artifact
from engine.calibration import Calibration
from engine.core import Batch, Inspection
from engine.model.dmdd import SIZES, build_network
from engine.model.teacher import build_teacher
from engine.passage import Passage
from engine.runner import Runner
from engine.torch_backend import TorchBackend

TINY_TEACHER = "tiny"
SIDE = 32


class TinyTeacher(nn.Module):
    """Passes the picture on; counts how often it was asked and for how many pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.sha256 = "f" * 64
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> tuple[Tensor]:
        self.batches.append(len(images))
        return (images.mean(1, keepdim=True),)


class TinyNetwork(nn.Module):
    """Raw map = gain * brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor, features: tuple[Tensor, ...]) -> Tensor:
        return (features[0] * self.gain)[:, 0].float()


def good_calibration(input_px: int = SIDE, low: float = 0.1) -> Calibration:
    """Good pictures score `low` and a little more; the alarm level is a little above that."""
    scores = np.linspace(low, low + 0.02, 20)
    return Calibration.fit(scores, scores, min_area_px=1, input_px=input_px)


def tiny_artifact(
    gain: float = 1.0, *, name: str = "tiny", version: int = 1, input_px: int = SIDE, real: str | None = None
) -> Artifact:
    """An artifact that was never on disk, with the tiny network or a real one of size `real`."""
    if real is not None:
        return _real_artifact(real, name, version, 256 if input_px == SIDE else input_px)
    state = {"gain": torch.full((1,), gain)}
    calibration = good_calibration(input_px)
    return Artifact(name, "tiny", input_px, TINY_TEACHER, "f" * 64, state, calibration, version=version)


def _real_artifact(size: str, name: str, version: int, input_px: int) -> Artifact:
    torch.manual_seed(version)
    network, teacher = build_network(size), SIZES[size].teacher
    digest = str(build_teacher(teacher).sha256)
    scores = good_calibration(input_px, low=1.0)
    return Artifact(name, size, input_px, teacher, digest, network.state_dict(), scores, version=version)


def tiny_backend(device: torch.device | None = None, *, bf16: bool = False) -> TorchBackend:
    """The torch back end with the tiny teacher and network."""
    teachers: dict[str, TinyTeacher] = {}

    def make_teacher(name: str, weights: Path | None) -> nn.Module:
        return teachers.setdefault(name, TinyTeacher())

    return TorchBackend(
        device or torch.device("cpu"),
        bf16=bf16,
        make_teacher=make_teacher,
        make_network=lambda size: TinyNetwork(),
    )


def bright_spot(
    height: int = 64, width: int = 96, box: tuple[int, int, int, int] = (12, 8, 24, 20)
) -> NDArray[np.uint8]:
    """A dark picture, (height, width, 3), with one bright rectangle: the tiny network's only defect."""
    pixels = np.full((height, width, 3), 20, dtype=np.uint8)
    x0, y0, x1, y1 = box
    pixels[y0:y1, x0:x1] = 250
    return pixels


def interleaved(runner: Runner, batches: Sequence[Batch]) -> list[list[Inspection]]:
    """What each batch says when they go as the engine lets them: each is computed before the one ahead of it
    is told, and before that is fetched where the device takes it already."""
    told: list[list[Inspection]] = []
    ahead: Passage | None = None
    for batch in batches:
        if ahead is not None and not runner.sends_ahead:
            ahead.fetch()
        begun = runner.begin(batch)
        begun.compute()
        if ahead is not None:
            if runner.sends_ahead:
                ahead.fetch()
            told.append(ahead.inspections())
        ahead = begun
    if ahead is not None:
        ahead.fetch()
        told.append(ahead.inspections())
    return told
