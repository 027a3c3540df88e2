"""The line's state for every open page: made once a second (and when something changes), sent to all.

Each message is the whole state, never a difference, so a page that missed some is right again with the next.
"""

import asyncio
import contextlib
from collections.abc import Callable

from .viewers import Seats, Viewer


class Feed:
    """`make` gives the message now; it is called only while somebody listens. One event loop."""

    def __init__(self, make: Callable[[], bytes], *, seats: Seats, period_s: float = 1.0) -> None:
        self._make = make
        self._seats = seats
        self._period_s = period_s
        self._viewers: set[Viewer[bytes]] = set()
        self._changed = asyncio.Event()
        self._teller: asyncio.Task[None] | None = None
        self._closed = False

    def listen(self) -> Viewer[bytes]:
        """A seat; the state now comes first. Raises Full."""
        self._seats.take()
        viewer: Viewer[bytes] = Viewer(self._leave)
        self._viewers.add(viewer)
        viewer.put("line", self._make())
        if self._closed:
            viewer.close()
        elif self._teller is None:
            self._teller = asyncio.get_running_loop().create_task(self._tell(), name="feed")
        return viewer

    def changed(self) -> None:
        """Something a person wants to see at once, e.g. a new incident."""
        self._changed.set()

    def close(self) -> None:
        """Ends every stream at once."""
        self._closed = True
        for viewer in self._viewers:
            viewer.close()
        self._stop()

    def _leave(self, viewer: Viewer[bytes]) -> None:
        self._seats.free()
        self._viewers.discard(viewer)
        if not self._viewers:
            self._stop()

    def _stop(self) -> None:
        if self._teller is not None:
            self._teller.cancel()
            self._teller = None

    async def _tell(self) -> None:
        while True:
            # Not wait_for: before Python 3.12 a cancellation may get lost in it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._period_s):
                    await self._changed.wait()
            self._changed.clear()
            message = self._make()
            for viewer in self._viewers:
                viewer.put("line", message)
            # Many changes at once make one message.
            await asyncio.sleep(0.05)
