"""One viewer's places: for each thing that is watched, room for one item, and the newest wins.

A viewer that reads slowly finds the newest item when it comes back, and nobody else notices. A place keeps
its turn when its item is replaced, so that a busy camera doesn't starve a quiet one.
"""

import asyncio
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Generic, TypeVar

from .errors import Full

T = TypeVar("T")


class Viewer(Generic[T]):
    """Filled and read on one event loop. Use as a context manager: leaving gives the place back."""

    def __init__(self, leave: Callable[["Viewer[T]"], None]) -> None:
        self.dropped = 0
        self._leave = leave
        self._places: dict[Hashable, T] = {}
        self._something = asyncio.Event()
        self._closed = False

    def put(self, place: Hashable, item: T) -> None:
        """Never waits; what nobody has read is replaced and counted."""
        self.dropped += place in self._places
        self._places[place] = item
        self._something.set()

    async def next(self) -> T | None:
        """The newest item of the place that waited longest; None once closed.

        May be cancelled without loss.
        """
        while not self._has() and not self._closed:
            self._something.clear()
            await self._something.wait()
        return None if self._closed else self._take()

    def close(self) -> None:
        """Ends every wait at once."""
        self._closed = True
        self._something.set()

    def _has(self) -> bool:
        return bool(self._places)

    def _take(self) -> T:
        return self._places.pop(next(iter(self._places)))

    def __enter__(self) -> "Viewer[T]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(self)


class Seats:
    """How many viewers there may be at once, all kinds together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0

    def take(self) -> None:
        """Raises Full when every seat is taken."""
        if self.taken >= self.limit:
            raise Full(f"Too many pages are open: {self.limit} streams, which is the limit. Close one.")
        self.taken += 1

    def free(self) -> None:
        """Give one seat back."""
        self.taken -= 1
