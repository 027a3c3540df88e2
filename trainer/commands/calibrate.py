"""`linewatch calibrate MODEL --data DIR`: a firmer alarm level from further good pictures, no training."""

import argparse
import json
import sys
from pathlib import Path

from .places import add_models, models_folder, teacher_file

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
    from engine.artifact import load, save
    from engine.versions import resolve

    from ..evaluate import FALSE_ALARMS_PER_HOUR, FPS, ON_FRAMES
    from ..predict import model_of
    from ..present import REPORT, keep_report, present
    from ..recalibrate import recalibrate
    from ..recipe import choose_device

    models = models_folder(args)
    before = load(resolve(models, args.model))
    predict = model_of(before, choose_device(args.device), teacher_file(args, before.teacher))
    made = recalibrate(before, predict, args.data)
    folder = save(made.model, models, promote=not args.no_promote)
    saved = load(folder)
    for sentence in (
        *made.notes,
        *keep_report(present(saved, predict, warnings=made.notes), folder / REPORT),
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
