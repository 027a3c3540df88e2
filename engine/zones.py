"""Where on a picture defects count: the region of interest less the masks, as one boolean array."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
Polygon = Sequence[Point]


@dataclass(frozen=True, slots=True)
class Areas:
    """Where on a camera's pictures defects count: inside `roi` (None: everywhere), outside all `masks`.

    Points as in `zone`. Two are equal when they say the same, in whatever order their masks stand.
    """

    roi: tuple[Point, ...] | None = None
    masks: tuple[tuple[Point, ...], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "masks", tuple(sorted(self.masks)))

    def __bool__(self) -> bool:
        """False where all of the picture counts."""
        return self.roi is not None or bool(self.masks)

    def zone(self, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """(h, w) bool, True where a cell counts; None where all do."""
        return zone(self.roi, self.masks, shape)

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers, for a manifest or a command line."""
        return {
            "roi": self.roi and [list(p) for p in self.roi],
            "masks": [[list(p) for p in m] for m in self.masks],
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> "Areas":
        """The way back. Raises ValueError."""
        try:
            roi, masks = said.get("roi"), said.get("masks", ())
            return cls(None if roi is None else _polygon(roi), tuple(_polygon(mask) for mask in masks))
        except (AttributeError, TypeError) as error:
            raise ValueError("an area is a list of points, each of two numbers from 0 to 1") from error


EVERYWHERE = Areas()


def _polygon(said: Sequence[Sequence[float]]) -> tuple[Point, ...]:
    points = tuple((float(x), float(y)) for x, y in said)
    if len(points) < 3 or not all(map(math.isfinite, chain.from_iterable(points))):
        raise ValueError("an area is a list of three points or more, each of two numbers from 0 to 1")
    return points


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
