"""Which good pictures are takes of one and the same thing: a part that stood still while several were taken.

Ours, and pure. Two rules. One is relative: neighbours in time count as one take when they differ much less
than pictures far apart do, in grey at 160x160 with the light divided out. On captures of a belt that stops
for each part, pictures of one part differ by 0.1 to 0.5 of what pictures far apart do, nearly all of
different parts by more; in real sets of one picture a part few neighbours lie below 0.5, and those stay
together without harm. A folder that shows one part only has nothing far apart, so the other rule is
absolute: copies differ by less than 0.75 grey levels on average at 32x32, wherever they stand. Five sets of
real parts (28 to 450 pictures) have none.
"""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

_SIDE_PX = 160
_SAME_BELOW = 0.5
_COPY_SIDE_PX, _COPY_GREY_LEVELS, _COPY_WITHIN = 32, 0.75, 200

Pictures = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]


def takes(pictures: Pictures) -> NDArray[np.int64]:
    """The take of each of (h, w, 3) uint8 RGB pictures in the order of time, (N,), counted from 0."""
    if not len(pictures):
        return np.empty(0, np.int64)
    small = [_grey_in_even_light(picture) for picture in pictures]
    far = len(small) // 2
    apart = float(np.median([_apart(small[i], small[i - far]) for i in range(len(small))]))
    is_new = [_apart(one, other) >= _SAME_BELOW * apart for one, other in pairwise(small)]
    return np.cumsum([False, *is_new])


def copies(pictures: Pictures) -> NDArray[np.int64]:
    """For each picture the index of the first one that it is nearly the same as, by way of any of the 200
    before it; its own where there is none. (N,).
    """
    side = (_COPY_SIDE_PX, _COPY_SIDE_PX)
    small = [
        cv2.resize(cv2.cvtColor(np.asarray(p), cv2.COLOR_RGB2GRAY), side, interpolation=cv2.INTER_AREA)
        for p in pictures
    ]
    stacked = np.asarray(small, np.float32).reshape(len(small), _COPY_SIDE_PX**2)
    first = np.arange(len(small))
    for i in range(1, len(small)):
        since = max(0, i - _COPY_WITHIN)
        apart = np.abs(stacked[since:i] - stacked[i]).mean(axis=1)
        if apart.min() < _COPY_GREY_LEVELS:
            first[i] = first[since + int(apart.argmin())]
    return first


def parts(pictures: Pictures) -> NDArray[np.int64]:
    """The part that each picture shows, (N,), by both rules: takes of which one is a copy of another's are of
    one part. Counted from 0 in the order in which they first come.
    """
    take, first = takes(pictures), copies(pictures)
    owner = np.arange(len(take))
    for i, like in enumerate(first):
        one, other = owner[take[i]], owner[take[like]]
        owner[owner == max(one, other)] = min(one, other)
    return np.unique(owner[take], return_inverse=True)[1].astype(np.int64)


def _grey_in_even_light(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray(small / max(float(small.mean()), 1.0), np.float32)


def _apart(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.abs(one - other).mean())
