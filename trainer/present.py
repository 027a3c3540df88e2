"""Gather what a model's report shows: its held-out good pictures, its test set if there was one, its
warnings.
"""

from collections.abc import Sequence
from pathlib import Path

from engine.artifact import Artifact
from engine.images import to_square

from .advice import suspects, suspicion
from .calibrate import Picture, Predict, maps_of, region_score
from .dataset import good_folder, read_picture
from .errors import DataError
from .evaluate import FALSE_ALARMS_PER_HOUR, FPS, ON_FRAMES, Evaluation
from .report import Good, Report, write_report

REPORT = "report.html"
_TRAINING_LOOKED_AT = 64


def present(
    model: Artifact, predict: Predict, tested: Evaluation | None = None, warnings: Sequence[str] = ()
) -> Report:
    """The report of a saved model. Good pictures that have been deleted since are left out."""
    good = _seen(model, predict, model.trained_on.get("held_out", ()))
    told = [*warnings, *model.trained_on.get("notes", ())]
    return Report(f"{model.name}@{model.version}", model.calibration, good, tested, told, _facts(model))


def stray(model: Artifact, predict: Predict) -> list[str]:
    """A warning naming good pictures that stand out, held-out and training ones each among their like.

    Of many training pictures some are looked at, evenly spread: it is a hint, and takes seconds.
    """
    trained = list(model.trained_on.get("training", ()))
    some = trained[:: max(1, -(-len(trained) // _TRAINING_LOOKED_AT))]
    named: list[str] = []
    for names in (some, model.trained_on.get("held_out", ())):
        seen = _seen(model, predict, names)
        named += suspects([g.name for g in seen], [g.score for g in seen])
    return suspicion(named)


def keep_report(report: Report, path: Path) -> list[str]:
    """Write it; a sentence instead of an error where that can't be, as the model itself is safe."""
    try:
        write_report(report, path)
    except OSError as error:
        return [f"The report {path} could not be written: {error.strerror}."]
    return []


def _seen(model: Artifact, predict: Predict, names: Sequence[str]) -> list[Good]:
    pictures = _pictures(Path(str(model.trained_on.get("folder", ""))), names, model.input_px)
    maps = maps_of(predict, [pixels for _, pixels in pictures])
    least = model.calibration.min_area_px
    return [
        Good(name, pixels, raw, region_score(raw, least))
        for (name, pixels), raw in zip(pictures, maps, strict=True)
    ]


def _pictures(data: Path, names: Sequence[str], input_px: int) -> list[tuple[str, Picture]]:
    found = []
    for name in names:
        try:
            found.append((name, to_square(read_picture(good_folder(data) / name)[0], input_px)))
        except DataError:
            continue
    return found


def _facts(model: Artifact) -> dict[str, object]:
    on = model.trained_on
    return {
        "trained": model.created_at,
        "good pictures": f"{on.get('good_pictures')}, of them {model.calibration.pictures} held out",
        "size": f"{model.size}, {model.input_px} px, teacher {model.teacher}",
        "training": f"{model.config.get('steps')} steps in {on.get('seconds')} s on {on.get('device')}",
        "alarm level": model.calibration.threshold(FALSE_ALARMS_PER_HOUR, FPS, ON_FRAMES),
    }
