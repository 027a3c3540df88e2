"""How far a bridge came with each camera, over restarts: what the broker replays is not passed on twice.

A broker that comes back empty gets everything again that the outbox still has, and its groups begin at 0.
An event is old if both its seq and its id (a UUIDv7, so in time order) are at or below those passed on: a
clock set back moves only the ids, an outbox that was deleted only the seqs. Written once a second, whole or
not at all: a process that is killed forgets the last second at most, and then the id tells the peer.
"""

import json
import logging
import os
from pathlib import Path

from ..events import Event

log = logging.getLogger(__name__)

_SAID_EVERY_S = 60.0


class Progress:
    """Event loop only. A file that can't be read counts as none, which is logged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._passed: dict[str, tuple[int, str]] = {}
        self._changed = False
        # When it was last said that the disk refuses; None: it does not.
        self._said_s: float | None = None
        try:
            told = json.loads(path.read_text())
            self._passed = {str(camera): (int(seq), str(event)) for camera, (seq, event) in told.items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.warning(
                "%s can't be read (%s); what the broker replays may be passed on twice",
                *(path, getattr(error, "strerror", None) or error),
            )

    def is_old(self, event: Event) -> bool:
        """Whether it, or a later one of its camera, was passed on."""
        seq, event_id = self._passed.get(event.camera, (-1, ""))
        return event.seq <= seq and event.id <= event_id

    def passed(self, event: Event) -> None:
        """It is out."""
        self._passed[event.camera] = (event.seq, event.id)
        self._changed = True

    def save(self) -> None:
        """Raises OSError when the disk refuses."""
        if self._changed:
            write_json(self._path, self._passed)
            self._changed = False

    def save_or_say(self, now_s: float) -> None:
        """`save`; that the disk refuses is said once a minute, and that it is well again. `now_s` is seconds
        of a clock that nobody sets.
        """
        try:
            self.save()
        except OSError as error:
            if self._said_s is None or now_s - self._said_s >= _SAID_EVERY_S:
                log.warning(
                    "%s can't be written: %s; what is passed on now may come again after a restart",
                    *(self._path, error.strerror or type(error).__name__),
                )
                self._said_s = now_s
            return
        if self._said_s is not None:
            log.info("%s is written again", self._path)
            self._said_s = None


def write_json(path: Path, value: object) -> None:
    """Whole or not at all, as far as a killed process goes. Raises OSError."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(json.dumps(value))
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
