"""Train one camera's network: the student first, then the head on the frozen student.

Everything random is drawn from (seed, stage, step), so a run can be repeated, and taken up again at any step.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.images import to_device
from engine.model.dmdd import CameraNetwork
from engine.model.precision import autocast
from engine.model.teacher import Teacher

from . import losses
from .bank import Bank
from .checkpoint import Checkpoint
from .foreground import Foregrounds
from .synthesis import Synthesis

OnStep = Callable[[int, float], None]

_STUDENT, _HEAD = 1, 2
_WARM_UP_STEPS = 30
_LAST_LR_SHARE = 0.05
_CLIP = 5.0
_CLEAN_SHARE = 0.25
NOTHING_KEPT = Checkpoint(None, "")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps and sizes of both stages. A student step sees `batch` pairs, a head step `batch` pictures.

    `mimic`: whose teacher features A mimics, those of the "changed" picture (AIM's variant A) or of the
    "unchanged" one (variant B); `soft_mask` as losses.abnormality has it.
    """

    student_steps: int
    head_steps: int
    batch: int = 8
    student_lr: float = 2e-3
    head_lr: float = 1e-3
    abnormality_weight: float = 1.0
    mimic: Literal["changed", "unchanged"] = "changed"
    soft_mask: bool = True

    @property
    def steps(self) -> int:
        """Of both stages."""
        return self.student_steps + self.head_steps

    @classmethod
    def of(cls, steps: int) -> "Schedule":
        """Two thirds for the student, one third for the head."""
        student = max(1, round(steps * 2 / 3))
        return cls(student, max(1, steps - student))


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What a run draws from; `bank.source` indexes `foregrounds`."""

    bank: Bank
    foregrounds: Foregrounds
    synthesis: Synthesis
    teacher: Teacher
    device: torch.device
    seed: int

    def pairs(self, stage: int, step: int, batch: int, clean_share: float = 0.0) -> "Pairs":
        """The pairs of one step, always the same for the same seed, stage and step."""
        rng = np.random.default_rng((self.seed, stage, step))
        chosen = rng.integers(len(self.bank), size=batch)
        changed, masks = [], []
        for entry in chosen:
            picture = self.bank.pixels[entry]
            foreground = self.foregrounds.of(int(self.bank.source[entry]), picture.shape[0])
            if rng.random() < clean_share:
                foreground = np.zeros_like(foreground)
            image, mask = self.synthesis.draw(picture, foreground, rng)
            changed.append(image)
            masks.append(mask)
        mask_tensor = torch.from_numpy(np.stack(masks)).to(self.device, torch.float32)[:, None]
        return Pairs(chosen, to_device(changed, self.device), mask_tensor)


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """`chosen` (B,) bank entries, `changed` (B, 3, P, P) float in [0, 1], `masks` (B, 1, P, P) float 0 or
    1."""

    chosen: NDArray[np.intp]
    changed: Tensor
    masks: Tensor


def train_student(
    network: CameraNetwork,
    material: Material,
    schedule: Schedule,
    on_step: OnStep,
    checkpoint: Checkpoint = NOTHING_KEPT,
) -> None:
    """Stage 1: normality guidance and abnormality inverse mimicking on pairs."""
    parameters = list(network.student.parameters())
    optimiser = torch.optim.Adam(parameters, lr=schedule.student_lr, betas=(0.5, 0.999))
    network.student.train()
    for step in _steps(checkpoint.start(_STUDENT, optimiser), schedule.student_steps):
        _set_lr(optimiser, schedule.student_lr, step, schedule.student_steps)
        loss = student_loss(network, material, schedule, step)
        _descend(optimiser, loss, parameters)
        checkpoint.keep(_STUDENT, step + 1, network, optimiser)
        on_step(step, float(loss.detach()))
    network.student.eval()


def train_head(
    network: CameraNetwork,
    material: Material,
    schedule: Schedule,
    on_step: OnStep,
    checkpoint: Checkpoint = NOTHING_KEPT,
) -> None:
    """Stage 2: the segmentation head on the frozen student; a quarter of the pictures stay unchanged."""
    parameters = list(network.head.parameters())
    optimiser = torch.optim.Adam(parameters, lr=schedule.head_lr)
    network.student.eval()
    network.head.train()
    for step in _steps(checkpoint.start(_HEAD, optimiser), schedule.head_steps):
        _set_lr(optimiser, schedule.head_lr, step, schedule.head_steps)
        loss = head_loss(network, material, schedule, step)
        _descend(optimiser, loss, parameters)
        checkpoint.keep(_HEAD, step + 1, network, optimiser)
        on_step(step, float(loss.detach()))
    network.head.eval()


def student_loss(network: CameraNetwork, material: Material, schedule: Schedule, step: int) -> Tensor:
    """Both distillation losses on the pairs of one step."""
    pairs = material.pairs(_STUDENT, step, schedule.batch)
    wanted = material.bank.features_of(pairs.chosen)
    with autocast(material.device):
        features = material.teacher(pairs.changed)
        # Two passes, so that batch norm meets pictures without defects, as it does on the line.
        normal_c, abnormal_c = network.student(wanted[0])
        normal_d, abnormal_d = network.student(features[0])
    guidance = losses.normality(normal_d, wanted) + losses.normality(normal_c, wanted)
    against = features if schedule.mimic == "changed" else wanted
    mimicking = losses.abnormality(abnormal_d, against, pairs.masks, soft=schedule.soft_mask)
    mimicking = mimicking + losses.clean_abnormality(abnormal_c, wanted)
    return guidance + schedule.abnormality_weight * mimicking


def head_loss(network: CameraNetwork, material: Material, schedule: Schedule, step: int) -> Tensor:
    """The head's loss on the pictures of one step; no gradient reaches the student."""
    pairs = material.pairs(_HEAD, step, schedule.batch, _CLEAN_SHARE)
    with torch.no_grad(), autocast(material.device):
        features = material.teacher(pairs.changed)
        normal, abnormal = network.student(features[0])
    seen = network.evidence(features, normal, abnormal)
    with autocast(material.device):
        logits = network.head(seen.products, seen.maps)
    return losses.segmentation(logits, pairs.masks)


def _steps(begin: int, end: int) -> range:
    """What is left of a stage; nothing if it was done before (`begin` below 0)."""
    return range(begin if begin >= 0 else end, end)


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor, parameters: list[nn.Parameter]) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(parameters, _CLIP)
    optimiser.step()


def _set_lr(optimiser: torch.optim.Optimizer, peak: float, step: int, steps: int) -> None:
    """Linear warm-up, then a cosine down to 5 %."""
    warm_up = min(_WARM_UP_STEPS, max(1, steps // 10))
    if step < warm_up:
        lr = peak * (step + 1) / warm_up
    else:
        done = (step - warm_up) / max(1, steps - warm_up)
        lr = peak * (_LAST_LR_SHARE + (1 - _LAST_LR_SHARE) * 0.5 * (1 + math.cos(math.pi * done)))
    for group in optimiser.param_groups:
        group["lr"] = lr
