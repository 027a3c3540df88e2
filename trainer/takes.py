"""Which good pictures are takes of one and the same thing: a part that stood still while several were taken.

Ours, and pure. Neighbours in time count as one take when they differ much less than pictures far apart do, in
grey at 160x160 with the light divided out. On captures of a belt that stops for each part, pictures of one
part differ by 0.1 to 0.5 of what pictures far apart do, nearly all of different parts by more; in real sets
of one picture a part few neighbours lie below 0.5, and those stay together without harm.
"""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

_SIDE_PX = 160
_SAME_BELOW = 0.5


def takes(pictures: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> NDArray[np.int64]:
    """The take of each of (h, w, 3) uint8 RGB pictures in the order of time, (N,), counted from 0."""
    if not len(pictures):
        return np.empty(0, np.int64)
    small = [_grey_in_even_light(picture) for picture in pictures]
    far = len(small) // 2
    apart = float(np.median([_apart(small[i], small[i - far]) for i in range(len(small))]))
    is_new = [_apart(one, other) >= _SAME_BELOW * apart for one, other in pairwise(small)]
    return np.cumsum([False, *is_new])


def _grey_in_even_light(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray(small / max(float(small.mean()), 1.0), np.float32)


def _apart(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.abs(one - other).mean())
