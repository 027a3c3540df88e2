"""The config file's `engine` section as a runner."""

from pathlib import Path

from config.settings import Settings
from engine.library import Library
from engine.model.teacher import WITHOUT_PACKAGE
from engine.runner import Runner


def make_runner(library: Library, settings: Settings, device: str | None = None) -> Runner:
    """The device of the config, or another one. Slow: call it in a thread. Raises EngineError."""
    wish = settings.engine
    return Runner(
        library,
        device or wish.device,
        backend=wish.backend,
        precision=wish.precision,
        threads=wish.threads,
        cache_dir=wish.cache_dir,
        teacher_weights=teacher_weights(settings.models.teacher_file),
        max_squares=wish.max_batch,
    )


def teacher_weights(file: Path | None) -> dict[str, Path]:
    """Teacher → its weight file, the config's `models.teacher_file`, for those that come in no package."""
    return {} if file is None else dict.fromkeys(WITHOUT_PACKAGE, file)
