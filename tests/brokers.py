"""Real brokers for system tests, and what a test asks of the stream."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from redis.asyncio import Redis

from stream.broker import EmbeddedBroker
from stream.drafts import Drafts
from stream.events import Event, parse_entry
from stream.keys import Keys
from stream.outbox import Outbox
from stream.publisher import Publisher

KEYS = Keys("linewatch:test:line-1:events")
DRAFTS = Drafts("test", "line-1", None, lambda: 1_700_000_000.0)


@contextlib.asynccontextmanager
async def valkey(folder: Path) -> AsyncIterator[EmbeddedBroker]:
    broker = EmbeddedBroker(folder)
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
    """Every entry of a stream in its order."""
    return [parse_entry(fields) for _, fields in await client.xrange(key)]


async def published(publisher: Publisher, outbox: Outbox) -> None:
    assert await publisher.drained(15.0), publisher.state


def check_complete(read: list[Event], put: list[Event]) -> None:
    """Everything that was put, once, nothing else, and in order for each camera."""
    assert len({e.id for e in read}) == len(read)
    assert {e.id for e in read} == {e.id for e in put}
    for camera in {e.camera for e in put}:
        seqs = [e.seq for e in read if e.camera == camera]
        assert seqs == sorted(seqs)
