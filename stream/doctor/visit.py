"""The whole visit, in the order in which trouble is best mended."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from config.load import ConfigError, load
from config.settings import Settings

from ..outbox_file import is_held
from ..reading import headline
from . import folders, machine, models, services
from .findings import Finding, failed, ok, warning


async def visit(config: Path | str | None) -> AsyncIterator[Finding]:
    """Every finding as it is made. Without a usable config only the machine is looked at."""
    settings: Settings | None = None
    try:
        settings = load(config)
    except ConfigError as error:
        for line in error.lines:
            yield failed("config", line)
    for finding in (*_config(settings), machine.installation()):
        yield finding
    yield machine.device(settings.engine.device if settings else "auto")
    yield machine.codecs()
    yield machine.clock()
    if settings is not None:
        async for finding in _line(settings):
            yield finding


def _config(settings: Settings | None) -> Iterator[Finding]:
    if settings is None:
        return
    yield ok("config", f"{headline(settings)} (`linewatch check` tries the cameras)")
    for text in settings.warnings:
        yield warning("config", text)


async def _line(settings: Settings) -> AsyncIterator[Finding]:
    running = is_held(settings.events.outbox.path)
    if running:
        yield ok("instance", "a Linewatch runs on this data folder; a second one would not start")
    for finding in folders.folders(settings):
        yield finding
    for finding in services.page(settings.web, running=running):
        yield finding
    yield await services.broker(settings, running=running)
    for finding in services.bridges(settings):
        yield finding
    for finding in (*models.teachers(settings), *models.models(settings)):
        yield finding
