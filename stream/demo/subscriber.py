"""The demo's subscriber: an ordinary consumer group that reads all the while the line runs."""

import asyncio
from collections.abc import Mapping
from types import TracebackType

from ..broker import RunFile
from ..consumer import Consumer
from ..events import Event

GROUP = "demo"


class Subscriber:
    """`events` is everything that was read, in order. Use as an async context manager."""

    def __init__(self, told: RunFile) -> None:
        self.events: list[Event] = []
        self._highest: dict[str, int] = {}
        self._client = told.endpoint.client()
        self._consumer = Consumer(self._client, told.stream, GROUP)
        self._news = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Subscriber":
        self._reading = asyncio.create_task(self._read(), name="subscriber")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._client.aclose()

    async def catch_up(self, last_seq: Mapping[str, int], within_s: float) -> bool:
        """Wait until every camera's event up to `last_seq` was read; False if that took too long."""
        try:
            async with asyncio.timeout(within_s):
                while any(self._highest.get(camera, 0) < seq for camera, seq in last_seq.items()):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def _read(self) -> None:
        async for event in self._consumer:
            self.events.append(event)
            self._highest[event.camera] = max(event.seq, self._highest.get(event.camera, 0))
            self._news.set()
