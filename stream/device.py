"""The config file's `engine` section as a runner."""

from collections.abc import Callable
from pathlib import Path

from config.settings import Settings
from engine.errors import DeviceError, EngineError
from engine.library import Library, Refused
from engine.model.teacher import WITHOUT_PACKAGE
from engine.runner import Runner


def warm_runner(
    library: Library, settings: Settings, on_lost: Callable[[EngineError], None]
) -> tuple[Runner, list[Refused]]:
    """A runner that is warm, and the cameras whose models it refused. Slow: call it in a thread.

    A GPU that is there but fails from the start (no model gets onto it, or no frame through) is lost, as it
    may be later: `on_lost` is told, and the CPU takes over unless `on_device_error` is `stop`. Raises
    EngineError.
    """
    entries, most = library.snapshot(), settings.engine.max_batch
    runner = make_runner(library, settings)
    try:
        return runner, _warmed_up(runner, most)
    except DeviceError as lost:
        if settings.engine.on_device_error != "cpu" or runner.device.type == "cpu":
            raise
        on_lost(DeviceError(f"The device failed at the start; the CPU inspects, slower. Error: {lost}"))
    runner = make_runner(library, settings, "cpu")
    refused = list[Refused]()
    for camera in entries.keys() - library.snapshot().keys() - {camera for camera, _ in runner.refused}:
        try:
            library.put(camera, entries[camera].artifact, entries[camera].tuning)
        except EngineError as why:
            refused.append((camera, why))
    return runner, [*refused, *_warmed_up(runner, most)]


def _warmed_up(runner: Runner, most: int) -> list[Refused]:
    refused = [*runner.refused, *runner.warm_up(most)]
    if runner.device.type != "cpu" and not runner.library.snapshot():
        for _, why in refused:
            if isinstance(why, DeviceError):
                raise why
    return refused


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
