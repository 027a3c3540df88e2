"""Where on a picture defects count: the region of interest less the masks, as one boolean array."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
Polygon = Sequence[Point]


def zone(roi: Polygon | None, masks: Sequence[Polygon], shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """(h, w) bool, True where a cell counts; None where all do.

    Points are (x, y) in 0–1 of the frame, so a zone doesn't depend on the frame's size. A cell is inside a
    polygon when its centre is (even-odd rule).
    """
    if roi is None and not masks:
        return None
    wanted = np.ones(shape, dtype=bool) if roi is None else inside(roi, shape)
    for mask in masks:
        wanted &= ~inside(mask, shape)
    return wanted


def inside(polygon: Polygon, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """(h, w) bool: which cell centres lie inside the polygon."""
    height, width = shape
    y = (np.arange(height) + 0.5)[:, None] / height
    x = (np.arange(width) + 0.5)[None, :] / width
    found = np.zeros(shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        if y0 == y1:
            continue
        crosses = (y0 > y) != (y1 > y)
        found ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return found
