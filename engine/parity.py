"""The gate for every faster way to run a model: it must answer as the float32 torch model does."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.nn import functional

from .artifact import Artifact

# In units of (threshold - median of good), measured where the model is used with one false alarm an hour at
# 10 frames a second: a map may be off by 0.10 at its worst cell and by 0.02 on average.
WORST = 0.10
MEAN = 0.02


@dataclass(frozen=True, slots=True)
class Gap:
    """How far two sets of maps of the same pictures differ, in alarm levels."""

    worst: float
    mean: float

    @classmethod
    def between(cls, reference: torch.Tensor, answer: torch.Tensor, artifact: Artifact) -> "Gap":
        """Both (N, h, w) float32 raw maps on the host. NaN counts as infinitely far."""
        calibration = artifact.calibration
        span = calibration.threshold(1.0, 10.0, 2) - calibration.median
        off = ((answer - reference).abs() / span).nan_to_num(nan=float("inf"))
        return cls(float(off.max()), float(off.mean()))

    @property
    def is_wide(self) -> bool:
        return self.worst > WORST or self.mean > MEAN

    def __str__(self) -> str:
        return f"off by {self.worst:.3f} alarm levels at worst, {self.mean:.4f} on average"


@lru_cache(maxsize=4)
def probe_pictures(input_px: int) -> torch.Tensor:
    """(4, 3, P, P) float32 in [0, 1], always the same: flat, smooth, textured and noisy, as parts may
    look."""
    dice = torch.Generator().manual_seed(20)
    sizes = (1, 8, 48, input_px)
    pictures = []
    for size in sizes:
        coarse = torch.rand(1, 3, size, size, generator=dice)
        pictures.append(functional.interpolate(coarse, size=(input_px, input_px), mode="bilinear"))
    return torch.cat(pictures).to(memory_format=torch.channels_last)
