"""A camera without a connection of its own: its pictures come with triggers (stream/parts.py)."""

import threading

from config.sources import PushedSource as PushedSettings

from .base import Deadlines, Sink

_LOOK_S = 0.2


class PushedSource:
    """Says that it is well until it is stopped. See `base.Source`."""

    steady = False
    deadlines = Deadlines()

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """See `base.Source`. Never fails."""
        sink.connected("waits for pictures that come with triggers")
        while not stop.wait(_LOOK_S):
            sink.alive()


def build(camera: str, settings: PushedSettings) -> PushedSource:
    """The entry point `pushed`."""
    return PushedSource()
