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

    At most `size` items wait. Beyond that the oldest is displaced, which `on_displaced` is told on the thread
    that put the newer one: an event loop that stood still for so long is behind, and the newest pictures are
    what counts. `died` is the bug that `take` raised: the owner should stop, for nothing is taken any more.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        take: Callable[[list[T]], None],
        size: int,
        on_displaced: Callable[[T], None] = lambda item: None,
    ) -> None:
        self.died: Exception | None = None
        self._on_displaced = on_displaced
        self._loop = loop
        self._take = take
        self._lock = threading.Lock()
        self._waiting: deque[T] = deque(maxlen=size)

    def resize(self, size: int) -> None:
        """So many items may wait from now on; what waits beyond that is displaced, the oldest first."""
        with self._lock:
            displaced = [self._waiting.popleft() for _ in range(len(self._waiting) - size)]
            self._waiting = deque(self._waiting, maxlen=size)
        for older in displaced:
            self._on_displaced(older)

    def put(self, item: T) -> None:
        """Never blocks; items put after the loop was closed are forgotten."""
        displaced: list[T] = []
        with self._lock:
            wake = not self._waiting
            if len(self._waiting) == self._waiting.maxlen:
                displaced.append(self._waiting.popleft())
            self._waiting.append(item)
        for older in displaced:
            self._on_displaced(older)
        if wake:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.flush)

    def flush(self) -> None:
        """Hand over what waits, now. On the loop."""
        with self._lock:
            items = list(self._waiting)
            self._waiting.clear()
        if not items or self.died is not None:
            return
        try:
            self._take(items)
        except Exception as bug:  # a callback of the loop has nobody above it: the owner looks at `died`
            self.died = bug
            raise
