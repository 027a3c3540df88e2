"""The config file's `engine` section as a runner."""

from pathlib import Path

from config.settings import Settings
from engine.library import Library
from engine.runner import Runner

# Teachers whose weights come in no package: `models.teacher_file` is theirs.
_WITHOUT_PACKAGE = ("resnet18", "wide_resnet50_2")


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
    """Teacher → its weight file, for those whose weights come in no package."""
    return {} if file is None else dict.fromkeys(_WITHOUT_PACKAGE, file)
