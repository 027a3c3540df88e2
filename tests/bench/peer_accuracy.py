"""Two peers for the accuracy table, by anomalib: its networks, losses, scores; our teacher and pictures.

Runs in the environment of `make peers`. The teacher is put in from the outside, the very module that
our own models use: nobody's weights are fetched, and no difference comes from padding or normalisation. Each
peer has its own settings, from its package; what a CPU can't wait for is said where it stands.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.images import to_device
from engine.model.dmdd import SIZES
from engine.model.teacher import Teacher, build_teacher, build_trunk
from tests.bench.peers import only_offline
from trainer.dataset import load_good

PEERS = ("PatchCore", "STFPM")
# A map (P, P) and the peer's own image score.
Judged = tuple[NDArray[np.float32], float]

_LEVELS = ("stride 4", "stride 8", "stride 16")
_PATCHCORE_LEVELS = _LEVELS[1:]
# Its default share of all patches, from as many pictures as our own nearest neighbour looks at. Choosing
# takes time by the square of the pictures, so no more are kept than of fifty pictures.
_PATCHCORE_SHARE, _PATCHCORE_PICTURES, _PATCHCORE_KEPT = 0.1, 200, 5120
_STFPM_BATCH, _STFPM_LR, _STFPM_MOMENTUM, _STFPM_DECAY = 32, 0.4, 0.9, 0.001
# As many pictures as our student and head see in 900 steps of 8; its hundred epochs would be hours.
_STFPM_STEPS = 225


class Levels(nn.Module):
    """A trunk as anomalib's extractors answer: features by name. Pictures (N, 3, P, P) in [0, 1]."""

    def __init__(self, trunk: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.trunk, self.names = trunk, names
        self.layers = list(names)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {name: f for name, f in zip(_LEVELS, self.trunk(images), strict=True) if name in self.names}


class Student(nn.Module):
    """The teacher's network with random weights, behind the teacher's normalisation."""

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.mean, self.std = teacher.mean, teacher.std
        self.trunk = build_trunk(teacher.name)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        answer: tuple[Tensor, ...] = self.trunk((images - self.mean) / self.std)
        return answer


def judge(
    peer: str, folder: Path, pictures: Iterable[NDArray[np.uint8]], args: argparse.Namespace, seed: int
) -> list[Judged]:
    """Train `peer` on the good ones of `folder`; its map and score of each of `pictures` (256, 256, 3)."""
    only_offline()
    torch.manual_seed(seed)
    teacher = build_teacher(SIZES[args.size].teacher, args.teacher_weights)
    good = load_good(folder, 256).pixels
    model = (_patchcore if peer == "PatchCore" else _stfpm)(good, teacher, seed)
    model.eval()
    judged = []
    with torch.inference_mode():
        for picture in pictures:
            answer = model(to_device([picture], torch.device("cpu")))
            judged.append((answer.anomaly_map.squeeze().float().numpy(), float(answer.pred_score)))
    return judged


def _patchcore(good: NDArray[np.uint8], teacher: Teacher, _seed: int) -> nn.Module:
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    if len(good) > _PATCHCORE_PICTURES:
        good = good[np.linspace(0, len(good) - 1, _PATCHCORE_PICTURES).astype(int)]
    model = PatchcoreModel(layers=_PATCHCORE_LEVELS, backbone="resnet18", pre_trained=False)
    model.feature_extractor = Levels(teacher, _PATCHCORE_LEVELS)
    model.train()
    with torch.inference_mode():
        for picture in good:
            model(to_device([picture], torch.device("cpu")))
        patches = sum(len(embedding) for embedding in model.embedding_store)
        model.subsample_embedding(min(_PATCHCORE_SHARE, _PATCHCORE_KEPT / patches))
    return model


def _stfpm(good: NDArray[np.uint8], teacher: Teacher, seed: int) -> nn.Module:
    from anomalib.models.image.stfpm.loss import STFPMLoss
    from anomalib.models.image.stfpm.torch_model import STFPMModel

    model = STFPMModel(layers=["layer1"], backbone="resnet18")
    model.teacher_model, model.student_model = Levels(teacher, _LEVELS), Levels(Student(teacher), _LEVELS)
    optimiser = torch.optim.SGD(
        model.student_model.parameters(), _STFPM_LR, momentum=_STFPM_MOMENTUM, weight_decay=_STFPM_DECAY
    )
    loss_of, rng = STFPMLoss(), np.random.default_rng(seed)
    model.train()
    teacher.eval()
    for _ in range(_STFPM_STEPS):
        chosen = rng.choice(len(good), size=_STFPM_BATCH, replace=len(good) < _STFPM_BATCH)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            taught, learnt = model(to_device(list(good[chosen]), torch.device("cpu")))
        loss = loss_of(_in_float32(taught), _in_float32(learnt))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


def _in_float32(features: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: level.float() for name, level in features.items()}
