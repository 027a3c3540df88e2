"""Unchanged pictures with the teacher's features of them, computed once.

Altered copies of each picture (position and light vary a little on every line) keep a student
from learning the pixels of a few dozen pictures by heart: then new good pictures would score far above those
it knows, and the alarm level with them. They are made once, so that the teacher sees each only once.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.images import Pixels, to_device
from engine.model.precision import autocast
from engine.model.teacher import Teacher

_MAX_ENTRIES = 480
_CHUNK = 16
_SHIFT = 0.015  # of the picture's side
_GAIN, _OFFSET = 0.06, 6.0


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """`pixels` (K, P, P, 3) uint8, `source` (K,) index of the picture each came from, `features` by level.

    `features` are (K, C_l, h_l, w_l) in the teacher's own precision, on the training device.
    """

    pixels: NDArray[np.uint8]
    source: NDArray[np.intp]
    features: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.source)

    def features_of(self, chosen: NDArray[np.intp]) -> tuple[Tensor, ...]:
        """Features of these entries, (len(chosen), C_l, h_l, w_l) by level."""
        index = torch.from_numpy(chosen)
        return tuple(level[index.to(level.device)] for level in self.features)

    def strength(self) -> Tensor:
        """Mean length of the feature vectors of each level, (levels,) float32."""
        return torch.stack([level.float().norm(dim=1).mean() for level in self.features])


def build_bank(
    pictures: NDArray[np.uint8],
    teacher: Teacher,
    device: torch.device,
    *,
    copies: int,
    rng: np.random.Generator,
) -> Bank:
    """Each picture (N, P, P, 3) and `copies` - 1 altered ones of it, with features."""
    count = max(1, min(copies, _MAX_ENTRIES // len(pictures)))
    pixels = np.concatenate(
        [pictures, *(np.stack([alter(p, rng) for p in pictures]) for _ in range(count - 1))]
    )
    source = np.tile(np.arange(len(pictures)), count)
    return Bank(pixels, source, teach(pixels, teacher, device))


def alter(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """A shift of up to 1.5 % of the side, a little gain and offset of the light: nothing that a good part
    isn't."""
    size = picture.shape[0]
    dx, dy = rng.uniform(-_SHIFT, _SHIFT, 2) * size
    moved = cv2.warpAffine(
        picture,
        np.array([[1, 0, dx], [0, 1, dy]], np.float32),
        (size, size),
        borderMode=cv2.BORDER_REFLECT_101,
    )
    lit = moved * (1 + rng.uniform(-_GAIN, _GAIN)) + rng.uniform(-_OFFSET, _OFFSET)
    return np.clip(np.round(lit), 0, 255).astype(np.uint8)


@torch.inference_mode()
def teach(pixels: NDArray[np.uint8], teacher: Teacher, device: torch.device) -> tuple[Tensor, ...]:
    """The teacher's features of (K, P, P, 3) pictures, (K, C_l, h_l, w_l) by level."""
    chunks = []
    for start in range(0, len(pixels), _CHUNK):
        with autocast(device):
            chunks.append(teacher(to_device(list(pixels[start : start + _CHUNK]), device)))
    return tuple(torch.cat(level) for level in zip(*chunks, strict=True))
