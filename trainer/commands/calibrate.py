"""`linewatch calibrate MODEL --data DIR`: a firmer alarm level from further good pictures, no training."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .places import add_models, areas_of, camera_named, models_folder, teacher_file

if TYPE_CHECKING:
    from engine.artifact import Artifact

HELP = "firm up a model's alarm level from further good pictures"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="NAME, NAME@latest or NAME@7")
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder of good pictures; those known already don't count"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (auto)")
    parser.add_argument(
        "--teacher-weights", type=Path, metavar="FILE", help="weights that come in no package"
    )
    parser.add_argument("--no-promote", action="store_true", help="leave `latest` where it is")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    add_models(parser)


def main(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from engine.artifact import load, save
    from engine.choose import choose_device
    from engine.versions import latest, resolve

    from ..evaluate import FALSE_ALARMS_PER_HOUR, FPS, ON_FRAMES
    from ..memory import enough_memory
    from ..predict import model_of
    from ..present import REPORT, keep_report, present
    from ..recalibrate import recalibrate

    models = models_folder(args)
    before = load(resolve(models, args.model))
    areas = areas_of(camera_named(args, before.name), before.areas)
    asked = replace(before, trained_on={**before.trained_on, "areas": areas.to_json()})
    with enough_memory(f"calibrate {before.name}@{before.version}", "take fewer pictures at a time"):
        predict = model_of(asked, choose_device(args.device), teacher_file(args, before.teacher))
        made = recalibrate(before, predict, args.data, areas)
    newest = latest(models, before.name)
    why_not = _why_not(before, newest, made.doubtful)
    folder = save(made.model, models, promote=not args.no_promote and not why_not)
    saved = load(folder)
    for sentence in (
        *made.notes,
        *keep_report(lambda: present(saved, predict, warnings=made.notes), folder / REPORT),
        *([] if args.no_promote or not why_not else [_left(saved, newest, why_not)]),
    ):
        print(sentence, file=sys.stderr)
    wish = FALSE_ALARMS_PER_HOUR, FPS, ON_FRAMES
    told = {
        "artifact": str(folder),
        "version": saved.version,
        "pictures": saved.calibration.pictures,
        "pictures_before": before.calibration.pictures,
        "threshold": saved.calibration.threshold(*wish),
        "threshold_before": before.calibration.threshold(*wish),
        "promoted": latest(models, saved.name) == saved.version,
    }
    if args.json:
        print(json.dumps(told))
    else:
        print(
            f"{told['artifact']}: {saved.calibration.confidence_text(*wish)} Before it were "
            f"{told['pictures_before']}; the level goes from {told['threshold_before']:.3f} to "
            f"{told['threshold']:.3f}."
        )
    return 0


def _why_not(before: "Artifact", newest: int | None, doubtful: bool) -> str:
    """Why the running line should not follow by itself; "" if it should."""
    if doubtful:
        return "so many of the new pictures stand above the old level: look at them first"
    if newest not in (None, before.version):
        return f"it has the weights of version {before.version}"
    return ""


def _left(saved: "Artifact", newest: int | None, why: str) -> str:
    name = saved.name
    instead = "not put in use" if newest is None else f"{name}@{newest} stays in use"
    return (
        f"{name}@{saved.version} was saved and {instead}, because {why}. "
        f"`linewatch promote {name}@{saved.version}` takes the new one."
    )
