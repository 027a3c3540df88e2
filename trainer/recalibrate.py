"""Further good pictures through a trained model: a firmer alarm level without training.

A few held-out pictures leave much to extrapolation. Pictures that the model was made from, or that its level
rests on already, don't count again, and several takes of one part count once, with their highest score.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from engine.artifact import Artifact

from .calibrate import Predict, maps_of, region_score
from .dataset import good_folder, load_good
from .errors import DataError
from .evaluate import FALSE_ALARMS_PER_HOUR, FPS, ON_FRAMES
from .origin import digest_of, made_from
from .takes import takes

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """The model with its new calibration, still to be saved; what a person should know of the pictures."""

    model: Artifact
    notes: tuple[str, ...]


def recalibrate(model: Artifact, predict: Predict, data: Path) -> Recalibrated:
    """Add what the good pictures of `data` score. Raises DataError if none of them is new."""
    folder, good = good_folder(data), load_good(data, model.input_px, model.tiles)
    known = made_from(model)
    digests = [digest_of(folder / name) for name in good.names]
    # Copies within the folder count once too.
    first = {digest: index for index, digest in reversed(list(enumerate(digests)))}
    new = sorted(index for digest, index in first.items() if digest not in known)
    if not new:
        raise DataError(
            f"The alarm level of {model.name}@{model.version} takes each of the {len(good)} pictures in "
            f"{folder} into account already: capture further ones."
        )
    pixels = [good.pixels[index] for index in new]
    scores = [region_score(raw, model.calibration.min_area_px) for raw in maps_of(predict, pixels)]
    highest: dict[int, float] = {}
    for take, score in zip(takes(pixels), scores, strict=True):
        highest[int(take)] = max(score, highest.get(int(take), score))
    notes = [*good.notes, *_above(model, [good.names[index] for index in new], scores)]
    if len(new) < len(good):
        notes.append(
            f"{len(good) - len(new)} of {len(good)} pictures were taken into account before, or twice."
        )
    used = [digests[index] for index in new]
    added = {"folder": str(folder.resolve()), "parts": len(highest), "sha256": used}
    trained_on = {**model.trained_on}
    trained_on["calibrated_on"] = [*trained_on.get("calibrated_on", ()), added]
    calibration = model.calibration.with_more(list(highest.values()))
    return Recalibrated(replace(model, calibration=calibration, trained_on=trained_on), tuple(notes))


def _above(model: Artifact, names: list[str], scores: list[float]) -> list[str]:
    level = model.calibration.threshold(FALSE_ALARMS_PER_HOUR, FPS, ON_FRAMES)
    above = [name for name, score in zip(names, scores, strict=True) if score > level]
    if not above:
        return []
    shown = ", ".join(above[:_NAMED]) + (" …" if len(above) > _NAMED else "")
    return [
        f"{len(above)} of {len(names)} pictures stand above the alarm level of {model.name}@{model.version}, "
        f"and the new one stands above them: {shown}. If one shows a defect, remove it and calibrate "
        f"{model.name}@{model.version} again."
    ]
