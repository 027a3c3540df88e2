"""From any thread to the event loop, in order, without blocking and without growing for ever."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Handover(Generic[T]):
    """`put` from any thread; `take` is called on the loop with everything that came, oldest first.

    At most `size` items wait. Beyond that the oldest is displaced and counted in `displaced`: an event loop
    that stood still for so long is behind, and the newest pictures are what counts.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, take: Callable[[list[T]], None], size: int) -> None:
        self.displaced = 0
        self._loop = loop
        self._take = take
        self._lock = threading.Lock()
        self._waiting: deque[T] = deque(maxlen=size)

    def put(self, item: T) -> None:
        """Never blocks; items put after the loop was closed are forgotten."""
        with self._lock:
            wake = not self._waiting
            self.displaced += len(self._waiting) == self._waiting.maxlen
            self._waiting.append(item)
        if wake:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.flush)

    def flush(self) -> None:
        """Hand over what waits, now. On the loop."""
        with self._lock:
            items = list(self._waiting)
            self._waiting.clear()
        if items:
            self._take(items)
