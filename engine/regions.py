"""Calibrated maps to defects: threshold, label, measure. Written once for NumPy/SciPy and CuPy.

One label call serves a whole batch, on a host those of its maps that have something in them: a structure
that is filled only in its middle plane connects the eight neighbours inside a map and never two maps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .core import Defect
from .xp import ArrayLibrary, XpArray

MAX_REGIONS = 64
_KEEPS_MAPS_APART = np.zeros((3, 3, 3), dtype=bool)
_KEEPS_MAPS_APART[1] = True
# Columns of the table of regions.
_COLUMNS = 10
_CELLS, _MAP, _TOP, _BOTTOM, _LEFT, _RIGHT, _SUM_Y, _SUM_X, _SUM, _PEAK = range(_COLUMNS)
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
    """The defects of each map: `tabulate`, then `describe`."""
    return describe(tabulate(maps, library), views, maps.shape[1:], max_regions=max_regions)


def no_regions() -> NDArray[np.float64]:
    """The table of maps in which there are none."""
    return np.empty((0, _COLUMNS))


def tabulate(maps: XpArray, library: ArrayLibrary) -> NDArray[np.float64]:
    """The regions of all maps on the host: (regions, 10), columns as named above, in cells, ends inclusive.

    `maps`: (N, h, w) float32 of `library`, calibrated, and at or below 0 where nothing may be found (outside
    the region of interest). A cell above 1.0 belongs to a region. On a device the host waits for three small
    things: how many regions there are (inside `label`), how many cells they have, and the table.
    """
    above = maps > 1.0
    places = library.worth_labelling(above)
    if not places:
        return no_regions()
    if len(places) < len(maps):
        maps, above = maps[places], above[places]
    labels, count = library.ndimage.label(above, structure=_KEEPS_MAPS_APART)
    if not count:
        return no_regions()
    table = library.to_host(_measure(maps, above, labels, int(count), library))
    table[:, _MAP] = np.array(places)[table[:, _MAP].astype(np.intp)]
    return table


def _measure(maps: XpArray, above: XpArray, labels: XpArray, count: int, library: ArrayLibrary) -> XpArray:
    """The table, of `library`."""
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


def describe(
    table: NDArray[np.float64],
    views: Sequence[View],
    cells: tuple[int, int],
    *,
    max_regions: int = MAX_REGIONS,
) -> list[list[Defect]]:
    """The defects of each map of (h, w) `cells`, highest peak first, from the regions of all of them.

    A region smaller than its view's `min_area_px` (frame pixels) is left out; of the rest the `max_regions`
    with the highest peaks are kept, so that a broken picture can't flood what follows.
    """
    found: list[list[Defect]] = [[] for _ in views]
    if not len(table):
        return found
    picture = table[:, _MAP].astype(np.intp)
    scale_x = np.array([v.frame_width_px / cells[1] for v in views])[picture]
    scale_y = np.array([v.frame_height_px / cells[0] for v in views])[picture]
    area_px = table[:, _CELLS] * scale_x * scale_y
    wanted = area_px >= _ROUNDED * np.array([v.min_area_px for v in views])[picture]
    # By map, then highest peak; ties in the order of the picture, so that both libraries agree.
    order = np.lexsort((table[:, _LEFT], table[:, _TOP], -table[:, _PEAK], picture))
    rows = order[wanted[order]]
    defects = _defects(table[rows], scale_x[rows], scale_y[rows], area_px[rows])
    for place, defect in zip(picture[rows].tolist(), defects, strict=True):
        if len(found[place]) < max_regions:
            found[place].append(defect)
    return found


def _defects(
    table: NDArray[np.float64],
    scale_x: NDArray[np.float64],
    scale_y: NDArray[np.float64],
    area_px: NDArray[np.float64],
) -> Iterator[Defect]:
    """One for each row. By columns: a thousand regions a second cost the host less than the device."""
    eps = 1e-9
    cells = table[:, _CELLS]
    # The frame pixels that the cells touch; x1 and y1 exclusive.
    box = [
        np.floor(table[:, _LEFT] * scale_x + eps),
        np.floor(table[:, _TOP] * scale_y + eps),
        np.ceil((table[:, _RIGHT] + 1) * scale_x - eps),
        np.ceil((table[:, _BOTTOM] + 1) * scale_y - eps),
    ]
    columns = (
        *(side.astype(np.intp).tolist() for side in box),
        np.rint(area_px).astype(np.intp).tolist(),
        table[:, _PEAK].tolist(),
        (table[:, _SUM] / cells).tolist(),
        # The middle of a cell is half a cell to the right of and below its number.
        ((table[:, _SUM_X] / cells + 0.5) * scale_x).tolist(),
        ((table[:, _SUM_Y] / cells + 0.5) * scale_y).tolist(),
    )
    for x0, y0, x1, y1, area, peak, mean, x, y in zip(*columns, strict=True):
        yield Defect((x0, y0, x1, y1), area, peak, mean, (x, y))
