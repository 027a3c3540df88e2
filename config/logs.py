"""What the program says: one line a fact on stderr, for people or as JSON, without secrets, without floods.

Everything goes through one handler of the standard library: structlog's loggers and those of libraries
(av, aiortc, uvicorn; run uvicorn with `log_config=None`). A fact that repeats is said once a second, with its
count. Write `log = structlog.get_logger("linewatch.camera")` and `log.warning("camera is down", camera=name,
reason=…)`: the text is the fact, what changes from time to time goes into keys.
"""

import logging
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, TextIO
from urllib.parse import quote

import structlog
from pydantic import SecretStr

from .redaction import HIDDEN, SECRET_KEY, redacted

# Libraries that tell too much: what they say below this is not for operators.
_QUIET = {
    "aioice": logging.WARNING,
    "aiortc": logging.WARNING,
    "asyncio": logging.WARNING,
    "asyncua": logging.WARNING,
    "libav": logging.ERROR,
    "pymodbus.logging": logging.WARNING,
    "uvicorn.access": logging.WARNING,
    "watchfiles": logging.WARNING,
}
# syslog's, which the journal goes by.
_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
_MAX_FACTS = 1000
_MIN_SECRET_CHARS = 4

Event = MutableMapping[str, Any]


class Redaction:
    """Takes secrets out of an event: by key, by form, and those that are known by their text."""

    def __init__(self, secrets: Iterable[SecretStr] = ()) -> None:
        texts = {secret.get_secret_value() for secret in secrets}
        texts |= {quote(text, safe="") for text in texts}
        # The longest first, so that one that begins like another leaves no rest.
        self._texts = sorted((t for t in texts if len(t) >= _MIN_SECRET_CHARS), key=len, reverse=True)

    def __call__(self, logger: Any, method: str, event: Event) -> Event:
        """As a structlog processor."""
        for key, value in event.items():
            event[key] = self._value(key, value)
        return event

    def text(self, text: str) -> str:
        """`text` without secrets."""
        for secret in self._texts:
            text = text.replace(secret, HIDDEN)
        return redacted(text)

    def _value(self, key: str, value: Any) -> Any:
        if isinstance(key, str) and SECRET_KEY.search(key) and value is not None:
            return HIDDEN
        if isinstance(value, dict):
            return {inner: self._value(inner, item) for inner, item in value.items()}
        if isinstance(value, list | tuple | set):
            return [self._value("", item) for item in value]
        return value if isinstance(value, bool | int | float | None) else self.text(str(value))


@dataclass(slots=True)
class _Told:
    at_s: float
    unsaid: int
    last: logging.LogRecord


class OncePerSecond(logging.Handler):
    """Hands records on; one that repeats a fact within a second is kept back and counted.

    A fact is a logger, a level, a text and the camera, or the words that were put into the text; the line
    that follows says how often in `repeated`. What is kept back when the program falls silent is said with
    the next record of any kind, or at `flush`.
    """

    def __init__(self, target: logging.Handler, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._target, self._clock = target, clock
        self._facts: OrderedDict[tuple[Any, ...], _Told] = OrderedDict()

    def emit(self, record: logging.LogRecord) -> None:
        """Under the handler's lock, on the caller's thread."""
        now_s, fact = self._clock(), _fact(record)
        self._say_overdue(now_s)
        if (told := self._facts.get(fact)) is not None and now_s - told.at_s < 1.0:
            told.unsaid, told.last = told.unsaid + 1, record
            return
        self._facts.pop(fact, None)
        self._facts[fact] = _Told(now_s, 0, record)
        if len(self._facts) > _MAX_FACTS:
            self._say(self._facts.popitem(last=False)[1])
        self._target.handle(record)

    def flush(self) -> None:
        """Say what was kept back."""
        self.acquire()
        try:
            for told in self._facts.values():
                self._say(told)
            self._facts.clear()
        finally:
            self.release()
        self._target.flush()

    def _say_overdue(self, now_s: float) -> None:
        """The oldest stand first: as far as they are older than a second they are said and forgotten."""
        while self._facts:
            fact, told = next(iter(self._facts.items()))
            if now_s - told.at_s < 1.0:
                return
            del self._facts[fact]
            if told.unsaid:
                self._say(told)
                self._facts[fact] = _Told(now_s, 0, told.last)

    def _say(self, told: _Told) -> None:
        if told.unsaid:
            told.last.repeated = told.unsaid
            self._target.handle(told.last)


class _JournalHandler(logging.StreamHandler[TextIO]):
    """Tells systemd's journal how urgent a line is, by the prefix that it takes off (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return prefix + super().format(record).replace("\n", f"\n{prefix}")


def _is_journal(out: TextIO) -> bool:
    try:
        found = os.fstat(out.fileno())
    except (OSError, ValueError):  # no file at all
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _fact(record: logging.LogRecord) -> tuple[Any, ...]:
    said = record.msg
    if isinstance(said, dict):
        return record.name, record.levelno, str(said.get("event")), str(said.get("camera"))
    # "camera %s is %s" is another fact for each camera and state; numbers may differ from time to time.
    words = record.args if isinstance(record.args, tuple) else ()
    return record.name, record.levelno, str(said), *(word for word in words if isinstance(word, str))


def _count(logger: Any, method: str, event: Event) -> Event:
    """The count of a repeated fact, where there is one."""
    record = event.get("_record")
    if record is not None and (repeated := getattr(record, "repeated", 0)):
        event["repeated"] = repeated
    return event


def _without_error(logger: Any, method: str, event: Event) -> Event:
    """uvicorn says everything as `uvicorn.error`, that all is well too."""
    event["logger"] = str(event["logger"]).removesuffix(".error")
    return event


def _formatter(as_json: bool, redaction: Redaction, colors: bool) -> logging.Formatter:
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _without_error,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer(sort_keys=False)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="at", pad_event_to=0)
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            _count,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redaction,
            renderer,
        ],
    )


def configure(
    level: str = "info",
    as_json: bool = False,
    *,
    secrets: Iterable[SecretStr] = (),
    stream: TextIO | None = None,
) -> None:
    """Set up every logger of the process, anew with each call. `secrets` never appear, whoever says them.

    `stream` is stderr where None. Call it once at start, and again when the settings change.
    """
    out = stream or sys.stderr
    target = (_JournalHandler if _is_journal(out) else logging.StreamHandler)(out)
    target.setFormatter(_formatter(as_json, Redaction(secrets), colors=out.isatty()))
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old, OncePerSecond):
            old.flush()
            root.removeHandler(old)
    root.addHandler(OncePerSecond(target))
    root.setLevel(level.upper())
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(least, logging.getLevelName(level.upper())))
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.UnicodeDecoder(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
