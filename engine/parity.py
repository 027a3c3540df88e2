"""The gate for every faster way to run a model: it must answer as the float32 torch model does."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from .artifact import Artifact

# In alarm levels, that is in units of (threshold - median of good) at one false alarm an hour of a 10 fps
# camera: how far a map may be off at its worst cell, and on average. Only what can change a decision
# counts: a cell that is as far below the median of good as the threshold is above it, or thrice as high, may
# lie as deep or as high as it likes.
WORST = 0.15
MEAN = 0.02
LOWEST, HIGHEST = -1.0, 3.0


@dataclass(frozen=True, slots=True)
class Gap:
    """How far two sets of maps of the same pictures differ, in alarm levels."""

    worst: float
    mean: float

    @classmethod
    def between(cls, reference: torch.Tensor, answer: torch.Tensor, artifact: Artifact) -> "Gap":
        """Both (N, h, w) float32 raw maps on the host. NaN counts as infinitely far."""
        median = artifact.calibration.median
        span = artifact.calibration.threshold(1.0, 10.0, 2) - median
        levels = [((maps - median) / span).clamp(LOWEST, HIGHEST) for maps in (reference, answer)]
        off = (levels[0] - levels[1]).abs().nan_to_num(nan=float("inf"))
        return cls(float(off.max()), float(off.mean()))

    @property
    def is_wide(self) -> bool:
        return self.worst > WORST or self.mean > MEAN

    def __str__(self) -> str:
        return f"off by {self.worst:.3f} alarm levels at worst, {self.mean:.4f} on average"


@lru_cache(maxsize=4)
def probe_pictures(input_px: int) -> tuple[NDArray[np.uint8], ...]:
    """Four pictures (P, P, 3) uint8, always the same: flat, smooth, textured and noisy, as parts may look."""
    dice = torch.Generator().manual_seed(20)
    pictures = []
    for side in (1, 8, 48, input_px):
        coarse = torch.rand(1, 3, side, side, generator=dice) * 255.0
        fine = functional.interpolate(coarse, size=(input_px, input_px), mode="bilinear")
        pictures.append(fine[0].permute(1, 2, 0).to(torch.uint8).contiguous().numpy())
    return tuple(pictures)
