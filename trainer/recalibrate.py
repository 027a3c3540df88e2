"""Further good pictures through a trained model: a firmer alarm level without training.

A few held-out pictures leave much to extrapolation. Pictures that the model was made from, or that its level
rests on already, don't count again; several pictures of one part count once, with their highest score; and
filed false alarms don't count at all, as the highest of thousands of pictures are no sample of them. Where
the camera's areas are others than the level was set for, its held-out pictures are looked at anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engine.artifact import Artifact
from engine.calibration import Calibration
from engine.zones import Areas

from .calibrate import Predict, calibrate, maps_of, region_score
from .dataset import GoodPictures, good_folder, load_good, read_picture
from .errors import DataError
from .evaluate import FALSE_ALARMS_PER_HOUR, FPS, ON_FRAMES
from .origin import digest_of, good_of, made_from
from .takes import parts

_NAMED = 5
# More new pictures than this above the old level, and somebody should look before the line follows.
_SUSPICIOUS_SHARE, _SUSPICIOUS = 0.05, 2
_FEWEST_ANEW = 4


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """The model with its new calibration, still to be saved; what a person should know of the pictures.

    `doubtful`: so many of them stand above the old level that they may not be good, or another product.
    """

    model: Artifact
    notes: tuple[str, ...]
    doubtful: bool


def recalibrate(model: Artifact, predict: Predict, data: Path, areas: Areas) -> Recalibrated:
    """Add what the good pictures of `data` score. `predict` sees `areas`, as the running camera does.

    Raises DataError if none of the pictures is new, or none of the old ones can be looked at anew.
    """
    folder, good = good_folder(data), load_good(data, model.input_px, model.tiles)
    anew = areas != model.areas
    if anew:
        trained_on = {**model.trained_on, "areas": areas.to_json(), "calibrated_on": []}
        model = replace(model, trained_on=trained_on, calibration=_looked_at_anew(model, predict))
    known, digests = made_from(model), [digest_of(folder / name) for name in good.names]
    is_new = np.array([digest not in known for digest in digests], dtype=bool)
    new = good.some(is_new & ~good.filed)
    if not len(new) and not anew:
        raise DataError(
            f"The alarm level of {model.name}@{model.version} takes each of the {len(good)} pictures in "
            f"{folder} into account already, or they were filed as false alarms: capture further ones."
        )
    least = model.calibration.min_area_px
    scores = [region_score(raw, least) for raw in maps_of(predict, list(new.pixels))]
    highest = _highest(new, scores)
    above = [] if anew else _above(model, new.names, scores)
    notes = [*good.notes, *_counted(good, new, is_new.sum(), len(highest)), *_named(model, above, len(new))]
    used = [digest for digest, name in zip(digests, good.names, strict=True) if name in set(new.names)]
    added = {"folder": str(folder.resolve()), "parts": len(highest), "sha256": used}
    trained_on = {**model.trained_on}
    trained_on["calibrated_on"] = [*trained_on.get("calibrated_on", ()), added]
    calibration = model.calibration.with_more(highest) if highest else model.calibration
    doubtful = len(above) >= max(_SUSPICIOUS, _SUSPICIOUS_SHARE * len(new))
    return Recalibrated(
        replace(model, calibration=calibration, trained_on=trained_on), tuple(notes), doubtful
    )


def _looked_at_anew(model: Artifact, predict: Predict) -> Calibration:
    """From the held-out pictures alone, as far as they still lie where they lay."""
    folder, known = good_of(model), made_from(model)
    pixels = []
    for name in model.trained_on.get("held_out", ()):
        if digest_of(folder / name) in known:
            pixels.append(model.tiling.fit(read_picture(folder / name)[0]))
    if len(pixels) < _FEWEST_ANEW:
        raise DataError(
            f"The camera's areas are others than the alarm level of {model.name}@{model.version} was set "
            f"for, and {len(pixels)} of its held-out pictures are left in {folder}, too few to look at anew: "
            "train again."
        )
    least = model.calibration.min_area_px
    return calibrate(predict, pixels, input_px=model.input_px, min_area_px=least)


def _highest(good: GoodPictures, scores: Sequence[float]) -> list[float]:
    """One score a part."""
    found: dict[int, float] = {}
    for part, score in zip(parts(good.pixels), scores, strict=True):
        found[int(part)] = max(score, found.get(int(part), score))
    return list(found.values())


def _counted(good: GoodPictures, new: GoodPictures, not_known: int, shown_parts: int) -> list[str]:
    notes = []
    if not_known < len(good):
        notes.append(f"{len(good) - not_known} of {len(good)} pictures were taken into account before.")
    if left_out := not_known - len(new):
        notes.append(
            f"{left_out} pictures are left out that were filed as false alarms: they were picked because "
            "they score high. Training learns from them."
        )
    if shown_parts < len(new):
        notes.append(f"The {len(new)} new pictures show {shown_parts} parts, each of which counts once.")
    return notes


def _above(model: Artifact, names: Sequence[str], scores: Sequence[float]) -> list[str]:
    level = model.calibration.threshold(FALSE_ALARMS_PER_HOUR, FPS, ON_FRAMES)
    return [name for name, score in zip(names, scores, strict=True) if score > level]


def _named(model: Artifact, above: Sequence[str], count: int) -> list[str]:
    if not above:
        return []
    shown = ", ".join(above[:_NAMED]) + (" …" if len(above) > _NAMED else "")
    return [
        f"{len(above)} of {count} pictures stand above the alarm level of {model.name}@{model.version}, and "
        f"the new one stands above them: {shown}. If one shows a defect, remove it and calibrate "
        f"{model.name}@{model.version} again."
    ]
