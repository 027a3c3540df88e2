"""Good pictures that look unlike all the others: another view, another part, now and then a defect.

One such picture among a few held-out ones raises the alarm level above every defect. So it is learnt from,
as somebody called it good, but has no say in the alarm level, and is named; a person decides. The rule is
ours and looks at good pictures only: each is compared with all the others by the teacher's features, wherever
in the picture they stand, so it tells another scene rather than a small flaw. Several pictures of one kind
vouch for each other.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from engine.model.teacher import Teacher

from .bank import teach
from .dataset import MIN_GOOD

# Above the median picture: in robust deviations, as a multiple of it, and in cosine distance. On five sets
# of real good pictures (28 to 450 each) odd ones lie at 9 to 17, 1.7 to 2.1 and 0.09 to 0.15; all others stay
# below 4 deviations.
_DEVIATIONS, _TIMES, _APART = 6.0, 1.5, 0.05
_REMEMBERED = 10_000
_MOST_SHARE = 0.1
_AT_ONCE = 64


def odd_pictures(pixels: NDArray[np.uint8], teacher: Teacher, device: torch.device) -> NDArray[np.bool_]:
    """Which of (N, P, P, 3) uint8 pictures stand alone, (N,) bool: a tenth of them at most, the oddest."""
    return stand_out(loneliness(_cells(pixels, teacher, device)))


def stand_out(distances: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which distances (N,) lie far above the others', (N,) bool; pure."""
    middle = float(np.median(distances))
    spread = 1.4826 * float(np.median(np.abs(distances - middle)))
    limit = max(middle + _DEVIATIONS * spread, _TIMES * middle, middle + _APART)
    most = max(0, min(int(_MOST_SHARE * len(distances)), len(distances) - MIN_GOOD))
    far = np.argsort(-distances)[:most]
    out = np.zeros(len(distances), dtype=np.bool_)
    out[far] = distances[far] > limit
    return out


def loneliness(cells: Tensor) -> NDArray[np.float64]:
    """Mean distance of each picture's cells (N, K, C), unit length, to the nearest cell of any other picture.

    Cosine distance, (N,). Ten thousand cells of all pictures are remembered, always the same ones.
    """
    count, per_picture, width = cells.shape
    flat = cells.reshape(-1, width)
    picked = torch.randperm(len(flat), generator=torch.Generator().manual_seed(0))[:_REMEMBERED]
    remembered, owner = flat[picked.to(flat.device)], picked // per_picture
    found = []
    for index in range(count):
        likeness = cells[index] @ remembered.T
        likeness[:, (owner == index).to(flat.device)] = -1.0
        found.append(float((1.0 - likeness.max(1).values).mean()))
    return np.array(found)


def _cells(pixels: NDArray[np.uint8], teacher: Teacher, device: torch.device) -> Tensor:
    """The teacher's coarsest features, averaged two by two: (N, K, C) float32 of unit length."""
    # A few at a time: the finer levels, many times as large, are not kept.
    parts = [pixels[start : start + _AT_ONCE] for start in range(0, len(pixels), _AT_ONCE)]
    coarsest = [functional.avg_pool2d(teach(part, teacher, device)[2].float(), 2) for part in parts]
    return functional.normalize(torch.cat(coarsest), dim=1).flatten(2).transpose(1, 2).contiguous()
