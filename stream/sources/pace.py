"""Waits in which a source says that it is well."""

import threading
import time

from .base import Sink

_LONGEST_S = 0.2


def wait_until(tick: float, sink: Sink, stop: threading.Event) -> bool:
    """Until `tick` (monotonic seconds); False if `stop` was set first."""
    while (left_s := tick - time.monotonic()) > 0:
        if stop.wait(min(left_s, _LONGEST_S)):
            return False
        sink.alive()
    return not stop.is_set()
