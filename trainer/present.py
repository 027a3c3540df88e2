"""Gather what a model's report shows: its held-out good pictures, its test set if there was one, its
warnings.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine.artifact import Artifact
from engine.shelf import EVALUATION
from engine.tiles import Tiling
from engine.versions import replace_file

from .advice import suspects, suspicion
from .calibrate import BATCH, Picture, Predict, maps_of, region_score
from .dataset import read_picture
from .errors import DataError, TrainerError
from .evaluate import FALSE_ALARMS_PER_HOUR, FPS, ON_FRAMES, Evaluation
from .memory import enough_memory
from .origin import digest_of, good_of, made_from
from .report import Good, Report, write_report

REPORT = "report.html"
_STRAY = "stray.json"
_TRAINING_LOOKED_AT = 400


def present(
    model: Artifact, predict: Predict, tested: Evaluation | None = None, warnings: Sequence[str] = ()
) -> Report:
    """The report of a saved model. Good pictures that have been deleted since are left out."""
    good = _seen(model, predict, model.trained_on.get("held_out", ()))
    told = [*warnings, *model.trained_on.get("notes", ())]
    return Report(f"{model.name}@{model.version}", model.calibration, good, tested, told, _facts(model))


def known_stray(model: Artifact, predict: Predict, folder: Path) -> list[str]:
    """`stray`, for every report of the version in `folder`. It is looked for once: what was found lies in
    stray.json beside the model and is still told when its pictures are gone.
    """
    path = folder / _STRAY
    with suppress(OSError, ValueError, KeyError, TypeError):
        return [str(sentence) for sentence in json.loads(path.read_bytes())["warnings"]]
    found = stray(model, predict)
    with suppress(OSError):  # it only saves time, and can't be known where the pictures can't be seen
        if good_of(model).is_dir():
            replace_file(path, json.dumps({"warnings": found}) + "\n")
    return found


def stray(model: Artifact, predict: Predict) -> list[str]:
    """A warning naming good pictures that stand out, held-out and training ones each among their like.

    Of more than 400 training pictures so many are looked at, evenly spread: it is a hint.
    """
    trained = model.trained_on.get("training", ())
    looked_at = min(len(trained), _TRAINING_LOOKED_AT)
    some = [trained[i * len(trained) // looked_at] for i in range(looked_at)]
    named: list[str] = []
    for names in (some, model.trained_on.get("held_out", ())):
        scored: dict[str, float] = {}
        for start in range(0, len(names), BATCH):  # hundreds of pictures in tiles don't fit into memory
            scored |= {g.name: g.score for g in _seen(model, predict, names[start : start + BATCH])}
        named += suspects(list(scored), list(scored.values()))
    return suspicion(named)


def copies(model: Artifact, tested: Sequence[Path]) -> list[str]:
    """A warning naming test pictures that are, byte for byte, among those the model was made from."""
    known = made_from(model)
    twice = [path.name for path in tested if digest_of(path) in known]
    if not twice:
        return []
    return [f"{len(twice)} test pictures, such as {twice[0]}, were trained on: the numbers are too good."]


def cut_out(model: Artifact) -> list[str]:
    """A sentence on the areas that the alarm level was set for: they are those of all numbers."""
    if not model.areas:
        return []
    return [
        "Only the camera's areas count: a defect outside the area to inspect, or under a mask, is missed."
    ]


def keep_evaluation(results: Mapping[str, Any], data: Path, folder: Path) -> list[str]:
    """evaluation.json beside the model, for `linewatch models`; a sentence where it can't be written."""
    told = {"data": str(data.resolve()), **results}
    try:
        replace_file(folder / EVALUATION, json.dumps(told, indent=1) + "\n")
    except OSError as error:
        return [f"{folder / EVALUATION} could not be written: {error.strerror}."]
    return []


def keep_report(make: Callable[[], Report], path: Path) -> list[str]:
    """Make and write it; a sentence instead of an error where a full disk or too little memory forbids it, as
    the model itself is safe.
    """
    try:
        with enough_memory(f"make the report {path}", "`linewatch evaluate` makes it later"):
            write_report(make(), path)
    except OSError as error:
        return [f"The report {path} could not be written: {error.strerror}."]
    except TrainerError as error:
        return [str(error)]
    return []


def _seen(model: Artifact, predict: Predict, names: Sequence[str]) -> list[Good]:
    pictures = _pictures(good_of(model), names, model.tiling)
    maps = maps_of(predict, [pixels for _, pixels in pictures])
    least = model.calibration.min_area_px
    return [
        Good(name, pixels, raw, region_score(raw, least))
        for (name, pixels), raw in zip(pictures, maps, strict=True)
    ]


def _pictures(folder: Path, names: Sequence[str], tiling: Tiling) -> list[tuple[str, Picture]]:
    found = []
    for name in names:
        try:
            found.append((name, tiling.fit(read_picture(folder / name)[0])))
        except DataError:
            continue
    return found


def _facts(model: Artifact) -> dict[str, object]:
    on = model.trained_on
    return {
        "trained": model.created_at,
        "good pictures": f"{on.get('good_pictures')}; the alarm level rests on {model.calibration.pictures}",
        "size": f"{model.size}, {model.input_px} px in {model.tiles} tiles, teacher {model.teacher}",
        "training": f"{model.config.get('steps')} steps in {on.get('seconds')} s on {on.get('device')}",
        "its own alarm level": model.calibration.threshold(FALSE_ALARMS_PER_HOUR, FPS, ON_FRAMES),
    }
