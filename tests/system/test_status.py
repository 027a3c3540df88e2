"""A PLC that polls never reads that we are ready when we are not."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from redis.asyncio import Redis

from stream.broker import EmbeddedBroker, Endpoint, RunFile
from stream.endings import end
from stream.keys import Keys
from stream.outbox_file import lock
from stream.standing import ask_at
from stream.status import StatusBoard
from tests.brokers import KEYS, valkey

READY = {"top": {"ready": 1, "busy": 1, "ok_count": 7}}


@pytest_asyncio.fixture
async def broker(tmp_path: Path) -> AsyncIterator[EmbeddedBroker]:
    async with valkey(tmp_path) as running:
        yield running


def make(endpoint: Endpoint, every_s: float = 60.0, heartbeat_every_s: float = 60.0) -> StatusBoard:
    return StatusBoard(
        endpoint.client, KEYS, lambda: READY, every_s=every_s, heartbeat_every_s=heartbeat_every_s
    )


async def there(client: Redis, key: str) -> None:
    while not await client.exists(key):  # noqa: ASYNC110 - a key of a real server has no event to wait for
        await asyncio.sleep(0.005)


async def test_the_heartbeat_has_a_turn_of_its_own(broker: EmbeddedBroker) -> None:
    """A status that is written every minute must not let the heartbeat live for three."""
    running = asyncio.create_task(make(broker.endpoint, heartbeat_every_s=0.1).run())
    async with broker.endpoint.client() as client:
        await there(client, KEYS.status("top"))
        await there(client, KEYS.heartbeat)
        assert 0 < await client.pttl(KEYS.heartbeat) <= 300
        await client.delete(KEYS.heartbeat)
        await there(client, KEYS.heartbeat)  # renewed
    await end([running])


async def test_a_camera_that_was_removed_has_no_status(broker: EmbeddedBroker) -> None:
    cameras = dict(READY)
    board = StatusBoard(broker.endpoint.client, KEYS, lambda: cameras)
    async with broker.endpoint.client() as client:
        await board.write(client)
        cameras["side"] = cameras.pop("top")
        await board.write(client)
        assert await client.exists(KEYS.status("side"))
        assert not await client.exists(KEYS.status("top"))


async def test_a_camera_that_was_removed_from_a_dead_line_has_no_status(broker: EmbeddedBroker) -> None:
    """After `kill -9` it stood as ready for ever. The lines beside ours keep theirs."""
    beside = Keys("linewatch:test:line-1:side:events")
    async with broker.endpoint.client() as client:
        for said_at_start in (True, False):
            for keys in (KEYS, beside):
                await StatusBoard(broker.endpoint.client, keys, lambda: {"old": {"ready": 1}}).write(client)
            assert await client.hget(KEYS.status("old"), "ready") == b"1"
            after = StatusBoard(broker.endpoint.client, KEYS, lambda: READY)
            if said_at_start:
                assert await after.cleared()
            else:  # the broker was away then
                await after.write(client)
            assert not await client.exists(KEYS.status("old"))
            assert await client.exists(KEYS.status("top"))
            assert await client.hget(beside.status("old"), "ready") == b"1"


async def test_nonsense_where_the_cameras_stand_ends_no_status(broker: EmbeddedBroker) -> None:
    async with broker.endpoint.client() as client:
        for nonsense in (b"\xff", b"{", b"7", b'[7, {}, "old"]', b"[" * 100_000):
            await client.set(KEYS.cameras, nonsense)
            await make(broker.endpoint).write(client)
            assert await client.hget(KEYS.status("top"), "ready") == b"1"
            assert await client.get(KEYS.cameras) == b'["top"]'
        await client.delete(KEYS.cameras)
        await client.hset(KEYS.cameras, "a", "b")
        assert await make(broker.endpoint).cleared()
        assert await client.get(KEYS.cameras) == b'["top"]'


async def test_nobody_is_ready_once_it_is_cleared(broker: EmbeddedBroker) -> None:
    board = make(broker.endpoint)
    async with broker.endpoint.client() as client:
        await board.write(client)
        await board.beat(client)
        assert await client.hget(KEYS.status("top"), "ready") == b"1"
        assert await board.cleared()
        assert await client.hgetall(KEYS.status("top")) == {b"ready": b"0", b"busy": b"0", b"ok_count": b"7"}
        assert not await client.exists(KEYS.heartbeat)


async def test_a_broker_that_is_away_or_hangs_does_not_hold_up_the_end(broker: EmbeddedBroker) -> None:
    assert not await make(Endpoint("redis://127.0.0.1:1/0")).cleared()
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert not await make(broker.endpoint).cleared(within_s=0.3)
        assert time.monotonic() - began < 2.0
    finally:
        os.kill(broker.pid, signal.SIGCONT)


async def test_a_line_without_a_heartbeat_may_be_about_to_start(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    """Also when the run file of one that was killed is still there."""
    at = RunFile(broker.endpoint, KEYS.events, 1, str(tmp_path / "outbox.db"))
    assert (await ask_at(at)).text == "does not run, or can't decide or tell: there is no heartbeat"
    with lock(tmp_path / "outbox.db"):
        assert (await ask_at(at)).text == "starts, or can't decide or tell: there is no heartbeat"
