"""Held-out good pictures through a finished network → its Calibration.

`Predict` is the seam between a network and everything that measures it: whole pictures in, at network size or
at that of all tiles together, raw maps of the same size out, in the same order and number.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.calibration import Calibration
from engine.maps import SCORE_CELLS
from engine.zones import Areas

from .errors import DataError, TrainerError

Picture = NDArray[np.uint8]
Map = NDArray[np.float32]
Predict = Callable[[Sequence[Picture]], NDArray[np.float32]]

MIN_AREA_PX = 8
BATCH = 8


@dataclass(frozen=True, slots=True)
class Scores:
    """What one picture scored, in raw map values: `region` decides NG, `image` ranks."""

    region: float
    image: float


def region_score(raw: Map, min_area_px: int = MIN_AREA_PX) -> float:
    """The highest level at which an 8-connected region of at least `min_area_px` pixels exists (ours).

    `raw` (h, w) float32. The picture alarms at a threshold T exactly when its region score is above T. -inf
    if the map has no room for such a region. Exact: the level is one of the map's values, and regions only
    grow as the level falls, so the values are bisected.
    """
    # Fewer than min_area_px pixels lie above the min_area_px-th highest value: no region can.
    levels = np.sort(raw, axis=None)[::-1]
    levels = levels[min_area_px - 1 :]
    low, high = 0, len(levels)
    while low < high:
        middle = (low + high) // 2
        if _has_region(raw >= levels[middle], min_area_px):
            high = middle
        else:
            low = middle + 1
    return float(levels[low]) if low < len(levels) else -np.inf


def image_score(raw: Map) -> float:
    """The mean of the 100 highest pixels (after DeSTSeg), as the runner's: for ranking pictures, not for
    deciding.
    """
    values = raw.ravel()
    k = min(SCORE_CELLS, values.size)
    return float(np.partition(values, values.size - k)[values.size - k :].mean(dtype=np.float64))


def scores_of(raw: Map, min_area_px: int = MIN_AREA_PX) -> Scores:
    """Both scores of one raw map."""
    return Scores(region_score(raw, min_area_px), image_score(raw))


def maps_of(predict: Predict, pictures: Sequence[Picture], batch: int = BATCH) -> Iterator[Map]:
    """The raw map of each picture, in order, computed `batch` at a time.

    Raises TrainerError if the network answers with another number of maps, or with values that aren't finite.
    """
    for start in range(0, len(pictures), batch):
        part = pictures[start : start + batch]
        maps = predict(part)
        if len(maps) != len(part):
            raise TrainerError(f"The network answered {len(part)} pictures with {len(maps)} maps.")
        if not np.isfinite(maps).all():
            raise TrainerError("The network's maps have values that aren't finite numbers: train again.")
        yield from maps


def counted(areas: Areas, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """(h, w) bool, where `areas` count. Raises DataError where they leave nothing to look at."""
    counts = areas.zone(shape)
    if counts is None:
        return np.ones(shape, dtype=np.bool_)
    if not counts.any():
        raise DataError("The area to inspect less its masks leaves nothing: draw it larger.")
    return counts


def within(predict: Predict, areas: Areas) -> Predict:
    """`predict` for a camera of which only `areas` count: whatever else a map shows is as low as its lowest
    value, as in the running engine. What varies under a mask must not decide where the alarm level lies.

    The function it returns raises DataError where the areas leave nothing to look at.
    """
    if not areas:
        return predict

    def look(pictures: Sequence[Picture]) -> NDArray[np.float32]:
        maps = predict(pictures)
        counts = counted(areas, maps.shape[1:])
        return np.where(counts, maps, maps.min(axis=(1, 2), keepdims=True))

    return look


def calibrate(
    predict: Predict,
    held_out: Sequence[Picture],
    *,
    input_px: int,
    min_area_px: int = MIN_AREA_PX,
) -> Calibration:
    """Fit the alarm level's distribution on good pictures that training never saw.

    `held_out`: (h, w, 3) uint8 RGB; `input_px` is the network's. Raises CalibrationError if they can't carry
    it.
    """
    found = [scores_of(raw, min_area_px) for raw in maps_of(predict, held_out)]
    return Calibration.fit(
        [s.region for s in found],
        [s.image for s in found],
        min_area_px=min_area_px,
        input_px=input_px,
    )


def _has_region(above: NDArray[np.bool_], min_area_px: int) -> bool:
    _, _, stats, _ = cv2.connectedComponentsWithStats(above.view(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return bool(areas.size and areas.max() >= min_area_px)
