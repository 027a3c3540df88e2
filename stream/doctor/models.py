"""Weights and models: is each camera's model here, whole, and made for this program?"""

from collections.abc import Iterator
from pathlib import Path

from config.settings import Settings
from engine import artifact
from engine.errors import EngineError, TeacherError
from engine.model.dmdd import SIZES
from engine.model.teacher import build_teacher
from engine.versions import resolve

from ..device import teacher_weights
from ..reading import no_model_yet
from .findings import Finding, failed, ok, warning


def teachers(settings: Settings) -> Iterator[Finding]:
    """The teachers that this config's cameras would be trained with, or were."""
    sizes = {camera.model.size for camera in settings.cameras.values()} or {settings.defaults.model.size}
    files = teacher_weights(settings.models.teacher_file)
    for name in sorted({SIZES[size].teacher for size in sizes}):
        try:
            found = build_teacher(name, files.get(name))
        except TeacherError as error:
            yield failed("weights", str(error))
        else:
            yield ok("weights", f"{name}, SHA-256 {found.sha256[:12]}…")


def models(settings: Settings) -> Iterator[Finding]:
    """A line for each camera that is switched on."""
    files = teacher_weights(settings.models.teacher_file)
    for name, camera in settings.cameras.items():
        if camera.enabled:
            yield _model(f"model of {name}", settings, name, files)


def _model(subject: str, settings: Settings, camera: str, files: dict[str, Path]) -> Finding:
    try:
        if (untrained := no_model_yet(settings, camera)) is not None:
            return warning(subject, untrained)
        found = artifact.load(resolve(settings.models.dir, settings.cameras[camera].model.ref))
        build_teacher(found.teacher, files.get(found.teacher), found.teacher_sha256)
    except (EngineError, OSError) as error:
        return failed(subject, str(error))
    return ok(subject, f"{found.name}@{found.version}, {found.size}, {found.input_px} px, whole")
