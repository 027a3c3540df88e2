"""Calibrated maps to defects: threshold, label, measure. Written once for NumPy/SciPy and CuPy.

One label call serves a whole batch, on a host those of its maps that have something in them: a structure
that is filled only in its middle plane connects the eight neighbours inside a map and never two maps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .core import Box, Defect
from .xp import ArrayLibrary, XpArray

MAX_REGIONS = 64
_KEEPS_MAPS_APART = np.zeros((3, 3, 3), dtype=bool)
_KEEPS_MAPS_APART[1] = True
# Columns of the table of regions.
_CELLS, _MAP, _TOP, _BOTTOM, _LEFT, _RIGHT, _SUM_Y, _SUM_X, _SUM, _PEAK = range(10)
# A region of exactly the smallest area counts, in whatever order that area was multiplied and rounded.
_ROUNDED = 1.0 - 1e-9


@dataclass(frozen=True, slots=True)
class View:
    """How one map lies on its frame: size of the frame in pixels, and the smallest defect that counts."""

    frame_width_px: int
    frame_height_px: int
    min_area_px: float = 1.0


def find(
    maps: XpArray, views: Sequence[View], library: ArrayLibrary, *, max_regions: int = MAX_REGIONS
) -> list[list[Defect]]:
    """The defects of each map, highest peak first.

    `maps`: (N, h, w) float32 of `library`, calibrated, and at or below 0 where nothing may be found (outside
    the region of interest). A cell above 1.0 belongs to a region; a region smaller than its view's
    `min_area_px` (frame pixels) is left out; of the rest the `max_regions` with the highest peaks are kept,
    so that a broken picture can't flood what follows. On a device the host waits to hear whether there is
    anything, and if so for three small things: how many regions there are (inside `label`), how many cells
    they have, and the table.
    """
    above = maps > 1.0
    found: list[list[Defect]] = [[] for _ in views]
    places = library.with_any(above)
    if len(places) < len(views):
        maps, above = maps[places], above[places]
    if not places:
        return found
    labels, count = library.ndimage.label(above, structure=_KEEPS_MAPS_APART)
    if not count:
        return found
    table = library.to_host(_measure(maps, above, labels, int(count), library))
    seen = _describe(table, [views[p] for p in places], maps.shape[1], maps.shape[2], max_regions)
    for place, defects in zip(places, seen, strict=True):
        found[place] = defects
    return found


def _measure(maps: XpArray, above: XpArray, labels: XpArray, count: int, library: ArrayLibrary) -> XpArray:
    """(count, 10) float64: one row a region, columns as named above, coordinates in cells, ends inclusive."""
    xp = library.xp
    _, height, width = maps.shape
    # The few cells of regions alone: sent through the scatters below, all the others would queue for one row.
    where = xp.flatnonzero(above)
    label = labels.reshape(-1)[where]
    value = maps.reshape(-1)[where]
    position = where.astype(xp.int32)
    x = position % width
    y = position // width % height
    picture = position // (width * height)

    def gather(ufunc: Any, start: float, values: XpArray, dtype: Any) -> XpArray:
        out = xp.full(count + 1, start, dtype=dtype)
        ufunc.at(out, label, values)
        return out[1:].astype(xp.float64)

    far = maps.size
    columns = [
        gather(xp.add, 0, xp.ones_like(x), xp.int32),
        gather(xp.maximum, 0, picture, xp.int32),
        gather(xp.minimum, far, y, xp.int32),
        gather(xp.maximum, 0, y, xp.int32),
        gather(xp.minimum, far, x, xp.int32),
        gather(xp.maximum, 0, x, xp.int32),
        gather(xp.add, 0, y.astype(xp.float64), xp.float64),
        gather(xp.add, 0, x.astype(xp.float64), xp.float64),
        gather(xp.add, 0, value.astype(xp.float64), xp.float64),
        gather(xp.maximum, 0, value, xp.float32),
    ]
    return xp.stack(columns, axis=1)


def _describe(
    table: NDArray[np.float64], views: Sequence[View], height: int, width: int, max_regions: int
) -> list[list[Defect]]:
    picture = table[:, _MAP].astype(np.intp)
    scale_x = np.array([v.frame_width_px / width for v in views])[picture]
    scale_y = np.array([v.frame_height_px / height for v in views])[picture]
    area_px = table[:, _CELLS] * scale_x * scale_y
    wanted = area_px >= _ROUNDED * np.array([v.min_area_px for v in views])[picture]
    # By map, then highest peak; ties in the order of the picture, so that both libraries agree.
    order = np.lexsort((table[:, _LEFT], table[:, _TOP], -table[:, _PEAK], picture))
    found: list[list[Defect]] = [[] for _ in views]
    for row in order[wanted[order]]:
        mine = found[picture[row]]
        if len(mine) < max_regions:
            mine.append(_defect(table[row], scale_x[row], scale_y[row], area_px[row]))
    return found


def _defect(row: NDArray[np.float64], scale_x: float, scale_y: float, area_px: float) -> Defect:
    cells = row[_CELLS]
    return Defect(
        box=_box(row, scale_x, scale_y),
        area_px=round(area_px),
        peak=float(row[_PEAK]),
        mean=float(row[_SUM] / cells),
        # The middle of a cell is half a cell to the right of and below its number.
        centroid=(float((row[_SUM_X] / cells + 0.5) * scale_x), float((row[_SUM_Y] / cells + 0.5) * scale_y)),
    )


def _box(row: NDArray[np.float64], scale_x: float, scale_y: float) -> Box:
    """The frame pixels that the cells touch; x1 and y1 exclusive."""
    eps = 1e-9
    return (
        int(np.floor(row[_LEFT] * scale_x + eps)),
        int(np.floor(row[_TOP] * scale_y + eps)),
        int(np.ceil((row[_RIGHT] + 1) * scale_x - eps)),
        int(np.ceil((row[_BOTTOM] + 1) * scale_y - eps)),
    )
