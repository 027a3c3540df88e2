"""The line of a config file, found from outside while it runs or starts, also when the file has mistakes.

What is edited badly changes nothing for a line that runs, so it keeps nobody from asking that line.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from config import document, environment
from config.fields import ReadContext
from config.load import ConfigError, find
from config.settings import Settings

from .broker import BrokerError, NotRunning, RunFile, endpoint_of, run_file_of
from .outbox_file import is_held

# What can be told of a line without its cameras.
_OF_THE_LINE = ("version", "site", "line", "events", "web")


class Starting(BrokerError):
    """A Linewatch starts here, and has told nobody yet where its broker is."""


@dataclass(frozen=True, slots=True)
class Remains:
    """What a file with mistakes still says: its line without cameras, and what may be the cameras' names.

    `is_whole`: all that is said of the line could be read; else it stands for what is no longer known.
    """

    settings: Settings
    cameras: tuple[str, ...]
    is_whole: bool


def where(settings: Settings) -> RunFile:
    """Which broker, stream and outbox: by the run file of our own broker, or what the config says of another.

    Raises Starting, NotRunning, or BrokerError for a run file that can't be read.
    """
    events = settings.events
    if events.url != "embedded":
        key = events.stream_key(settings.site, settings.line)
        return RunFile(endpoint_of(events), key, 0, str(events.outbox.path))
    try:
        return RunFile.read(run_file_of(events))
    except NotRunning:
        if not is_held(events.outbox.path):
            raise
    raise Starting("a Linewatch starts here: models are being loaded and warmed up; ask again soon")


def where_despite(error: ConfigError, remains: Remains) -> RunFile:
    """As `where`, of the line that was started before its file had the mistakes of `error`.

    Raises what `where` does, but in place of NotRunning what `error` says and how to go on.
    """
    try:
        return where(remains.settings)
    except NotRunning:
        hint = "a line that was started before is found with --run-file FILE (run.json of its broker)"
        raise ConfigError([*error.lines, hint]) from None


def remains_of(path: Path | str | None) -> Remains:
    """What can still be read of the file that `config.load.find` names. Never raises."""
    file, text = find(path), ""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = file.read_text(encoding="utf-8-sig")
    read = document.read(text, str(file))
    said = environment.merged(read.data, environment.read(os.environ).data)
    context = ReadContext(file.absolute().parent, os.environ)
    cameras = said.get("cameras")
    names = tuple(map(str, cameras)) if isinstance(cameras, dict) else ()
    if read.root is not None:
        with contextlib.suppress(ValidationError):
            of_the_line: dict[str, Any] = {key: said[key] for key in _OF_THE_LINE if key in said}
            return Remains(Settings.model_validate(of_the_line, context=context), names, is_whole=True)
    return Remains(Settings.model_validate({"version": 1}, context=context), names, is_whole=False)
