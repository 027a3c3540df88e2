"""`linewatch evaluate ARTIFACT --data DIR`: what a model finds and what it costs, on a test folder."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .places import add_models, models_folder, teacher_file

if TYPE_CHECKING:
    from ..report import Report

HELP = "measure a model on test pictures with masks"

_FIRST = (
    *("image_auroc", "pixel_auroc", "ap", "pro", "pro_per_image", "aupimo", "threshold"),
    *("false_alarm_rate", "recall_at_threshold", "good", "defective", "ms_per_frame"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", help="a model's version folder, or NAME, NAME@latest, NAME@7")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder in MVTec layout (test, ground_truth)"
    )
    parser.add_argument(
        "--threshold", type=float, help="try another alarm level, a raw map value; nothing is kept"
    )
    parser.add_argument("--original", action="store_true", help="also at the pictures' own sizes")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="the report (the model's report.html; of a trial none)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (auto)")
    parser.add_argument(
        "--teacher-weights", type=Path, metavar="FILE", help="weights that come in no package"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    add_models(parser)


def main(args: argparse.Namespace) -> int:
    from engine.artifact import load
    from engine.choose import choose_device

    from ..evaluate import evaluate
    from ..memory import enough_memory
    from ..predict import model_of
    from ..present import REPORT, copies, cut_out, keep_evaluation, keep_report, known_stray, present
    from ..testset import load_test

    folder = _folder(args)
    model = load(folder)
    with enough_memory(f"measure {model.name}@{model.version}", "take fewer test pictures, or no --original"):
        pictures = load_test(args.data, model.input_px, model.tiles)
        predict = model_of(model, choose_device(args.device), teacher_file(args, model.teacher))
        found = evaluate(
            predict,
            model.calibration,
            pictures,
            threshold=args.threshold,
            original=args.original,
            tiles=model.tiles,
        )
    of_model = [*copies(model, [p.path for p in pictures]), *cut_out(model)]
    warnings = [*of_model, *found.warnings]
    for sentence in warnings:
        print(sentence, file=sys.stderr)
    trial = args.threshold is not None
    said = [_of_trial(args)] if trial else keep_evaluation(found.results, args.data, folder)

    def make() -> "Report":
        return present(model, predict, found, [*of_model, *known_stray(model, predict, folder)])

    if path := args.report or (None if trial else folder / REPORT):
        said += keep_report(make, path)
    for sentence in said:
        print(sentence, file=sys.stderr)
    _show({"artifact": str(folder), **_ordered(found.results), "warnings": warnings}, args.json)
    return 0


def _folder(args: argparse.Namespace) -> Path:
    """A path where there is one, else a reference into the folder of models."""
    from engine.versions import MANIFEST, resolve

    from ..errors import DataError

    path = Path(args.artifact)
    try:
        if (path / MANIFEST).is_file():
            return path.resolve()
        is_path = "/" in args.artifact or path.exists()
    except OSError as error:
        raise DataError(
            f"{path} can't be read: {error.strerror}; give a model's folder, or NAME@7."
        ) from error
    if is_path:
        raise DataError(f"{path} is no model's folder, as it has no {MANIFEST}; give one, or NAME@7.")
    return resolve(models_folder(args), args.artifact)


def _of_trial(args: argparse.Namespace) -> str:
    kept = f"its report is {args.report}, and nothing else was kept" if args.report else "nothing was kept"
    return f"This is a trial at the alarm level {args.threshold:g}: {kept}."


def _ordered(results: dict[str, Any]) -> dict[str, Any]:
    return {key: results[key] for key in _FIRST} | results


def _show(results: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(results))
        return
    from ..evaluate import flat

    for key, value in flat(results).items():
        if key != "warnings":
            print(f"{key:26} {value:.4f}" if isinstance(value, float) else f"{key:26} {value}")
