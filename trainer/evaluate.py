"""A model's accuracy on a test set, and what its alarm level does there. Measures; decides nothing.

The alarm level comes from the model's own calibration alone, so nothing here can move it.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.calibration import Calibration
from engine.tiles import ONE

from .calibrate import Picture, Predict, Scores, maps_of, scores_of
from .errors import DataError
from .metrics import Found, Pixels, aupimo, defects_at, image_auroc, pooled_metrics, pro_per_image, share
from .testset import TestPicture, original_pairs

# Of every alarm level that the trainer tells; a running engine computes its own from its config.
FALSE_ALARMS_PER_HOUR, FPS, ON_FRAMES = 1.0, 10.0, 2
# A share of defective pictures found, and an image AUROC of region scores.
_FEW_FOUND, _RANKS_WELL = 0.5, 0.9
_RANKING = (
    *("image_auroc", "image_auroc_region", "pixel_auroc", "ap", "pro", "pro_per_image"),
    *("aupimo", "aupimo_std"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One test picture with what the model said: its raw map (h, w), its scores, its defects at the alarm
    level.
    """

    picture: TestPicture
    raw: NDArray[np.float32]
    scores: Scores
    defects: tuple[Found, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Everything measured: `results` are the numbers, `measured` the pictures they come from."""

    results: dict[str, Any]
    measured: tuple[Measured, ...]
    threshold: float
    warnings: tuple[str, ...]


def evaluate(
    predict: Predict,
    calibration: Calibration,
    pictures: Sequence[TestPicture],
    *,
    threshold: float | None = None,
    original: bool = False,
    tiles: str = ONE,
) -> Evaluation:
    """Run every test picture once and measure.

    `threshold` in raw map values; None takes the calibration's, for one false alarm an hour at 10 frames a
    second. With `original`, pixel metrics at the pictures' own sizes stand in a column of their own.
    What ranks a model that looks in `tiles` stands under that name, never beside figures of whole pictures.
    Raises DataError for a threshold that isn't above the median of good.
    """
    level = calibration.threshold(FALSE_ALARMS_PER_HOUR, FPS, ON_FRAMES) if threshold is None else threshold
    if not calibration.median < level < math.inf:
        raise DataError(
            f"The threshold {level:g} is not above the median {calibration.median:.4g} of good pictures: "
            "half of them would alarm; choose a higher one."
        )
    maps, seconds = _timed_maps(predict, [p.pixels for p in pictures])
    least = calibration.min_area_px
    measured = tuple(_measure(p, m, level, least) for p, m in zip(pictures, maps, strict=True))
    results = {
        **_pixel_results(measured),
        **_image_results(measured, level),
        **_defect_results(measured),
        "threshold": level,
        "input_px": calibration.input_px,
        "tiles": tiles,
        "ms_per_frame": 1e3 * seconds / len(pictures),
    }
    warnings = (*_warnings(measured), *_missed(results))
    if tiles != ONE:
        results = _apart(results, tiles)
    if original:
        results["original"] = pooled_metrics(Pixels.of(original_pairs(pictures, maps)))
    return Evaluation(results, measured, level, warnings)


def _missed(results: Mapping[str, Any]) -> list[str]:
    """What may help an alarm level that finds less than half; ours. `results` as measured, not yet apart."""
    recall, ranks = results["recall_at_threshold"], results["image_auroc_region"]
    if recall is None or recall >= _FEW_FOUND:
        return []
    alike = ranks is not None and ranks < _RANKS_WELL
    return [
        f"The alarm level finds {round(recall * results['defective'])} of {results['defective']} defective "
        f"pictures{': good ones score nearly as high, and no level parts them well' if alike else ''}. What "
        "may help: more good pictures, of every kind of part and in steadier light; --tiles for small "
        "defects; more false_alarms_per_hour, which the report shows the cost of."
    ]


def _apart(results: dict[str, Any], tiles: str) -> dict[str, Any]:
    """Ranking figures under `tiles_2x3`, null in the columns of whole pictures: more pixels of input are
    another benchmark. What the alarm level does stays, as it is no ranking."""
    ranking = {name: results[name] for name in _RANKING}
    return {**results, **dict.fromkeys(_RANKING), f"tiles_{tiles}": ranking}


def flat(results: Mapping[str, Any]) -> dict[str, Any]:
    """The results for a table: those that stand apart as "tiles_2x3 pro", without the columns they left
    empty."""
    told: dict[str, Any] = {}
    for name, value in results.items():
        if isinstance(value, dict):
            told |= {f"{name} {inner}": number for inner, number in value.items()}
        elif not (value is None and name in _RANKING and results.get("tiles", ONE) != ONE):
            told[name] = value
    return told


def _timed_maps(predict: Predict, squares: Sequence[Picture]) -> tuple[list[NDArray[np.float32]], float]:
    """Maps, and the wall time they took; a first picture goes through untimed, to warm up."""
    predict(squares[:1])
    begin = time.perf_counter()
    maps = list(maps_of(predict, squares))
    return maps, time.perf_counter() - begin


def _measure(picture: TestPicture, raw: NDArray[np.float32], level: float, least: int) -> Measured:
    defects = () if picture.mask is None else tuple(defects_at(raw, picture.mask, level, least))
    return Measured(picture, raw, scores_of(raw, least), defects)


def _pixel_results(measured: Sequence[Measured]) -> dict[str, float | None]:
    """Of every picture whose mask is known, as the official protocol has it.

    AUPIMO alone leaves out defective pictures whose mask vanished at this size: they aren't good ones.
    """
    pairs = [(m.raw, m.picture.mask) for m in measured if m.picture.mask is not None]
    visible = [(m.raw, m.picture.mask) for m in measured if m.picture.mask is not None and _visible(m)]
    per_picture = aupimo(visible)
    return {
        **pooled_metrics(Pixels.of(pairs)),
        "pro_per_image": pro_per_image(pairs),
        "aupimo": float(np.mean(per_picture)) if per_picture else None,
        "aupimo_std": float(np.std(per_picture)) if per_picture else None,
    }


def _visible(one: Measured) -> bool:
    """False for a defective picture whose mask is empty, or became so at this size."""
    return one.picture.good or bool(one.defects)


def _image_results(measured: Sequence[Measured], level: float) -> dict[str, Any]:
    good = [m.scores for m in measured if m.picture.good]
    defective = [m.scores for m in measured if not m.picture.good]
    return {
        "image_auroc": image_auroc([s.image for s in good], [s.image for s in defective]),
        "image_auroc_region": image_auroc([s.region for s in good], [s.region for s in defective]),
        "false_alarm_rate": share(s.region > level for s in good),
        "recall_at_threshold": share(s.region > level for s in defective),
        "good": len(good),
        "defective": len(defective),
    }


def _defect_results(measured: Sequence[Measured]) -> dict[str, Any]:
    """Of single defects, where masks tell them apart; areas in pixels of the map."""
    defects = [d for m in measured for d in m.defects]
    return {
        "defects": len(defects),
        "defects_found": share(d.found for d in defects),
        "smallest_defect_found_px": min((d.area_px for d in defects if d.found), default=None),
        "largest_defect_missed_px": max((d.area_px for d in defects if not d.found), default=None),
    }


def _warnings(measured: Sequence[Measured]) -> list[str]:
    found = []
    good = sum(m.picture.good for m in measured)
    if good == 0:
        found.append("There are no good test pictures: false alarms and image AUROC can't be measured.")
    elif good < 20:
        found.append(
            f"There are only {good} good test pictures: AUPIMO is left out, false alarms are a rough guess."
        )
    if good == len(measured):
        found.append("There are no defective test pictures: nothing can be said of what is found.")
    unmasked = sum(m.picture.mask is None for m in measured)
    if unmasked:
        found.append(f"{unmasked} defective pictures have no masks: they count for image scores only.")
    lost = sum(m.picture.mask is not None and not _visible(m) for m in measured)
    if lost:
        found.append(f"{lost} masks are empty, or too small for the map: no defect can be found there.")
    return found
