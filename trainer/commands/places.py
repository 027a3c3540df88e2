"""Where models and teachers lie, for the commands: what was said on the line, else the config's, else a
default.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.settings import CameraSettings
    from engine.zones import Areas

_DEFAULT = Path("var/models")


def add_models(parser: argparse.ArgumentParser) -> None:
    """--models and --config."""
    parser.add_argument(
        "--models", type=Path, metavar="DIR", help="folder of models (the config's, else var/models)"
    )
    parser.add_argument("--config", type=Path, help="the config file (LINEWATCH_CONFIG, else ./cameras.yaml)")


def has_config(args: argparse.Namespace) -> bool:
    """Whether --models or a config file says where models go."""
    from config.load import is_there

    return args.models is not None or args.config is not None or is_there()


def models_folder(args: argparse.Namespace) -> Path:
    """Raises ConfigError for a config file with mistakes; a missing one is fine unless it was named."""
    if args.models is not None:
        return Path(args.models)
    from config.load import is_there, load

    if args.config is None and not is_there():
        return _DEFAULT
    return load(args.config).models.dir


def teacher_file(args: argparse.Namespace, teacher: str) -> Path | None:
    """--teacher-weights, else the config's `models.teacher_file` if `teacher` comes in no package, else None:
    the installed package's. Raises ConfigError.
    """
    if args.teacher_weights is not None:
        return Path(args.teacher_weights)
    from engine.model.teacher import WITHOUT_PACKAGE

    if teacher not in WITHOUT_PACKAGE:
        return None
    from config.load import is_there, load

    if args.config is None and not is_there():
        return None
    return load(args.config).models.teacher_file


def camera_named(args: argparse.Namespace, name: str) -> "CameraSettings | None":
    """What the config says of a camera: how its model is to be trained.

    None where no such camera or no config is. With --models and no --config no file is looked for: the model
    is then nobody's camera. Raises ConfigError.
    """
    from config.load import is_there, load

    if args.config is None and (args.models is not None or not is_there()):
        return None
    return load(args.config).cameras.get(name)


def areas_of(camera: "CameraSettings | None", otherwise: "Areas | None" = None) -> "Areas":
    """Where on the camera's picture defects count; `otherwise` (all of it) where there is no such camera."""
    from engine.zones import Areas

    if camera is None:
        return otherwise or Areas()
    return Areas(camera.roi, tuple(mask.polygon for mask in camera.masks.values()))


def areas_said(text: str) -> "Areas":
    """Of `--areas`: the JSON of Areas. Raises DataError."""
    from engine.zones import Areas

    from ..errors import DataError

    try:
        return Areas.from_json(json.loads(text))
    except ValueError as error:
        raise DataError(f"--areas: expected JSON with roi and masks; {error}.") from error
